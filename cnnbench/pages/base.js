"use strict";
// What all sections share: the data, the state that the address keeps, elements, tables, charts.
// Text from runs reaches the page through textContent alone.

// Objects without a prototype: a setting may be called "constructor".
const plain = (key, value) =>
  value && typeof value === "object" && !Array.isArray(value)
    ? Object.assign(Object.create(null), value)
    : value;
const data = JSON.parse(document.getElementById("data").textContent, plain);
const metric = data.figures[data.metric] ?? { label: data.metric, share: false, higher: true };

const DEFAULTS = {
  q: "",
  off: {},
  sort: {},
  x: "",
  logx: true,
  axis: "",
  map: "",
  curve: "val/acc",
  logy: false,
  smooth: 0,
  colour: "",
  best: 10,
  by: "configuration",
  a: "",
  b: "",
  tradeoffTable: false,
  effectsTable: false,
  mapTable: false,
  curvesTable: false,
};
// What the members of a default without any look like: filtered values by axis, column and direction by table.
const MEMBERS = { off: [""], sort: ["", false] };
const state = readState();

/** Whether a value has the type of an example. A list of one example stands for one of any length. */
function like(value, example) {
  if (!Array.isArray(value) || !Array.isArray(example))
    return value !== null && typeof value === typeof example && Array.isArray(value) === Array.isArray(example);
  return (
    (example.length === 1 || value.length === example.length) &&
    value.every((one, i) => like(one, example[i % example.length]))
  );
}

/** The state in the address, which anybody may have written: what is not of its type is as by default. */
function readState() {
  let found = {};
  try {
    found = JSON.parse(decodeURIComponent(location.hash.slice(1))) ?? {};
  } catch {
    /* no state, or none of ours */
  }
  const read = ([key, usual]) => {
    if (!Object.hasOwn(found, key) || !like(found[key], usual)) return [key, usual];
    if (!(key in MEMBERS)) return [key, found[key]];
    const members = Object.entries(found[key]).filter(([, value]) => like(value, MEMBERS[key]));
    return [key, Object.fromEntries(members)];
  };
  return Object.fromEntries(Object.entries(DEFAULTS).map(read));
}

/** The values of an axis that are filtered out. */
const off = (axis) => (Object.hasOwn(state.off, axis) ? state.off[axis] : []);

/** Change the state, keep it in the address and draw again. */
function set(change) {
  Object.assign(state, change);
  try {
    history.replaceState(null, "", "#" + encodeURIComponent(JSON.stringify(state)));
  } catch {
    /* a browser that does not let files */
  }
  cancelAnimationFrame(set.frame);
  set.frame = requestAnimationFrame(draw);
}

/** An element: properties, then children; strings become text. */
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  const there = children.flat().filter((child) => child !== null && child !== undefined);
  made.append(...there.map((child) => (typeof child === "string" ? legible(child) : child)));
  return made;
}

/** Controls as `\u{202e}`: they would turn what follows around, or not be seen. Those inside letters stay. */
const legible = (text) =>
  text.replace(/(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}]/gu, (one) => `\\u{${one.codePointAt(0).toString(16)}}`);
const short = (text, most = 48) => legible(text.length > most ? text.slice(0, most - 1) + "…" : text);
const name = (axis) => axis.replace(/\.name$/, "");

// Numbers ---------------------------------------------------------------------------------------------

const si = (value) =>
  d3
    .format(".3~s")(value)
    .replace(/([kMGTmµn])$/, " $1");

function seconds(value) {
  if (0 < value && value < 0.05) return Number((1000 * value).toPrecision(3)) + " ms";
  if (value < 60) return value.toFixed(1) + " s";
  const minutes = (Math.round(value) / 60) | 0,
    rest = Math.round(value) % 60;
  return minutes < 60
    ? `${minutes}:${String(rest).padStart(2, "0")} min`
    : `${(minutes / 60) | 0}:${String(minutes % 60).padStart(2, "0")} h`;
}

/** A figure as people write it. */
function shown(key, value) {
  if (value === null || value === undefined) return "-";
  if (data.figures[key]?.share) return (100 * value).toFixed(2) + " %";
  if (data.figures[key]?.percent) return (100 * value).toFixed(0) + " %";
  const [base] = key.split(" ("); // behind it: how it was measured
  if (/^(params|macs)$|(per_s|flops)$/.test(base)) return si(value);
  return /_s$/.test(base) ? seconds(value) : String(Number(value.toPrecision(4)));
}

const scale = metric.share ? 100 : 1;
const unit = metric.unit ? " " + metric.unit : "";
const same = metric.ratio ? 1 : 0;
const digits = metric.share ? 2 : 4;
const number = (value) => (value === null || value === undefined ? "-" : (scale * value).toFixed(digits));
const signed = (value) => (value > 0 ? "+" : "") + (scale * value).toFixed(metric.share ? 1 : 4);
const times = (value) => "×" + (0.1 <= value && value < 10 ? value.toFixed(2) : Number(value.toPrecision(3)));
const changed = (value) => (metric.ratio ? times(value) : signed(value));
const interval = (one, write = number) =>
  one === null
    ? "-"
    : write(one.mean) +
      (one.low === null ? (one.n === 1 ? " [one run]" : "") : ` [${write(one.low)}, ${write(one.high)}]`);

/** A text that is too long for a cell, behind its beginning. */
const folded = (text) =>
  text.length <= 120 ? text : el("details", {}, el("summary", {}, short(text, 60)), el("pre", {}, text));

// Tables ----------------------------------------------------------------------------------------------

/**
 * A table whose columns sort. columns: {name, title?, value(row), text?(row), node?(row), number?}.
 * given: the column and the direction by which the rows come sorted, [null, false] for neither.
 */
