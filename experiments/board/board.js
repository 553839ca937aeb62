"use strict";
// The program of the board. All text enters the page as text, never as HTML, because names of runs come from outside.

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1F2933", "#6B7280"];
const DASHES = ["", "6 4", "2 3", "9 3 2 3"];
const POLL_MS = 2000;
const PANELS = 4;
const board = JSON.parse(document.getElementById("board").textContent);
const details = new Map(Object.entries(board.details || {}));
const rows = new Map();
let chosen = [];
let sorting = { key: "updated", up: false };
let drawn = "";

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function drawing(name, attributes = {}, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

// Numbers as people read them: thousands separated, powers of ten for extremes.
function number(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e9 || size < 1e-4) {
    const [mantissa, exponent] = size.toExponential(Math.min(2, digits - 1)).split("e");
    const power = String(Number(exponent)).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"["0123456789".indexOf(c)] || "⁻");
    const factor = Number(mantissa) === 1 ? "" : Number(mantissa) + " × ";
    return (value < 0 ? "−" : "") + factor + "10" + power;
  }
  const text = Number(size.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 12 });
  return (value < 0 ? "−" : "") + text;
}

// Three significant digits, as 37.0% and 0.120%.
const percent = (share) => (share >= 1 || share < 1e-6 ? number(100 * share, 3) : (100 * share).toPrecision(3)) + "%";

function span(seconds) {
  for (const [size, unit] of [[172800, 86400, "d"], [3600, 3600, "h"], [120, 60, "min"]].map((s) => [s[0], s.slice(1)]))
    if (seconds >= size) return number(seconds / unit[0], 2) + " " + unit[1];
  return Math.max(0, Math.round(seconds)) + " s";
}

const age = (run) => (run.updated === null ? "" : span(Date.now() / 1000 - run.updated) + " ago");
const title = (run) => (run.directory === "." ? "the folder itself" : run.directory);
const colour = (directory) => COLOURS[chosen.indexOf(directory) % COLOURS.length];
const runOf = (directory) => board.runs.find((run) => run.directory === directory);

function progress(run) {
  const parts = [element("span", { class: "state " + run.state }, run.state)];
  if (run.state === "running" && run.share !== null) {
    const bar = element("i");
    bar.style.width = (100 * run.share).toFixed(1) + "%";
    const percent = (100 * run.share).toFixed(1);
    parts.push(element("div", { class: "bar", role: "progressbar", "aria-valuenow": percent, "aria-valuemin": "0",
      "aria-valuemax": "100", "aria-label": "share done of " + title(run) }, bar));
  }
  const said = [];
  if (run.state !== "finished" && run.share !== null) said.push((100 * run.share).toFixed(1) + "%");
  if (run.state !== "finished" && run.total !== null && run.total !== 1)
    said.push(number(run.done, 9) + " of " + number(run.total, 9));
  if (run.state === "running" && run.left_s !== null) said.push("about " + span(run.left_s) + " left");
  if (run.state !== "finished" && run.step) said.unshift(run.step.trim().split(/\s{2,}/)[0] + (said.length ? ":" : ""));
  if (said.length) parts.push(element("div", { class: "detail" }, said.join(" ").replace(/(%|\d) (?=about|\d)/g, "$1, ")));
  for (const [kind, count] of Object.entries(run.failures))
    parts.push(element("div", { class: "detail problem" }, number(count, 9) + " failed: " + kind));
  if (run.problem) {
    const short = run.problem.length > 160 ? run.problem.slice(0, 159) + "…" : run.problem;
    parts.push(element("div", { class: "detail problem", title: run.problem }, short));
  }
  return parts;
}

function headline(run) {
  return Object.entries(run.headline).map(([name, [value, text]]) =>
    element("div", { class: "pair" }, element("span", {}, name), element("span", { title: String(value) }, text)));
}

function choose(directory, on) {
  if (on && chosen.length === COLOURS.length) {
    say("At most " + COLOURS.length + " runs are compared at once. Remove one first.");
    rows.get(directory).box.checked = false;
    return;
  }
  say("");
  chosen = chosen.filter((name) => name !== directory);
  if (on) chosen.push(directory);
  history.replaceState(null, "", chosen.length ? "#" + chosen.map(encodeURIComponent).join("&") : location.pathname);
  update();
  fetchDetails();
}

