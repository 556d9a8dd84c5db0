// Loss, validation loss, gradient norm, learning rate and speed against steps or tokens.

const training = {axis: "step", smoothing: 0.8, log: false, group: plotGroup()};

/** TensorBoard's smoothing: an exponential mean, corrected for its start. Gaps stay gaps. */
function smoothed(points, weight) {
  let mean = 0, norm = 0;
  return points.map(([x, y, ...range]) => {
    if (y === null) return [x, null];
    mean = mean * weight + (1 - weight) * y;
    norm = norm * weight + (1 - weight);
    return [x, mean / norm, range[0] ?? null, range[1] ?? null, y];  // the value itself comes last, to be read
  });
}

function metricSeries(run, name) {
  const {metrics} = run, values = metrics.series[name], xs = metrics[training.axis];
  if (!values) return null;
  const points = values.mean.map((y, i) => values.min ? [xs[i], y, values.min[i], values.max[i]] : [xs[i], y]).filter(p => p[0] !== null);
  const series = {name: run.label, color: run.color, dash: run.dash, points};
  if (training.smoothing > 0) {
    series.points = smoothed(points, training.smoothing);
    if (!values.min) series.raw = points;
  }
  return series;
}
function validationSeries(run) {
  const {validation} = run.metrics, xs = validation[training.axis];
  return {name: run.label, color: run.color, dash: run.dash, marker: run.marker, dots: validation.mean.length <= 60,
    points: validation.mean.map((y, i) => [xs[i], y]).filter(p => p[0] !== null)};
}

const perplexity = loss => loss === null ? "–" : `${figures(loss)} (perplexity ${figures(Math.exp(loss))})`;

function trainingPlots() {
  const metric = name => () => shownRuns().map(run => metricSeries(run, name)).filter(Boolean);
  const plots = [
    {title: "Loss", yLabel: "nats per token", series: metric("loss")},
    {title: "Validation loss", yLabel: "nats per token", yFormat: perplexity, empty: "no validation yet",
      series: () => shownRuns().map(validationSeries)},
    {title: "Gradient norm", yLabel: "L2, before clipping", series: metric("grad_norm")},
    {title: "Learning rate", yLabel: "of the update", series: metric("lr"), yTick: x => figures(x, 2)},
    {title: "Speed", yLabel: "tokens per second", series: metric("tokens_per_second"), yFormat: whole, zero: true},
  ];
  if (RUNS.some(run => run.metrics.series.loss_scale))
    plots.push({title: "Loss scale (fp16)", yLabel: "factor", series: metric("loss_scale"), yFormat: whole});
  return plots.map(plot => lineChart({...plot, group: training.group, zoomable: true, log: () => training.log,
    xLabel: () => training.axis === "step" ? "steps" : "tokens", xName: () => training.axis === "step" ? "step" : "tokens"}));
}

function trainingControls(draw) {
  const reset = el("button", {type: "button", hidden: "", onclick: () => training.group.zoom(null)}, "Whole range");
  training.group.onzoom = () => { reset.hidden = training.group.range === null; };
  const value = el("output", {}, String(training.smoothing));
  const slider = el("input", {type: "range", min: 0, max: 0.99, step: 0.01, value: training.smoothing, "aria-label": "smoothing", oninput: event => {
    training.smoothing = Number(event.target.value);
    value.textContent = training.smoothing.toFixed(2);
    draw();
  }});
  return el("div", {class: "controls"},
    choice("against", [["step", "steps"], ["tokens", "tokens"]], training.axis, axis => { training.axis = axis; training.group.zoom(null); }),
    el("label", {}, "smoothing", slider, value),
    checkbox("log scale", training.log, on => { training.log = on; draw(); }), reset,
    el("span", {class: "soft"}, "drag to zoom, double-click for the whole"));
}

function showTraining() {
  const host = section("training");
  const idle = RUNS.filter(run => run.metrics.lines === 0);
  for (const run of idle) host.append(missing(`${run.label} has no step in metrics.jsonl yet; they appear when the report is made again`));
  if (idle.length === RUNS.length) return;
  const draw = () => { for (const chart of training.group.charts) chart.draw(); };
  host.append(trainingControls(draw));
  host.append(el("div", {class: "plots"}, trainingPlots()));
  const long = RUNS.filter(run => run.metrics.lines > run.metrics.step.length);
  if (long.length)
    host.append(el("p", {class: "soft"}, `Runs of more than ${whole(DATA.most_points)} steps (${long.map(run => `${run.label}: ${whole(run.metrics.lines)}`).join(", ")}) are drawn as ${whole(DATA.most_points)} points, ` +
      "each the mean of its steps; the pale band goes from their least to their greatest value, so no spike is lost."));
  for (const run of RUNS) {
    if (run.metrics.ignored) host.append(el("p", {class: "soft"}, `${run.label}: ${whole(run.metrics.ignored)} lines of metrics.jsonl could not be read and were left out.`));
    if (run.metrics.skipped) host.append(el("p", {class: "soft"}, `${run.label}: ${whole(run.metrics.skipped)} steps were skipped, their fp16 gradients overflowed.`));
  }
  onRedraw(draw);
}