function table(key, caption, columns, rows, given = [null, false], most = 100) {
  const asked = Object.hasOwn(state.sort, key) ? state.sort[key] : given;
  const column = columns.find((one) => one.name === asked[0]);
  const [by, down] = column ? asked : given;
  if (by !== null) caption += `; in order of ${column?.title ?? by}, ${down ? "descending" : "ascending"}`;
  if (column && asked !== given) {
    const known = (row) => {
      const value = column.value(row);
      return value === null || value === undefined || value === "-" ? null : value;
    };
    rows = d3.sort(rows, (a, b) => {
      const [x, y] = [known(a), known(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const order =
        typeof x === "number" && typeof y === "number"
          ? x - y
          : String(x).localeCompare(String(y), "en", { numeric: true });
      return down ? -order : order;
    });
  }
  const head = columns.map((one) => {
    const direction = one.name === by ? (down ? "descending" : "ascending") : "none";
    const next = [one.name, one.name === by ? !down : Boolean(one.number)];
    const button = el(
      "button",
      { type: "button", onclick: () => set({ sort: { ...state.sort, [key]: next } }) },
      short(one.title ?? one.name, 200),
    );
    button.dataset.sort = `${key}/${one.name}`;
    return el("th", { scope: "col", className: one.number ? "number" : "", "aria-sort": direction }, button);
  });
  const line = (row) =>
    el(
      "tr",
      {},
      columns.map((one) =>
        el(
          "td",
          { className: one.number ? "number" : "" },
          one.node?.(row) ?? folded(one.text?.(row) ?? String(one.value(row) ?? "-")),
        ),
      ),
    );
  const body = el("tbody", {}, rows.slice(0, most).map(line));
  const made = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), body);
  const parts = [el("div", { className: "scroll" }, made)];
  if (rows.length > most) {
    const more = el(
      "button",
      {
        type: "button",
        className: "more",
        onclick: () => {
          body.append(...rows.slice(most).map(line));
          more.remove();
        },
      },
      `show all ${rows.length}`,
    );
    parts.push(more);
  }
  return parts;
}

// Charts ----------------------------------------------------------------------------------------------

/** A chart with its caption and the same numbers as a table behind it. */
function chart(host, key, label, marks, options, legend, columns, rows) {
  if (rows.length === 0)
    return host.replaceChildren(el("p", { className: "faint" }, "Nothing matches the filters."));
  const width = Math.max(300, Math.min(host.clientWidth || 900, 1200));
  const drawn = Plot.plot({ width, marginLeft: 60, ...options, ariaLabel: label, marks });
  drawn.setAttribute("role", "img");
  // An image has one name; Plot's names of its groups are for those who read the source.
  for (const group of drawn.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");
  const behind = el(
    "details",
    { className: "table", open: state[key + "Table"] ?? false },
    el("summary", {}, "The same as a table"),
  );
  const fill = () => behind.childElementCount === 1 && behind.append(...table(key, label, columns, rows));
  if (behind.open) fill();
  behind.addEventListener("toggle", () => {
    state[key + "Table"] = behind.open;
    if (behind.open) fill();
  });
  host.replaceChildren(el("figure", {}, el("figcaption", {}, label), legend ?? "", drawn), behind);
}

const COLOURS = [
  "#4269d0",
  "#e08a00",
  "#e4572e",
  "#2a9d8f",
  "#3ca951",
  "#d6569a",
  "#8e5bd6",
  "#5b8fd9",
  "#9c6b4e",
  "#80868f",
];
const SYMBOLS = [
  "circle",
  "square",
  "triangle",
  "diamond",
  "star",
  "cross",
  "wye",
  "hexagon",
  "plus",
  "times",
];

/** One colour and one symbol a group: colour alone does not tell them apart for everybody. */
function legend(groups, line = false) {
  return el(
    "ul",
    { className: "legend", "aria-label": "Legend" },
    groups.map((group, i) => {
      const svg = d3.create("svg").attr("width", 16).attr("height", 12).attr("aria-hidden", "true");
      if (line)
        svg
          .append("line")
          .attr("x1", 0)
          .attr("x2", 16)
          .attr("y1", 6)
          .attr("y2", 6)
          .attr("stroke-width", 3)
          .attr("stroke", COLOURS[i % COLOURS.length]);
      else
        svg
          .append("path")
          .attr("transform", "translate(8,6)")
          .attr("fill", COLOURS[i % COLOURS.length])
          .attr("d", d3.symbol(SHAPES[SYMBOLS[i % SYMBOLS.length]], 60)());
      return el("li", {}, svg.node(), short(group, 32));
    }),
  );
}
const SHAPES = {
  circle: d3.symbolCircle,
  square: d3.symbolSquare,
  triangle: d3.symbolTriangle,
  diamond: d3.symbolDiamond,
  star: d3.symbolStar,
  cross: d3.symbolCross,
  wye: d3.symbolWye,
  hexagon: d3.symbolDiamond2,
  plus: d3.symbolPlus,
  times: d3.symbolTimes,
};

// Controls --------------------------------------------------------------------------------------------

function choose(label, key, options, write = (value) => value) {
  const made = el(
    "select",
    { onchange: () => set({ [key]: made.value }) },
    options.map((value) => el("option", { value }, short(String(write(value)), 80))),
  );
  made.value = state[key];
  made.id = "choose-" + key;
  return el("label", {}, label, made);
}

function tick(label, key) {
  const made = el("input", {
    type: "checkbox",
    checked: state[key],
    id: "tick-" + key,
    onchange: () => set({ [key]: made.checked }),
  });
  return el("label", {}, made, label);
}
