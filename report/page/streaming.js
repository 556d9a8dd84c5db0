// Perplexity under each cache policy: the table, and its course over the text.

const streaming = {by: "run", over: 4, log: true};  // over: buckets of a point; 0: all so far

const cacheName = cell => cell.plan || (cell.policy === "dense" || cell.policy === "recompute" ? cell.policy : `${cell.sinks}+${cell.cache - cell.sinks}`);
const cellName = cell => cacheName(cell) + (cell.weights ? `, ${cell.weights}` : "");
const ofSubset = cell => cell.tokens < cell.of_tokens;

/** One of each cell any run has: x+y by size, then dense and recompute. */
function cellColumns(runs) {
  const all = new Map();
  // recompute keeps a model's own sink tokens, so its `sinks` differ between runs of one column
  for (const run of runs) for (const cell of run.cells) all.set(columnKey(cell), cell);
  const order = cell => [cell.policy === "recompute" ? 3 : cell.policy === "dense" ? 2 : cell.plan ? 1 : 0, cell.cache, cell.sinks];
  return [...all.values()].sort((a, b) => { const p = order(a), q = order(b); return p[0] - q[0] || p[1] - q[1] || p[2] - q[2]; });
}
const columnKey = cell => [cell.policy, cell.policy === "recompute" ? "" : cell.sinks, cell.cache, cell.plan ? `${cell.plan}/${cell.density ?? ""}` : "", cell.weights].join("/");
const cellOf = (run, column) => run.cells.find(cell => columnKey(cell) === columnKey(column));

function perplexityText({perplexity, non_finite, tokens}) {
  if (non_finite > 0) return `not finite: ${whole(non_finite)} of ${whole(tokens)} losses`;
  if (!Number.isFinite(perplexity)) return "not finite";
  return perplexity < 1e4 ? perplexity.toFixed(2) : perplexity.toExponential(2);
}

function columnTitle(cell) {
  if (cell.policy === "dense") return "keeps everything";
  if (cell.policy === "recompute") return `runs the last ${cell.cache} tokens afresh for every token`;
  if (cell.plan) return `${cell.policy === "moa" ? "a span for every head" : `${cell.cache} positions, some of them by the attention they had`}, ${((cell.density ?? 0) * 100).toFixed(1)} % of a dense cache's memory`;
  return cell.sinks ? `keeps the first ${cell.sinks} positions and the last ${cell.cache - cell.sinks}` : `keeps the last ${cell.cache} positions`;
}

function cacheTable(runs) {
  const columns = cellColumns(runs);
  const best = columns.map(column => {
    const values = runs.map(run => cellOf(run, column)?.perplexity).filter(Number.isFinite);
    return values.length > 1 ? Math.min(...values) : null;
  });
  const perplexityCell = (run, column, i) => {
    const cell = cellOf(run, column);
    if (!cell) return el("td", {}, "–");
    const isBest = cell.perplexity === best[i];
    return el("td", {class: isBest ? "best" : null, title: `scored on ${whole(cell.tokens)} of ${whole(cell.of_tokens)} tokens`},
      isBest ? "★ " : "", perplexityText(cell), ofSubset(cell) ? "*" : "");
  };
  return table(["perplexity", ...columns.map(c => el("th", {title: columnTitle(c)}, cellName(c))), el("th", {title: "share of heads with a sink on position 1"}, "Sink₁")],
    runs.map(run => el("tr", {}, el("td", {}, runName(run)), columns.map((column, i) => perplexityCell(run, column, i)),
      el("td", {}, run.sinks ? percent(run.sinks.sink_rate[0]) : "–"))), {id: "cache-table"});
}

function howToRead(runs) {
  const context = Math.max(...runs.map(run => run.context || 0));
  const subset = runs.flatMap(run => run.cells).find(ofSubset);
  const texts = new Set(runs.flatMap(run => run.cells.map(cell => cell.of_tokens)));
  return el("div", {},
    el("p", {}, "How to read it: a row is a model, a column what the cache keeps while the model reads one long text. 0+y is a plain window of the last y positions; " +
      "x+y also keeps the first x; dense keeps everything", context ? `, past the ${whole(context)} positions of training` : "", "; recompute runs the last tokens afresh for each token, slow but clean. Lower is better, ★ is the lowest of a column. ",
      el("b", {}, "Go along a row:"), " where 0+y is far above 1+y or 4+y, the model leans on its first positions and streaming must keep them; where 1+y is as good as 4+y, one sink is enough."),
    el("p", {class: "soft"}, "Sink₁ is the share of heads that give position 1 more than ", String(runs.find(run => run.sinks)?.sinks.epsilon ?? 0.3), " of their attention.",
      subset ? ` * scored on ${whole(subset.tokens)} of ${whole(subset.of_tokens)} tokens, so not quite comparable with its neighbours.` : ""),
    texts.size > 1 ? el("p", {class: "missing"}, "These cells were measured on texts of different lengths; compare them with care, or measure again on one text.") : null);
}

