// The head, the methods, and the order in which everything is drawn.
// Uses d3 and all the other scripts.

const DEFAULTS = {
  q: "",
  off: {},
  sort: {},
  x: "",
  logx: true,
  axis: "",
  over: "",
  response: "",
  map: "",
  curve: "val/acc",
  logy: false,
  smooth: 0,
  colour: "",
  best: 10,
  by: "configuration",
  probe: "",
  probeMap: false,
  probeLog: false,
  a: "",
  b: "",
  tradeoffTable: false,
  responseTable: false,
  effectsTable: false,
  mapTable: false,
  curvesTable: false,
  probesTable: false,
};
// Filtered values by axis; column and direction by table.
const EXAMPLES = { off: [""], sort: ["", false] };

function drawHead() {
  const total = d3.sum(Object.values(data.states));
  byId("counts").replaceChildren(
    `${counted(total, "run")}: `,
    ...Object.entries(data.states).flatMap(([state, n], i) => [
      i ? ", " : "",
      el("span", { className: "state-" + state }, `${n} ${state}`),
    ]),
  );
  byId("findings").replaceChildren(...listOf(data.findings).children);
  byId("notes").replaceChildren(...listOf(data.notes).children);
}

function drawMethods() {
  const constant = Object.entries(data.constant).map(([key, value]) => `${key}=${value}`);
  bodyOf("methods").replaceChildren(
    listOf(data.methods),
    el("p", { className: "faint" }, "Equal in all rows: " + (constant.join("  ") || "nothing")),
  );
}

function draw() {
  const [rows, runs] = [filteredRows(), filteredRuns()];
  keepingFocus(() => {
    drawMatches(rows, runs);
    drawRows(rows);
    drawTradeoff(rows);
    drawResponse(runs);
    drawEffects();
    drawMap(rows);
    drawCurves(rows);
    drawProbes(rows);
    drawPair();
    drawRuns(runs);
    drawErrors(runs);
  });
}

startState(DEFAULTS, EXAMPLES, draw);
drawHead();
drawFilters();
drawMethods();
draw();
document.documentElement.dataset.ready = "yes";
