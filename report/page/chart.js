// Line plots in SVG. Plots of one group share their cursor and their zoom.
//
// A series: {name, color, dash, marker, points: [[x, y, low, high]…], dots, raw: [[x, y]…], errors}. Points without a
// finite y are gaps; low and high are drawn as a band, or as error bars where `errors` is set. A fifth number is what is read
// in place of a smoothed y.

const MARGIN = {left: 54, right: 14, top: 10, bottom: 38};

function plotGroup() {
  return {
    charts: [], range: null,
    point(x, source) { for (const chart of this.charts) chart.point(x, chart === source); },
    zoom(range) { this.range = range; this.onzoom?.(); for (const chart of this.charts) chart.draw(); },
  };
}

/** Round values inside [low, high]; in a logarithmic range the 1-2-5 series. */
function ticks(low, high, log, count) {
  if (log && high / low >= 8) {
    const out = [], decades = Math.log10(high / low);
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e)
      for (const m of decades > 4 ? [1] : decades > 2 ? [1, 3] : [1, 2, 5])
        if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) out.push(m * 10 ** e);
    const every = Math.ceil(out.length / 9);
    return out.filter((_, i) => i % every === 0);
  }
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const m = rough / power, step = (m > 7 ? 10 : m > 3.2 ? 5 : m > 1.4 ? 2 : 1) * power, out = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-9; x += step) out.push(Math.abs(x) < step * 1e-9 ? 0 : x);
  return out;
}

function scale(low, high, from, to, log) {
  const f = log ? Math.log : x => x, a = f(low), span = f(high) - a || 1;
  const map = x => from + (f(x) - a) / span * (to - from);
  map.invert = p => { const v = a + (p - from) / (to - from) * span; return log ? Math.exp(v) : v; };
  return map;
}

function extent(values, log) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (Number.isFinite(v) && v !== null && (!log || v > 0)) { low = Math.min(low, v); high = Math.max(high, v); }
  if (low > high) return log ? [1, 10] : [0, 1];
  const pad = low === high ? Math.abs(low) * 0.1 || 1 : 0;
  return log && pad ? [low / 1.2, high * 1.2] : [low - pad, high + pad];
}

function pathOf(points, x, y, log) {
  let path = "", open = false;
  for (const [px, py] of points) {
    const ok = px !== null && py !== null && Number.isFinite(py) && (!log || py > 0);
    if (ok) path += `${open ? "L" : "M"}${x(px).toFixed(1)},${y(py).toFixed(1)}`;
    open = ok;
  }
  return path;
}

function markerAt(kind, cx, cy, r, attributes) {
  if (kind === "square") return svg("rect", {x: cx - r, y: cy - r, width: 2 * r, height: 2 * r, ...attributes});
  if (kind === "triangle") return svg("path", {d: `M${cx},${cy - 1.3 * r}l${1.3 * r},${2.2 * r}h${-2.6 * r}z`, ...attributes});
  if (kind === "diamond") return svg("path", {d: `M${cx},${cy - 1.4 * r}l${1.4 * r},${1.4 * r}l${-1.4 * r},${1.4 * r}l${-1.4 * r},${-1.4 * r}z`, ...attributes});
  return svg("circle", {cx, cy, r, ...attributes});
}

function drawSeries(s, x, y, log) {
  const out = svg("g", {class: "series"});
  const ranged = s.points.filter(p => p.length > 2 && p[2] !== null && p[3] !== null && (!log || p[2] > 0));
  if (s.errors)
    for (const [px, , low, high] of ranged)
      out.append(svg("path", {stroke: s.color, "stroke-width": 1.3, d: `M${x(px)},${y(low)}V${y(high)}m-3,0h6M${x(px) - 3},${y(low)}h6`}));
  else if (ranged.length)
    out.append(svg("path", {class: "band", fill: s.color,
      d: pathOf([...ranged.map(p => [p[0], p[3]]), ...ranged.map(p => [p[0], p[2]]).reverse()], x, y, log) + "z"}));
  if (s.raw) out.append(svg("path", {class: "line raw mark", stroke: s.color, d: pathOf(s.raw, x, y, log)}));
  out.append(svg("path", {class: "line mark", stroke: s.color, "stroke-dasharray": s.dash || null, d: pathOf(s.points, x, y, log)}));
  if (s.dots)
    for (const [px, py] of s.points)
      if (py !== null && Number.isFinite(py) && (!log || py > 0)) out.append(markerAt(s.marker, x(px), y(py), 3.2, {class: "mark", fill: s.color}));
  return out;
}

