// How much attention the first positions get, and the mean attention map of every head.

const attention = {position: 0, root: 2, of: "weights"};  // root: of a weight, for its colour; of: "weights" or "logits"

// Viridis: even steps look even, to every kind of colour vision, on screen and on paper.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
function viridis(t) {
  const at = bounded(t, 0, 1) * (VIRIDIS.length - 1), i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[i].map((c, k) => Math.round(c + (VIRIDIS[i + 1][k] - c) * (at - i)));
}

/** Layers side by side, runs a little apart so that error bars do not hide one another. */
function shareSeries(runs) {
  const apart = Math.min(0.2, 0.02 * Math.max(...runs.map(run => run.sinks.layers.length)));
  return runs.map((run, i) => ({name: run.label, color: run.color, dash: run.dash, marker: run.marker, dots: true, errors: true,
    points: run.sinks.layers.map((layer, l) => {
      const mean = layer.share[attention.position], sd = layer.share_std[attention.position];
      return [l + (i - (runs.length - 1) / 2) * apart, mean, Math.max(0, mean - sd), mean + sd];
    })}));
}

function showShares(host) {
  const measured = RUNS.filter(run => run.sinks), without = DECODERS.filter(run => !run.sinks);
  if (without.length) host.append(missing(`Sinks not measured: ${without.map(run => run.label).join(", ")}. This measures them`, measureCommand(without)));
  if (!measured.length) return;
  const positions = Math.min(...measured.map(run => run.sinks.sink_rate.length)), layers = Math.max(...measured.map(run => run.sinks.layers.length));
  const chart = lineChart({title: "Share of attention on one of the first positions, by layer", series: () => shareSeries(shownRuns().filter(run => run.sinks)),
    xLabel: () => "layer", xTicks: () => ticks(0, Math.max(layers - 1, 1), false, Math.min(layers, 12)).filter(Number.isInteger), xFormat: String, xRead: x => String(Math.round(x)),
    yLabel: "share of attention", yTick: x => `${Number((100 * x).toFixed(1))} %`, yFormat: percent, zero: true, inset: 14, height: 280, wide: true});
  const tokens = RUNS.filter(run => run.sink_tokens);
  host.append(el("div", {class: "controls"},
      choice("position", Array.from({length: positions}, (_, k) => [k, String(k + 1)]), 0, k => { attention.position = k; chart.chart.draw(); })),
    chart,
    el("p", {class: "soft"}, `Mean over the queries that can see the position, over heads and ${whole(measured[0].sinks.sequences)} sequences of ${whole(measured[0].sinks.length)} tokens; bars are one standard deviation over the layer's heads. `,
      tokens.length ? `Position 1 is a learned sink token in ${tokens.map(run => run.label).join(", ")}, a word of the text elsewhere.` : ""));
  onRedraw(() => chart.chart.draw());
}

const ENCODER_TOKENS = [["cls", "[CLS]", ""], ["sep", "[SEP]", "2 3"], ["rest", "the rest", "6 3"]];
function showEncoders(host) {
  const encoders = RUNS.filter(run => run.is_encoder), measured = encoders.filter(run => run.encoder), without = encoders.filter(run => !run.encoder);
  if (without.length) host.append(missing(`Not measured: ${without.map(run => run.label).join(", ")}. This does`, measureCommand(without)));
  if (!measured.length) return;
  const point = (shares, l) => { const mean = meanOf(shares), sd = Math.sqrt(meanOf(shares.map(x => (x - mean) ** 2))); return [l, mean, Math.max(0, mean - sd), mean + sd]; };
  layerChart(host, {title: "Where an encoder's attention goes, by layer", runs: measured, yLabel: "share of attention", yTick: x => `${Number((100 * x).toFixed(1))} %`, yFormat: percent, zero: true, wide: true,
    of: run => ENCODER_TOKENS.map(([kind, name, dash]) => ({name: `${run.label}, ${name}`, dash, errors: true, points: run.encoder.layers.map((layer, l) => point(layer[kind], l))}))});
  host.append(el("p", {class: "soft"}, `Mean over the queries and heads of ${measured.map(run => whole(run.encoder.sequences)).join(", ")} sequences; bars are one standard deviation over the layer's heads. [CLS] is a sequence's first token, [SEP] each later one with the id of the last.`));
}

/** Bytes of one map: row after row, of a causal one the lower triangle. */
function bytesOf(run, maps, layer, head) {
  const {heads} = run.maps, size = cellIndex(run.maps, run.maps.side, 0);
  maps.bytes ??= Uint8Array.from(atob(maps.data), c => c.charCodeAt(0));
  return maps.bytes.subarray((layer * heads + head) * size, (layer * heads + head + 1) * size);
}
const cellIndex = ({side, causal}, i, j) => (causal ? i * (i + 1) / 2 : i * side) + j;
const columnsOf = ({side, causal}, i) => causal ? i + 1 : side;  // of row i, those that the query sees
const mapBytes = (run, layer, head) => bytesOf(run, run.maps, layer, head);
const weightAt = (run, bytes, i, j) => j < columnsOf(run.maps, i) ? (bytes[cellIndex(run.maps, i, j)] / 255) ** 2 : 0;