function say(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

function rowOf(run) {
  if (rows.has(run.directory)) return rows.get(run.directory);
  const id = "run-" + rows.size;
  const box = element("input", { type: "checkbox", id, "aria-label": "compare " + title(run) });
  box.addEventListener("change", () => choose(run.directory, box.checked));
  const cells = ["stage text", "state-cell text", "metrics text", "number", "number", "number age"];
  const parts = cells.map((name) => element("td", { class: name }));
  const name = element("th", { scope: "row" }, element("label", { for: id }, title(run)));
  const tr = element("tr", { "data-run": run.directory }, element("td", { class: "choice" }, box), name, ...parts);
  rows.set(run.directory, { tr, box, parts, shown: "" });
  return rows.get(run.directory);
}

function isShown(run) {
  const text = byId("find").value.trim().toLowerCase();
  const sought = [run.directory, run.stage, ...Object.keys(run.headline)].join(" ").toLowerCase();
  return (!text || sought.includes(text)) && (!byId("stage").value || run.stage === byId("stage").value) &&
    (!byId("state").value || run.state === byId("state").value);
}

function compareRuns(a, b) {
  const [one, other] = [a[sorting.key], b[sorting.key]];
  if (one === null || other === null) return (one === null) - (other === null);
  const order = typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
  return (sorting.up ? order : -order) || a.directory.localeCompare(b.directory, "en", { numeric: true });
}

function updateTable() {
  for (const key of ["stage", "state"]) {
    const select = byId(key);
    const names = [...new Set(board.runs.map((run) => run[key]))].sort();
    if (select.options.length !== names.length + 1) {
      const value = select.value;
      select.replaceChildren(element("option", { value: "" }, "all"), ...names.map((n) => element("option", { value: n }, n)));
      select.value = names.includes(value) ? value : "";
    }
  }
  const shown = board.runs.filter(isShown).sort(compareRuns);
  const body = document.querySelector("#runs tbody");
  const nodes = shown.map((run) => {
    const row = rowOf(run);
    const state = JSON.stringify(run);
    if (row.shown !== state) {
      const [stage, progressCell, metrics, cost, wall] = row.parts;
      stage.textContent = run.stage;
      progressCell.replaceChildren(...progress(run));
      metrics.replaceChildren(...headline(run));
      cost.textContent = run.cost || "";
      wall.textContent = run.wall || "";
      row.shown = state;
    }
    row.parts[5].textContent = age(run);
    row.parts[5].title = run.updated === null ? "" : new Date(1000 * run.updated).toISOString();
    row.box.checked = chosen.includes(run.directory);
    row.tr.classList.toggle("chosen", row.box.checked);
    return row.tr;
  });
  // A row that stays in its place keeps the focus.
  if (nodes.length !== body.children.length || nodes.some((node, i) => body.children[i] !== node)) body.replaceChildren(...nodes);
  const under = board.runs.filter((run) => run.state === "running").length;
  const count = (n) => number(n, 9) + (n === 1 ? " run" : " runs");
  byId("summary").textContent = count(board.runs.length) + ", " + number(under, 9) + " under way. " + (board.is_live
    ? "The page follows them while its server runs."
    : "As of " + new Date(1000 * board.now).toISOString().slice(0, 16).replace("T", " ") + " UTC; this file does not follow runs.");
  if (board.refused.length)
    byId("summary").append(" Not read, because a file is a link, is no plain file or is too large: " + board.refused.join(", ") + ".");
  byId("count").textContent = shown.length === board.runs.length ? "" : count(shown.length) + " shown";
  byId("empty").hidden = shown.length > 0;
  byId("empty").textContent = board.runs.length ? "No run matches." : "There is no run below this folder yet.";
  for (const button of document.querySelectorAll("#runs thead button"))
    if (button.dataset.sort === sorting.key) button.setAttribute("aria-sort", sorting.up ? "ascending" : "descending");
    else button.removeAttribute("aria-sort");
}

function table(heads, lines, className = "") {
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const body = lines.map(([name, ...cells]) => element("tr", {}, element("th", { scope: "row" }, name),
    ...cells.map((cell) => (cell instanceof Node ? cell : element("td", {}, cell)))));
  return element("table", { class: className }, element("thead", {}, head), element("tbody", {}, ...body));
}

function exact(pair) {
  return pair === undefined ? element("td", { class: "absent" }, "none") : element("td", { class: "number", title: String(pair[0]) }, pair[1]);
}

function updateMetrics(runs) {
  const text = byId("find-metric").value.trim().toLowerCase();
  const names = [...new Set(runs.flatMap((run) => Object.keys(detailsOf(run).metrics)))].sort();
  const heads = ["metric", ...runs.map(title)];
  if (runs.length === 2) heads.push("second against first");
  const lines = names.filter((name) => name.toLowerCase().includes(text)).map((name) => {
    const pairs = runs.map((run) => detailsOf(run).metrics[name]);
    const line = [name, ...pairs.map(exact)];
    if (runs.length === 2) {
      const [one, other] = pairs;
      const change = one && other && one[0] !== 0 ? (other[0] - one[0]) / Math.abs(one[0]) : null;
      line.push(change === null ? "" : change === 0 ? "equal" : (change > 0 ? "+" : "−") + percent(Math.abs(change)));
    }
    return line;
  });
  byId("metrics").replaceChildren(lines.length ? table(heads, lines)
    : element("p", { class: "note" }, names.length ? "No metric has this in its name." : "These runs have no metrics yet."));
}

function updateSettings(runs) {
  const all = runs.map((run) => detailsOf(run).settings);
  const names = [...new Set(all.flatMap(Object.keys))].sort();
  const differing = names.filter((name) => all.some((settings) => settings[name] !== all[0][name]));
  const equal = names.length - differing.length;
  const parts = [];
  if (runs.length < 2) parts.push(element("p", { class: "note" }, "Choose a second run to see how their settings differ."));
  else if (differing.length) parts.push(table(["setting", ...runs.map(title)], differing.map((name) => [name,
    ...all.map((settings) => (name in settings ? settings[name] : element("td", { class: "absent" }, "not set")))])));
  else parts.push(element("p", { class: "note" }, names.length ? "No setting differs." : "These runs keep no configuration."));
  if (equal && runs.length > 1) parts.push(element("p", { class: "note" }, number(equal, 9) + (equal === 1 ? " setting is" : " settings are") + " the same."));
  byId("settings").replaceChildren(...parts);
}

const detailsOf = (run) => details.get(run.directory) || { metrics: {}, settings: {}, curves: [] };

function updateComparison() {
  chosen = chosen.filter(runOf);
  const runs = chosen.map(runOf);
  byId("hint").hidden = runs.length > 0;
  byId("compared").hidden = runs.length === 0;
  const state = JSON.stringify([runs.map((run) => [run.directory, run.stamp, run.state, details.has(run.directory)]),
    runs.map((run) => detailsOf(run).stamp), byId("find-metric").value]);
  if (state === drawn) return;
  drawn = state;
  byId("chips").replaceChildren(...runs.map((run) => {
    const remove = element("button", { type: "button", "aria-label": "remove " + title(run) }, "×");
    remove.addEventListener("click", () => choose(run.directory, false));
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = colour(run.directory);
    return element("span", { class: "chip" }, swatch, title(run), remove);
  }));
  const failed = (run) => Object.entries(run.failures).map(([kind, count]) => number(count, 9) + " " + kind).join(", ") || "none";
  byId("costs").replaceChildren(table(["", ...runs.map(title)], [
    ["stage", ...runs.map((run) => run.stage)],
    ["state", ...runs.map((run) => run.state + (run.problem ? ": " + run.problem : ""))],
    ["processor time of all sessions", ...runs.map((run) => run.cost || "not recorded")],
    ["wall time of the last session", ...runs.map((run) => run.wall || "not recorded")],
    ["failures", ...runs.map(failed)],
    ["written", ...runs.map((run) => (run.updated === null ? "not recorded"
      : new Date(1000 * run.updated).toISOString().slice(0, 19).replace("T", " ") + " UTC" + (run.host ? " by " + run.host : "")))],
  ]));
  byId("curves").replaceChildren(...curvePanels(runs));
  updateMetrics(runs);
  updateSettings(runs);
  byId("logs").replaceChildren(...runs.map((run) => element("details", {}, element("summary", {}, title(run)),
    element("pre", {}, run.log.length ? run.log.join("\n") : "The log is empty."))));
}

// One panel for each quantity; the colour is that of the run, the dash that of the training within it.
function curvePanels(runs) {
  const lines = runs.flatMap((run) => detailsOf(run).curves.map((curve, number_) => ({
    label: title(run) + (curve.where ? ", " + curve.where : ""), colour: colour(run.directory),
    dash: DASHES[number_ % DASHES.length], series: curve.series })));
  const names = [...new Set(lines.flatMap((line) => Object.keys(line.series)))].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  if (!names.length) return [element("p", { class: "note" }, "No training of these runs has ended an epoch.")];
  const legend = element("ul", { class: "legend" }, ...lines.map((line) => {
    const sample = drawing("svg", { width: 30, height: 10, "aria-hidden": "true" });
    sample.append(drawing("line", { x1: 0, y1: 5, x2: 30, y2: 5, stroke: line.colour, "stroke-width": 3, "stroke-dasharray": line.dash }));
    return element("li", {}, sample, line.label);
  }));
  const panels = (part) => element("div", { class: "panels" }, ...part.map((name) => panel(name, lines)));
  const parts = [legend, panels(names.slice(0, PANELS))];
  if (names.length > PANELS) parts.push(element("details", {},
    element("summary", {}, number(names.length - PANELS, 9) + " more quantities"), panels(names.slice(PANELS))));
  return parts;
}

const rank = (name) => (name === "valid/loss" ? 0 : name === "train/loss" ? 1 : name.startsWith("valid/") ? 2 : name.startsWith("train/") ? 3 : 4);

function ticksOf(low, high, logarithmic) {
  if (logarithmic) {
    const marks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const m of [1, 2, 5]) marks.push(m * 10 ** e);
    const inside = marks.filter((v) => v >= low && v <= high);
    return inside.length > 6 ? inside.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : inside;
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

function panel(name, lines) {
  const drawn = lines.filter((line) => (line.series[name] || []).length);
  const points = drawn.flatMap((line) => line.series[name]);
  const [width, height, left, right, top, bottom] = [520, 300, 74, 14, 10, 42];
  let [x0, x1] = [Math.min(...points.map((p) => p[0])), Math.max(...points.map((p) => p[0]))];
  let [y0, y1] = [Math.min(...points.map((p) => p[1])), Math.max(...points.map((p) => p[1]))];
  const logarithmic = y0 > 0 && y1 / y0 > 20;
  if (x0 === x1) [x0, x1] = [x0 - 1, x1 + 1];
  if (y0 === y1) [y0, y1] = [y0 - Math.abs(y0 || 1) / 2, y1 + Math.abs(y1 || 1) / 2];
  const scale = logarithmic ? Math.log10 : (v) => v;
  const margin = 0.04 * (scale(y1) - scale(y0));
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => height - bottom - ((scale(v) - scale(y0) + margin) / (scale(y1) - scale(y0) + 2 * margin)) * (height - top - bottom);
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": name + " against the epoch, of " + drawn.map((line) => line.label).join(" and ") });
  for (const v of ticksOf(y0, y1, logarithmic)) {
    svg.append(drawing("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
    svg.append(drawing("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, number(v, 3)));
  }
  for (const v of ticksOf(x0, x1, false).filter(Number.isInteger))
    svg.append(drawing("text", { x: x(v), y: height - bottom + 18, "text-anchor": "middle" }, number(v, 6)));
  svg.append(drawing("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
  svg.append(drawing("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "epoch"));
  // Curves that lie on each other are told apart by their widths.
  for (const [place, line] of drawn.entries()) {
    const values = line.series[name];
    const path = values.map((p, i) => (i ? "L" : "M") + x(p[0]).toFixed(1) + " " + y(p[1]).toFixed(1)).join("");
    const curve = drawing("path", { class: "line", d: path, stroke: line.colour, "stroke-dasharray": line.dash,
      "stroke-width": drawn.length > 1 && place % 2 === 0 ? 3.6 : 1.8 });
    curve.append(drawing("title", {}, line.label + ": " + number(values[values.length - 1][1]) + " at epoch " + values[values.length - 1][0]));
    svg.append(curve);
    const shown = values.length === 1 ? values : [values[values.length - 1]];
    for (const p of shown) svg.append(drawing("circle", { cx: x(p[0]), cy: y(p[1]), r: 3.5, fill: line.colour }));
  }
  const caption = logarithmic ? element("figcaption", {}, "Logarithmic axis.") : "";
  return element("figure", { "data-quantity": name }, element("h4", {}, name), svg, caption);
}

function update() {
  updateTable();
  updateComparison();
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error("the server answered " + answer.status);
  return answer.json();
}

async function fetchDetails() {
  if (!board.is_live) return;
  for (const directory of [...chosen]) {
    const run = runOf(directory);
    if (!run || (details.get(directory) || {}).stamp === run.stamp) continue;
    try {
      details.set(directory, { ...(await get("run.json?directory=" + encodeURIComponent(directory))), stamp: run.stamp });
    } catch (error) {
      say("The details of " + directory + " cannot be read: " + error.message + ".");
    }
  }
  update();
}

async function poll() {
  try {
    Object.assign(board, await get("runs.json"));
    if (byId("trouble").dataset.lost) { delete byId("trouble").dataset.lost; say(""); }
    update();
    await fetchDetails();
  } catch (error) {
    byId("trouble").dataset.lost = "yes";
    say("The server of this page does not answer (" + error.message + "). What is shown is as it was.");
  }
  setTimeout(poll, POLL_MS);
}

for (const id of ["find", "stage", "state"]) byId(id).addEventListener("input", updateTable);
byId("find-metric").addEventListener("input", updateComparison);
byId("tools").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("#runs thead button"))
  button.addEventListener("click", () => {
    const key = button.dataset.sort;
    sorting = { key, up: sorting.key === key ? !sorting.up : ["directory", "stage", "state"].includes(key) };
    updateTable();
  });
chosen = location.hash.slice(1).split("&").filter(Boolean).map(decodeURIComponent).filter(runOf).slice(0, COLOURS.length);
update();
if (board.is_live) fetchDetails().then(() => setTimeout(poll, POLL_MS));
