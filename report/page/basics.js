"use strict";
// The data, who is shown, and the small things every part of the page uses.

const DATA = JSON.parse(document.getElementById("data").textContent);
const MARKERS = ["circle", "square", "triangle", "diamond"];
const NOT_FINITE = {NaN, Infinity, "-Infinity": -Infinity};
/** A measurement with all its figures as numbers: in JSON those that are not finite are strings. */
function numbers(value) {
  if (typeof value === "string") return Object.hasOwn(NOT_FINITE, value) ? NOT_FINITE[value] : value;
  if (Array.isArray(value)) return value.map(numbers);
  return value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, numbers(inner)])) : value;
}
/** A run's measurements of one kind, each with the step of its checkpoint and the weights it was held in. */
const metricsOf = (run, kind) => run.measurements.filter(m => m.kind === kind).map(m => ({...numbers(m.metrics), step: m.step, weights: m.weights ?? ""}));
const RUNS = DATA.runs.map((run, i) => ({
  ...run, cells: metricsOf(run, "streaming"), sinks: metricsOf(run, "sinks")[0] ?? null, lastQueries: metricsOf(run, "last_query"), outliers: metricsOf(run, "outliers")[0] ?? null, encoder: metricsOf(run, "encoder_sinks")[0] ?? null,
  index: i, shown: true, color: `var(--run-${i % 8})`, marker: MARKERS[i % MARKERS.length],
  dash: i < 8 ? "" : "6 3",  // colours come round again
}));
const shownRuns = () => RUNS.filter(run => run.shown);
const DECODERS = RUNS.filter(run => !run.is_encoder);

// Parts of the page that depend on which runs are shown or on the window's width.
const redraws = [];
function onRedraw(draw) { redraws.push(draw); draw(); }
function redrawAll() { for (const draw of redraws) draw(); }

/** An element; children are nodes, or text, which never becomes markup. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined));
  return node;
}

const section = id => document.getElementById(id);
const swatch = color => el("span", {class: "swatch", style: `background:${color}`});
const runName = run => el("span", {}, swatch(run.color), run.label);

/** What is not there, and the command that makes it. */
function missing(text, command) {
  return el("p", {class: "missing"}, text, command ? ": " : "", command ? el("code", {}, command) : null);
}
const quoted = text => /^[\w./+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
const measureCommand = runs => `ballast report ${runs.map(run => quoted(run.folder)).join(" ")} --text HELDOUT.txt`;

/** Four figures, without a tail of zeros: 0.0312, 3.512, 1.2e-5. */
function figures(x, digits = 4) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  if (x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e7)) return x.toExponential(digits - 2).replace(/\.?0+e/, "e");
  return String(Number(x.toPrecision(digits)));
}
const fixed = (x, digits) => x === null || x === undefined ? "–" : x.toFixed(digits);
/** A share as a percentage; a share that is no number says so. */
const percent = x => Number.isFinite(x) ? `${(100 * x).toFixed(1)} %` : "not finite";
/** 12.5k, 3.1M. */
function short(x) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(x) >= size) return figures(x / size, 3) + unit;
  return figures(x, 3);
}
const whole = x => x === null || x === undefined ? "–" : Math.round(x).toLocaleString("en-US");
function bytes(x) { return x >= 2 ** 30 ? (x / 2 ** 30).toFixed(2) + " GiB" : (x / 2 ** 20).toFixed(1) + " MiB"; }
function duration(s) {
  if (!s) return "–";
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return `${(s / 3600).toFixed(1)} h`;
}
const last = list => list && list.length ? list[list.length - 1] : null;
const bounded = (x, low, high) => Math.min(high, Math.max(low, x));

function table(head, rows, attributes = {}) {
  return el("div", {class: "scroll", tabindex: 0, role: "group", "aria-label": "table"},
    el("table", attributes,
      el("thead", {}, el("tr", {}, head.map(cell => cell instanceof Node ? cell : el("th", {}, cell)))),
      el("tbody", {}, rows)));
}

/** Buttons of which one is pressed. */
function choice(label, options, chosen, onChoose) {
  const group = el("span", {class: "choice", role: "group", "aria-label": label});
  for (const [value, text] of options)
    group.append(el("button", {type: "button", "aria-pressed": value === chosen, onclick: event => {
      for (const button of group.children) button.setAttribute("aria-pressed", button === event.currentTarget);
      onChoose(value);
    }}, text));
  return el("label", {}, label, group);
}
function checkbox(label, checked, onChange) {
  const box = el("input", {type: "checkbox", onchange: event => onChange(event.target.checked)});
  box.checked = checked;
  return el("label", {}, box, label);
}