/** The logits of a head: their range, and the one of a cell. */
function logitMap(run, layer, head) {
  const {logits, heads} = run.maps, data = bytesOf(run, logits, layer, head), at = layer * heads + head;
  const low = numbers(logits.low[at]), high = numbers(logits.high[at]);
  return {data, low, high, at: (i, j) => low + (high - low) * data[cellIndex(run.maps, i, j)] / 255};
}
const shownLogits = run => attention.of === "logits" && run.maps.logits;

function drawMap(canvas, run, layer, head) {
  const {side} = run.maps, logits = shownLogits(run), data = logits ? logitMap(run, layer, head).data : mapBytes(run, layer, head);
  const context = canvas.getContext("2d"), shade = logits ? byte => byte / 255 : byte => (byte / 255) ** (2 / attention.root);
  canvas.width = canvas.height = side;
  const image = context.createImageData(side, side);
  for (let i = 0, at = 0; i < side; ++i)
    for (let j = 0; j < columnsOf(run.maps, i); ++j, ++at) image.data.set([...viridis(shade(data[at])), 255], 4 * (i * side + j));
  context.putImageData(image, 0, 0);
  canvas.repaint = () => drawMap(canvas, run, layer, head);
}

function colourScale() {
  const canvas = el("canvas", {width: 190, height: 1}), context = canvas.getContext("2d");
  for (let x = 0; x < 190; ++x) { context.fillStyle = `rgb(${viridis(x / 189)})`; context.fillRect(x, 0, 1, 1); }
  const text = el("span"), low = el("span"), high = el("span");
  canvas.repaint = () => {
    const logits = attention.of === "logits";
    [low.textContent, high.textContent] = logits ? ["least", "greatest"] : ["0", "1"];
    text.textContent = logits ? "logit before the softmax, each map with its own range; press one to read it"
      : `attention weight, the same colours in every map; the middle is ${figures(0.5 ** attention.root, 2)}`;
  };
  canvas.repaint();
  return el("div", {class: "scale"}, low, canvas, high, text);
}