/** The index of the point whose x is nearest. */
function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) { const mid = (low + high) >> 1; if (points[mid][0] < x) low = mid; else high = mid; }
  return Math.abs(points[high][0] - x) < Math.abs(points[low][0] - x) ? high : low;
}

/**
 * options: title, series() → list, xLabel(), yLabel, log(), xFormat, yFormat, xTicks, yRange() (to share one), line (an x to
 * mark, with lineText), height, group.
 */
function lineChart(options) {
  const group = options.group || plotGroup();
  const host = el("div"), tip = el("div", {class: "tip", hidden: "", role: "status", "aria-live": "polite"});
  const figure = el("figure", {class: options.wide ? "wide" : null}, el("h3", {}, options.title), host, tip);
  let state = null;  // of the last drawing

  function draw() {
    const width = Math.max(280, host.clientWidth || 400), height = options.height || 230, log = options.log?.() || false;
    const series = options.series().filter(s => s.points.length);
    const inside = p => !group.range || (p[0] >= group.range[0] && p[0] <= group.range[1]);
    const [x0, x1] = group.range || extent(series.flatMap(s => s.points.map(p => p[0])));
    const ys = series.flatMap(s => [...s.points, ...(s.raw || [])].filter(inside).flatMap(p => p.slice(1).filter(v => v !== null)));
    let [y0, y1] = options.yRange?.() || extent(ys, log);
    if (options.zero && !log) y0 = Math.min(0, y0);
    const air = (y1 - y0) * 0.04;
    [y0, y1] = log ? [y0 / 1.03, y1 * 1.03] : [y0 === 0 ? 0 : y0 - air, y1 + air];
    const x = scale(x0, x1, MARGIN.left + (options.inset || 0), width - MARGIN.right - (options.inset || 0), false);
    const y = scale(y0, y1, height - MARGIN.bottom, MARGIN.top, log);
    const clip = `clip${lineChart.count = (lineChart.count || 0) + 1}`;
    const overlay = svg("g");
    const drawing = svg("svg", {viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img",
      "aria-label": `${options.title}: ${series.map(s => s.name).join(", ") || "no data"}. Arrow keys read values.`},
      svg("clipPath", {id: clip}, svg("rect", {x: MARGIN.left, y: 0, width: width - MARGIN.left - MARGIN.right + 6, height: height - MARGIN.bottom + 4})));
    for (const t of ticks(y0, y1, log, 5))
      drawing.append(svg("line", {class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(t), y2: y(t)}),
        svg("text", {x: MARGIN.left - 7, y: y(t) + 4, "text-anchor": "end"}, (options.yTick || short)(t)));
    for (const t of options.xTicks?.() || ticks(x0, x1, false, width < 420 ? 4 : 6))
      drawing.append(svg("text", {x: x(t), y: height - MARGIN.bottom + 16, "text-anchor": "middle"}, (options.xFormat || short)(t)));
    drawing.append(svg("line", {class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: height - MARGIN.bottom, y2: height - MARGIN.bottom}),
      svg("text", {x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 4, "text-anchor": "middle"}, options.xLabel()),
      svg("text", {transform: `translate(11,${(height - MARGIN.bottom + MARGIN.top) / 2}) rotate(-90)`, "text-anchor": "middle"}, options.yLabel));
    drawing.append(svg("g", {"clip-path": `url(#${clip})`}, series.map(s => drawSeries(s, x, y, log)), overlay));
    if (options.line > x0 && options.line < x1)
      drawing.append(svg("line", {class: "context", x1: x(options.line), x2: x(options.line), y1: MARGIN.top, y2: height - MARGIN.bottom}),
        svg("text", {x: x(options.line) + 4, y: MARGIN.top + 9}, options.lineText));
    if (!series.length)
      drawing.append(svg("text", {x: width / 2, y: height / 2, "text-anchor": "middle"}, options.empty || "nothing recorded"));
    host.replaceChildren(drawing);
    tip.hidden = true;
    state = {drawing, overlay, series, x, y, width, height, at: null};
    listen(drawing);
  }

  /** Reads every series at x; only on the plot in use is the reading read out. */
  function point(at, own) {
    state.at = at;
    state.overlay.replaceChildren();
    tip.hidden = at === null || !state.series.length;
    if (tip.hidden) return;
    tip.setAttribute("aria-live", own ? "polite" : "off");
    const rows = state.series.map(s => ({s, p: s.points[nearest(s.points, at)]}));
    const shownX = rows.reduce((best, {p}) => Math.abs(p[0] - at) < Math.abs(best - at) ? p[0] : best, rows[0].p[0]);
    const px = state.x(shownX);
    state.overlay.append(svg("line", {class: "cursor", x1: px, x2: px, y1: MARGIN.top, y2: state.height - MARGIN.bottom}));
    for (const {s, p} of rows)
      if (p[1] !== null && Number.isFinite(state.y(p[1]))) state.overlay.append(svg("circle", {cx: state.x(p[0]), cy: state.y(p[1]), r: 4, fill: s.color}));
    const format = options.yFormat || figures;
    const spread = (s, p) => !own || p.length < 4 || p[2] === null ? "" : s.errors ? ` ± ${format(p[3] - p[1])}` : `  ${format(p[2])} … ${format(p[3])}`;
    tip.replaceChildren(el("div", {class: "soft"}, `${options.xName?.() || options.xLabel()} ${(options.xRead || whole)(shownX)}`),
      ...rows.map(({s, p}) => el("div", {}, swatch(s.color), `${s.name}  `, el("b", {}, format(p[4] ?? p[1])), spread(s, p))));
    const left = host.offsetLeft + px / state.width * host.clientWidth, room = figure.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${bounded(left < figure.clientWidth / 2 ? left + 12 : left - tip.offsetWidth - 12, 4, Math.max(room, 4))}px`;
  }

  function listen(drawing) {
    let from = null;
    const toX = event => state.x.invert((event.clientX - drawing.getBoundingClientRect().left) / drawing.clientWidth * state.width);
    const box = svg("rect", {class: "zoom", y: MARGIN.top, height: state.height - MARGIN.top - MARGIN.bottom});
    drawing.addEventListener("pointermove", event => {
      const at = toX(event);
      group.point(at, figure.chart);
      if (from === null) return;
      const [a, b] = [state.x(from), state.x(at)].sort((p, q) => p - q);
      box.setAttribute("x", a); box.setAttribute("width", b - a);
      state.overlay.append(box);
    });
    drawing.addEventListener("pointerdown", event => {
      group.point(toX(event), figure.chart);
      if (event.pointerType !== "touch" && options.zoomable) from = toX(event);
    });
    drawing.addEventListener("pointerup", event => {
      const to = toX(event), start = from;
      from = null;
      if (start !== null && Math.abs(state.x(to) - state.x(start)) > 8) group.zoom([start, to].sort((a, b) => a - b));
    });
    drawing.addEventListener("pointerleave", event => {
      from = null;
      if (event.pointerType !== "touch") group.point(null);  // a finger that is lifted leaves its reading
    });
    drawing.addEventListener("dblclick", () => group.zoom(null));
    drawing.addEventListener("blur", () => group.point(null));
    drawing.addEventListener("keydown", event => {
      const points = state.series[0]?.points;
      if (!points) return;
      const now = state.at === null ? -1 : nearest(points, state.at), page = Math.ceil(points.length / 20);
      const to = {ArrowRight: now + 1, ArrowLeft: now - 1, PageUp: now + page, PageDown: now - page, Home: 0, End: points.length - 1}[event.key];
      if (event.key === "Escape") group.point(null);
      if (to === undefined) return;
      event.preventDefault();
      group.point(points[bounded(to, 0, points.length - 1)][0], figure.chart);
    });
  }

  figure.chart = {draw, point};
  group.charts.push(figure.chart);
  return figure;
}
