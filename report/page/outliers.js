// Activations that stick out, and what rounding them to 8 bits costs.

const outlierView = {tensor: "residual"};
const LAYER_TENSORS = [["residual", "residual stream"], ["qkv", "input of q, k, v"], ["out", "heads' output"], ["up", "input of the MLP"], ["down", "inside the MLP"]];
const outliersCommand = run => `ballast eval outliers ${quoted(run.folder)} --text HELDOUT.txt --json ${quoted(run.folder + "/eval/outliers.json")}`;

function roundingTable(runs) {
  const perplexity = x => Number.isFinite(x) ? x < 1e4 ? x.toFixed(2) : x.toExponential(2) : "not finite";
  return table(["rounding activations", "perplexity", "rounded", "factor", "bits", "tokens"], runs.map(run => {
    const {perplexity: plain, rounded_perplexity: rounded, bits, tokens} = run.outliers;
    return el("tr", {}, el("td", {}, runName(run)), el("td", {}, perplexity(plain)), el("td", {}, perplexity(rounded)), el("td", {}, figures(rounded / plain, 4)), el("td", {}, String(bits)), el("td", {}, whole(tokens)));
  }), {id: "rounding-table"});
}

function showOutliers() {
  const host = section("outliers"), measured = RUNS.filter(run => run.outliers), without = DECODERS.filter(run => !run.outliers);
  if (!DECODERS.length) { host.append(missing("Measured for models that predict the next token only")); return; }
  if (!measured.length) { host.append(missing("Not measured. This does", outliersCommand(DECODERS[0]))); return; }
  if (without.length) host.append(missing(`Not measured: ${without.map(run => run.label).join(", ")}. This does`, outliersCommand(without[0])));
  const tableHost = el("div"), tensor = figure => run => [{name: run.label, points: run.outliers.layers.map((layer, l) => [l, layer[outlierView.tensor][figure]])}];
  const plots = el("div", {class: "plots"}), charts = [];
  host.append(tableHost,
    el("p", {}, "How to read it: a head that has nothing to add puts its attention where the values are small. A softmax can do that only with logits far apart, and the layers before make them with activations that dwarf all others. " +
      "Rounded with one scale for the tensor, the others then vanish, and the perplexity rises. SoftMax-off-by-one was proposed to cure this."),
    el("div", {class: "controls"}, choice("tensor", LAYER_TENSORS, outlierView.tensor, name => { outlierView.tensor = name; for (const chart of charts) chart.chart.draw(); })),
    plots,
    el("p", {class: "soft"}, "Kurtosis: mean of (x − mean)⁴ / variance² over all elements; 3 for a normal distribution. Rounding: the input of every linear layer, the head's too, to the nearest multiple of max |x| / (2^(bits − 1) − 1), x being all its elements in one sequence."));
  charts.push(
    layerChart(plots, {title: "Kurtosis, by layer", runs: measured, of: tensor("kurtosis"), yLabel: "kurtosis", log: () => true, line: null}),
    layerChart(plots, {title: "Largest absolute value, by layer", runs: measured, of: tensor("largest"), yLabel: "max |x|", log: () => true}),
    layerChart(plots, {title: "Norm of the values, by layer", runs: measured, yLabel: "mean norm", zero: true,
      of: run => [["first", "position 1", ""], ["rest", "the others", "4 3"]].map(([key, name, dash]) => ({name: `${run.label}, ${name}`, dash, points: run.outliers.layers.map((layer, l) => [l, layer.value_norm[key]])}))}));
  onRedraw(() => tableHost.replaceChildren(roundingTable(shownRuns().filter(run => run.outliers))));
}
