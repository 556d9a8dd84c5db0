// Loss, validation loss, gradient norm, learning rate and speed against steps or tokens.

const training = {axis: "step", smoothing: 0.8, log: false, reference: null, group: plotGroup()};

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

/** [x, y] or [x, mean, least, greatest] of one of a run's metrics. */
function metricPoints(run, name) {
  const {metrics} = run, values = name === "validation" ? metrics.validation : metrics.series[name];
  const xs = (name === "validation" ? metrics.validation : metrics)[training.axis];
  return (values?.mean ?? []).map((y, i) => values.min ? [xs[i], y, values.min[i], values.max[i]] : [xs[i], y]).filter(p => p[0] !== null);
}
/** Losses less the reference run's at the same place: runs that see the same data differ by far less than their noise. */
function lossPoints(run, name) {
  const points = metricPoints(run, name);
  if (training.reference === null) return points;
  const reference = metricPoints(RUNS[training.reference], name), apart = points.length > 1 ? (last(points)[0] - points[0][0]) / (points.length - 1) : 0;
  if (!reference.length) return [];
  return points.map(([x, y]) => {
    const [rx, ry] = reference[nearest(reference, x)];
    return [x, y === null || ry === null || Math.abs(rx - x) > apart / 2 ? null : y - ry];
  });
}

const look = run => ({name: run.label, color: run.color, dash: run.dash});
function metricSeries(run, points) {
  if (!training.smoothing) return {...look(run), points};
  return {...look(run), points: smoothed(points, training.smoothing), raw: points[0]?.length > 2 ? null : points};
}
function validationSeries(run) {
  const points = lossPoints(run, "validation");
  return {...look(run), marker: run.marker, dots: points.length <= 60, points};
}

const perplexity = loss => training.reference !== null ? figures(loss) : loss === null ? "–" : `${figures(loss)} (perplexity ${figures(Math.exp(loss))})`;

function trainingPlots() {
  const metric = name => () => shownRuns().map(run => metricSeries(run, metricPoints(run, name)));
  const absolute = () => training.log && training.reference === null;  // differences have no logarithm
  const plots = [
    {title: "Loss", yLabel: "nats per token", log: absolute, series: () => shownRuns().map(run => metricSeries(run, lossPoints(run, "loss")))},
    {title: "Validation loss", yLabel: "nats per token", log: absolute, yFormat: perplexity, empty: "no validation yet",
      series: () => shownRuns().map(validationSeries)},
    {title: "Gradient norm", yLabel: "L2, before clipping", series: metric("grad_norm")},
    {title: "Learning rate", yLabel: "of the update", series: () => shownRuns().map(run => ({...look(run), points: metricPoints(run, "lr").map(p => p.slice(0, 2))})), yTick: x => figures(x, 2)},
    {title: "Speed", yLabel: "tokens per second", series: metric("tokens_per_second"), yFormat: whole, zero: true},
  ];
  if (RUNS.some(run => run.metrics.series.loss_scale))
    plots.push({title: "Loss scale (fp16)", yLabel: "factor", series: metric("loss_scale"), yFormat: whole});
  return plots.map(plot => lineChart({group: training.group, zoomable: true, log: () => training.log, ...plot,
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
    RUNS.length < 2 ? null : el("label", {}, "losses", el("select", {onchange: event => {
      training.reference = event.target.value === "" ? null : Number(event.target.value);
      draw();
    }}, el("option", {value: ""}, "as they are"), RUNS.map(run => el("option", {value: run.index}, `minus ${run.label}'s`)))),
    checkbox("log scale", training.log, on => { training.log = on; draw(); }), reset,
    el("span", {class: "soft"}, "drag to zoom, double-click for the whole"));
}

function showTraining() {
  const host = section("training");
  const idle = RUNS.filter(run => run.metrics.lines === 0);
  for (const run of idle.filter(run => !run.is_model)) host.append(missing(`${run.label} has no step in metrics.jsonl yet; they appear when the report is made again`));
  host.hidden = RUNS.every(run => run.is_model);
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
    if (run.metrics.skipped) host.append(el("p", {class: "soft"}, `${run.label}: ${whole(run.metrics.skipped)} steps were skipped: fp16 gradients that overflowed, or spikes.`));
  }
  onRedraw(draw);
}