/** Layers down, heads across; a press enlarges. */
function mapGrid(run, open) {
  const {layers, heads} = run.maps;
  const grid = el("div", {class: "maps", role: "group", "aria-label": `attention maps of ${run.label}`, style: `grid-template-columns:22px repeat(${heads},minmax(0,80px))`});
  grid.append(el("span", {}, ""), ...Array.from({length: heads}, (_, h) => el("span", {}, `H${h}`)));
  for (let l = 0; l < layers; ++l) {
    grid.append(el("span", {}, `L${l}`));
    for (let h = 0; h < heads; ++h) {
      const canvas = el("canvas");
      drawMap(canvas, run, l, h);
      grid.append(el("button", {type: "button", tabindex: l + h ? -1 : 0, "aria-label": `layer ${l}, head ${h}: enlarge`, title: `layer ${l}, head ${h}`, onclick: () => open(l, h)}, canvas));
    }
  }
  const buttons = [...grid.querySelectorAll("button")];
  grid.addEventListener("keydown", event => {  // one stop of the tab key; arrows go from head to head
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: heads, ArrowUp: -heads}[event.key], next = buttons[buttons.indexOf(document.activeElement) + step];
    if (!step || !next) return;
    event.preventDefault();
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  return el("div", {}, el("h3", {}, runName(run)), grid);
}

/** One head of every run, large, read under the pointer. */
function mapDialog() {
  const title = el("h3"), maps = el("div", {class: "large"});
  const dialog = el("dialog", {"aria-label": "attention map"},
    el("div", {class: "controls"}, title,
      el("button", {type: "button", onclick: () => move(0, -1)}, "← head"), el("button", {type: "button", onclick: () => move(0, 1)}, "head →"),
      el("button", {type: "button", onclick: () => move(-1, 0)}, "↑ layer"), el("button", {type: "button", onclick: () => move(1, 0)}, "layer ↓"),
      el("button", {type: "button", onclick: () => dialog.close()}, "Close")), colourScale(), maps);
  let at = {layer: 0, head: 0}, runs = [];
  const move = (layers, heads) => show(bounded(at.layer + layers, 0, Math.max(...runs.map(run => run.maps.layers)) - 1), bounded(at.head + heads, 0, Math.max(...runs.map(run => run.maps.heads)) - 1));
  function panel(run) {
    if (at.layer >= run.maps.layers || at.head >= run.maps.heads) return el("div", {}, el("h3", {}, runName(run)), missing("has no such head"));
    const canvas = el("canvas"), reading = el("p", {class: "soft"}, "\u00a0");
    drawMap(canvas, run, at.layer, at.head);
    canvas.read = (x, y) => { reading.textContent = readMap(run, at, x, y); };
    canvas.addEventListener("pointermove", event => {
      const box = canvas.getBoundingClientRect();
      for (const other of maps.querySelectorAll("canvas")) other.read((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    return el("div", {}, el("h3", {}, runName(run)), canvas, el("p", {class: "soft"}, `keys →, queries ↓. ${mapSummary(run, at)}`), reading);
  }
  function show(layer, head) {
    at = {layer, head};
    runs = shownRuns().filter(run => run.maps);
    title.textContent = `Layer ${layer}, head ${head}`;
    maps.replaceChildren(...runs.map(panel));
    for (const canvas of maps.querySelectorAll("canvas")) canvas.read(0, 0.999);
    if (!dialog.open) dialog.showModal();
  }
  dialog.addEventListener("keydown", event => {
    const step = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]}[event.key];
    if (step) { event.preventDefault(); move(...step); }
  });
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  return show;
}
/** Which positions a row or column stands for. */
function readSpan({maps: {side, length}}, bucket) {
  const from = Math.floor(bucket * length / side) + 1, to = Math.floor((bucket + 1) * length / side);
  return from === to ? String(from) : `${from}–${to}`;
}
function firstColumn(run, at) {
  const {side} = run.maps, data = mapBytes(run, at.layer, at.head);
  let sum = 0;
  for (let i = 0; i < side; ++i) sum += weightAt(run, data, i, 0);
  return sum / side;
}
function mapSummary(run, at) {
  if (!shownLogits(run)) return `A query gives key ${readSpan(run, 0)} ${(100 * firstColumn(run, at)).toFixed(1)} % on average.`;
  const {low, high} = logitMap(run, at.layer, at.head);
  return Number.isFinite(low) ? `Logits from ${figures(low, 3)} to ${figures(high, 3)}.` : "Some logits are not finite.";
}
function readMap(run, at, x, y) {
  const {side} = run.maps, i = bounded(Math.floor(y * side), 0, side - 1), j = bounded(Math.floor(x * side), 0, side - 1);
  const span = bucket => readSpan(run, bucket);
  if (j >= columnsOf(run.maps, i)) return `query ${span(i)} cannot see key ${span(j)}`;
  const read = shownLogits(run) ? figures(logitMap(run, at.layer, at.head).at(i, j), 3) : `${(100 * weightAt(run, mapBytes(run, at.layer, at.head), i, j)).toFixed(1)} %`;
  return `query ${span(i)} → key ${span(j)}: ${read}`;
}

function repaintMaps() { for (const canvas of document.querySelectorAll("canvas")) canvas.repaint(); }

function showAttention() {
  const host = section("attention"), mapped = RUNS.filter(run => run.maps), without = RUNS.filter(run => !run.maps);
  showShares(host);
  showEncoders(host);
  showLogits(host);
  showLastQueries(host);
  if (without.length) host.append(missing(`No attention maps: ${without.map(run => run.label).join(", ")}. This makes them`, measureCommand(without)));
  if (!mapped.length) return;
  const open = mapDialog(), grids = el("div", {class: "runmaps"});
  const pooled = mapped.find(run => run.maps.side < run.maps.length);
  host.append(el("h3", {style: "margin-top:22px"}, "Mean attention map of every head"),
    el("p", {class: "soft"}, "Layers down, heads across; in a map rows are queries and columns keys, so a bright left edge is a sink. Press a map to enlarge it and to see the same head of every run.",
      pooled ? ` Maps of ${pooled.maps.length} positions are drawn as ${pooled.maps.side} × ${pooled.maps.side}: a cell is the attention of a mean query on all of its keys.` : ""),
    el("div", {class: "controls"},
      mapped.some(run => run.maps.logits) ? choice("maps of", [["weights", "weights"], ["logits", "logits before the softmax"]], attention.of, of => { attention.of = of; repaintMaps(); }) : null,
      choice("weights' colours by", [[2, "square root"], [4, "fourth root, for small weights"]], attention.root, root => { attention.root = root; repaintMaps(); })),
    colourScale(), grids);
  const old = mapped.filter(run => !run.maps.logits);
  if (old.length && old.length < mapped.length) host.append(missing(`No maps of logits: ${old.map(run => run.label).join(", ")}; weights are shown. This makes them`, sinksCommand(old[0])));
  onRedraw(() => {  // drawn once, shown or hidden
    if (!grids.children.length) grids.append(...mapped.map(run => mapGrid(run, open)));
    mapped.forEach((run, i) => { grids.children[i].hidden = !run.shown; });
  });
}
