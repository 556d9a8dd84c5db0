// What the softmax is given, layer by layer, and what the last query of a long sequence makes of it.

const sinksCommand = run => `ballast eval sinks ${quoted(run.folder)} --text HELDOUT.txt --json ${quoted(run.folder + "/eval/sinks.json")} --maps ${quoted(run.folder + "/eval/maps.safetensors")}`;
const meanOf = list => list.reduce((sum, x) => sum + x, 0) / list.length;

/** Appends a line chart with a point for each layer to `host`; so it is drawn in the width it has there. `of(run)` gives a run's series without its colours. */
function layerChart(host, {title, runs, of, ...options}) {
  const layers = Math.max(...runs.map(run => last(of(run)[0].points)[0] + 1));
  const chart = lineChart({title, series: () => shownRuns().filter(run => runs.includes(run)).flatMap(run => of(run).map(s => ({color: run.color, dash: run.dash, marker: run.marker, dots: true, ...s}))),
    xLabel: () => "layer", xTicks: () => ticks(0, Math.max(layers - 1, 1), false, Math.min(layers, 12)).filter(Number.isInteger), xFormat: String, xRead: x => String(Math.round(x)), inset: 14, height: 260, ...options});
  host.append(chart);
  onRedraw(() => chart.chart.draw());
  return chart;
}

function showLogits(host) {
  const measured = RUNS.filter(run => run.sinks?.layers[0]?.logits);
  if (!measured.length) return;
  layerChart(host, {title: "Mean logit before the softmax, by layer", runs: measured, yLabel: "logit, mean over heads", wide: true,
    of: run => [["first", "position 1", ""], ["rest", "the others", "4 3"]].map(([key, name, dash]) => ({name: `${run.label}, ${name}`, dash,
      points: run.sinks.layers.map((layer, l) => [l, meanOf(layer.logits[key])])}))});
  host.append(el("p", {class: "soft"}, "Means over the queries from the second on and the keys they see. A sink stands out before the softmax already: the line of position 1 lies far above the dashed line of the other positions."));
}

function showLastQueries(host) {
  const measured = RUNS.filter(run => run.lastQueries.length);
  if (!measured.length) return;
  layerChart(host, {title: "Attention of the last query on position 1, by layer", runs: measured, yLabel: "share of attention", yTick: x => `${Number((100 * x).toFixed(1))} %`, yFormat: percent, zero: true, wide: true,
    of: run => run.lastQueries.map(result => ({name: `${run.label}, query ${whole(result.length)}`, errors: true,
      points: result.layers.map(({mean, std}, l) => [l, mean, Math.max(0, mean - std), mean + std])}))});
  host.append(el("p", {class: "soft"}, `Mean over heads and ${measured.map(run => whole(run.lastQueries[0].sequences)).join(", ")} sequences; bars are one standard deviation over the layer's heads.`));
}
