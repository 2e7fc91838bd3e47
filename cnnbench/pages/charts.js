// Charts of Observable Plot, each with a caption, a legend and its data as a table.
// Uses d3, Plot, dom.js, state.js, table.js.

/**
 * Draw a chart into the section `key`.
 * marks, options: for Plot.
 * legend: an element, see legendOf; may be left out.
 * columns, rows: for the table.
 */
function chart(key, caption, { marks, options, legend, columns, rows }) {
  const host = bodyOf(key);
  if (rows.length === 0)
    return host.replaceChildren(el("p", { className: "faint" }, "Nothing matches the filters."));
  const width = Math.max(300, Math.min(host.clientWidth || 900, 1200));
  const image = Plot.plot({ width, marginLeft: 60, ...options, ariaLabel: caption, marks });
  image.setAttribute("role", "img");
  // An image has one name for screen readers; Plot names its groups, too.
  for (const group of image.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");
  const details = el(
    "details",
    { className: "table", open: state[key + "Table"] ?? false },
    el("summary", {}, "Data as a table"),
  );
  const fill = () => details.childElementCount === 1 && details.append(...table(key, caption, columns, rows));
  if (details.open) fill();
  details.addEventListener("toggle", () => {
    state[key + "Table"] = details.open;
    if (details.open) fill();
  });
  host.replaceChildren(el("figure", {}, el("figcaption", {}, caption), legend ?? "", image), details);
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
const SYMBOLS = {
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
const SYMBOL_NAMES = Object.keys(SYMBOLS);

/** Make a legend of colours and, except for lines, symbols: not everybody can tell colours apart. */
function legendOf(groups, lines = false) {
  const sample = (i) => {
    const svg = d3.create("svg").attr("width", 16).attr("height", 12).attr("aria-hidden", "true");
    const colour = COLOURS[i % COLOURS.length];
    if (lines)
      svg
        .append("line")
        .attr("x1", 0)
        .attr("x2", 16)
        .attr("y1", 6)
        .attr("y2", 6)
        .attr("stroke-width", 3)
        .attr("stroke", colour);
    else
      svg
        .append("path")
        .attr("transform", "translate(8,6)")
        .attr("fill", colour)
        .attr("d", d3.symbol(SYMBOLS[SYMBOL_NAMES[i % SYMBOL_NAMES.length]], 60)());
    return svg.node();
  };
  return el(
    "ul",
    { className: "legend", "aria-label": "Legend" },
    groups.map((group, i) => el("li", {}, sample(i), short(group, 32))),
  );
}

// Charts are as wide as the page. A phone's address bar changes the height alone.
let drawnAt = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== drawnAt) {
    drawnAt = innerWidth;
    set({});
  }
});