/** What each policy looks like, the same on every plot. */
function policyStyle(cell, columns) {
  if (cell.policy === "dense") return {color: "var(--dense)", dash: "7 3"};
  if (cell.policy === "recompute") return {color: "var(--recompute)", dash: "2 3"};
  if (cell.policy === "moa") return {color: "var(--plan)", dash: "9 2 2 2"};
  if (cell.policy === "h2o" || cell.policy === "infllm") return {color: "var(--chosen)", dash: cell.policy === "h2o" ? "4 2" : "1 2"};
  if (cell.sinks === 0) return {color: "var(--window)", dash: ""};
  const sinks = [...new Set(columns.filter(c => c.policy === "sink" && c.sinks > 0).map(c => c.sinks))].sort((a, b) => a - b);
  return {color: `var(--sink-${sinks.indexOf(cell.sinks) % 4})`, dash: ""};
}

/** Perplexity over stretches of the text, or over all of it so far; every token counts the same. */
function curvePoints(cell) {
  const points = [];
  let sum = 0, tokens = 0;
  cell.curve.forEach(({position, tokens: count, loss}, i) => {
    const first = streaming.over > 0 && i % streaming.over === 0;
    if (first) sum = tokens = 0;
    sum += loss * count; tokens += count;
    const point = [first || streaming.over === 0 ? position : points.at(-1)[0], Math.exp(sum / tokens)];
    if (first || streaming.over === 0) points.push(point); else points[points.length - 1] = point;
  });
  return points;
}

function curveLegend(styles) {
  return el("div", {class: "legend"}, styles.map(({name, color, dash}) => el("span", {},
    svg("svg", {viewBox: "0 0 24 9", "aria-hidden": "true"}, svg("line", {x1: 0, x2: 24, y1: 4.5, y2: 4.5, stroke: color, "stroke-width": 2.5, "stroke-dasharray": dash || null})), name)));
}

function courseCharts(host) {
  const runs = shownRuns().filter(run => run.cells.some(cell => cell.curve.length)), columns = cellColumns(runs), group = plotGroup();
  const series = (run, cell) => ({points: curvePoints(cell), run, cell});
  const everything = runs.flatMap(run => run.cells.map(cell => series(run, cell)));
  const panels = streaming.by === "run"
    ? runs.map(run => ({title: run.label, context: run.context, series: everything.filter(s => s.run === run).map(s => ({...s, name: cellName(s.cell), ...policyStyle(s.cell, columns)}))}))
    : columns.map(column => ({title: `${cellName(column)}: ${columnTitle(column)}`, context: runs[0]?.context,
        series: everything.filter(s => columnKey(s.cell) === columnKey(column)).map(s => ({...s, name: s.run.label, color: s.run.color, dash: s.run.dash}))}));
  const range = extent(everything.flatMap(s => s.points.map(p => p[1])), streaming.log);
  host.replaceChildren(
    streaming.by === "run" ? curveLegend(columns.map(column => ({name: cellName(column), ...policyStyle(column, columns)}))) : el("span"),
    el("div", {class: "plots"}, panels.map(panel => lineChart({group, title: panel.title, series: () => panel.series, xLabel: () => "position in the text (tokens)", xName: () => "position", yLabel: "perplexity",
      log: () => streaming.log, yRange: () => range, line: panel.context, lineText: "trained context", height: 260}))));
  for (const chart of group.charts) chart.draw();
}

function showStreaming() {
  const host = section("streaming"), measured = RUNS.filter(run => run.cells.length), without = DECODERS.filter(run => !run.cells.length);
  if (!DECODERS.length) host.append(missing("An encoder reads a whole sequence at once; nothing streams"));
  if (without.length) host.append(missing(`Not measured: ${without.map(run => run.label).join(", ")}. This makes the table and the curves`, measureCommand(without)));
  if (!measured.length) return;
  const tableHost = el("div"), curves = el("div");
  host.append(tableHost, howToRead(measured),
    ...measured.flatMap(staleNotes),
    el("h3", {style: "margin-top:18px"}, "Perplexity along the text"),
    el("p", {class: "soft"}, "All panels share one scale. Flat is what streaming needs: a curve that drifts up has outgrown its positions, one that jumps has lost its sink."),
    el("div", {class: "controls"},
      choice("a plot for each", [["run", "run"], ["policy", "policy"]], streaming.by, by => { streaming.by = by; courseCharts(curves); }),
      choice("perplexity over", [[1, "short stretches"], [4, "long stretches"], [0, "all so far"]], streaming.over, over => { streaming.over = over; courseCharts(curves); }),
      checkbox("log scale", streaming.log, on => { streaming.log = on; courseCharts(curves); })), curves);
  onRedraw(() => {
    tableHost.replaceChildren(cacheTable(shownRuns().filter(run => run.cells.length)));
    courseCharts(curves);
  });
}
/** A line for each step before the run's last at which cells were measured. */
function staleNotes(run) {
  const steps = [...new Set(run.cells.map(cell => cell.step))].filter(step => stale(run, step));
  return steps.map(step => {
    const cells = run.cells.filter(cell => cell.step === step), which = cells.length < run.cells.length ? `: ${cells.map(cellName).join(", ")}` : "";
    return el("p", {class: "soft"}, `${run.label} was measured at step ${whole(step)}${which}.`);
  });
}
const stale = (run, step) => step >= 0 && last(run.metrics.step) !== null && step < last(run.metrics.step);
