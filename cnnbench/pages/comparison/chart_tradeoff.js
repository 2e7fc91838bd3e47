// The scatter plot of the metric against a cost, with the Pareto front of each data set.
// Uses data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js.

/** Return the Pareto fronts of rows with a score, one a data set: a cost decides, `better` where more of it is. */
const fronts = (rows, cost, better) =>
  d3.groups(rows, (row) => row.data).map(([, part]) => front(part, cost, better));

function front(rows, cost, better) {
  const best = [];
  const inOrder = d3.sort(
    rows,
    (a, b) =>
      (better ? -1 : 1) * (cost(a) - cost(b)) || (metric.higher ? -1 : 1) * (a.score.mean - b.score.mean),
  );
  for (const row of inOrder) {
    const last = best.at(-1)?.score.mean;
    if (last === undefined || (metric.higher ? row.score.mean > last : row.score.mean < last)) best.push(row);
  }
  return best;
}

function drawTradeoff(rows) {
  const costs = Object.keys(data.figures).filter(
    (key) =>
      key !== data.metric &&
      !/^(best|data|epochs|test|val)/.test(key) &&
      data.rows.some((row) => row.figures[key] > 0),
  );
  const section = byId("tradeoff");
  section.hidden = costs.length === 0;
  if (section.hidden) return;
  if (!costs.includes(state.x)) state.x = costs.includes("params") ? "params" : costs[0];
  if (!groupings.includes(state.colour)) state.colour = "family";
  controlsOf("tradeoff").replaceChildren(
    choose("against", "x", costs, (key) => data.figures[key].label),
    tick("logarithmic", "logx"),
    choose("colour", "colour", groupings, axisName),
  );
  section.querySelector("h2").textContent = metric.share
    ? "Accuracy against cost"
    : `${metric.label} against the rest`;

  const cost = data.figures[state.x].label;
  const x = (row) => row.figures[state.x];
  const y = (row) => scale * row.score.mean;
  const colour = (row) => group(row, state.colour);
  const scored = rows.filter((row) => row.score && x(row) > 0);
  const best = fronts(scored, x, data.figures[state.x].higher).flat(),
    groups = [...new Set(rows.map(colour))].sort();
  // Times and speeds spread over orders of magnitude between models: both axes are logarithmic. An interval
  // that reaches zero ends below everything that was measured.
  const log = state.logx && metric.ratio;
  const floor = d3.min(scored, (row) =>
    Math.min(row.score.mean, row.score.low > 0 ? row.score.low : Infinity),
  );
  const low = (row) => scale * (log ? Math.max(row.score.low, floor / 2) : row.score.low);
  const marks = [
    Plot.line(best, {
      x,
      y,
      z: "data",
      curve: "step-after", // the best score at a cost stays the best until the next one's cost is reached
      stroke: "currentColor",
      strokeOpacity: 0.45,
      strokeDasharray: "4 3",
    }),
    Plot.ruleX(
      scored.filter((row) => row.score.low !== null),
      { x, y1: low, y2: (row) => scale * row.score.high, stroke: colour, strokeOpacity: 0.5 },
    ),
    Plot.dot(scored, {
      x,
      y,
      fill: colour,
      symbol: colour,
      r: 4.5,
      tip: true,
      title: (row) =>
        `${label(row)}\n${metric.label} ${interval(row.score)}${unit}\n${cost} ${shown(state.x, x(row))}\nn = ${row.n}`,
    }),
    Plot.text(section.clientWidth > 600 ? best : [], {
      x,
      y,
      text: (row) => short(label(row), 28),
      dy: -12,
      fontSize: 11,
      stroke: "var(--paper)",
      fill: "currentColor",
    }),
  ];
  const options = {
    height: 380,
    grid: true,
    insetLeft: 45,
    insetRight: 45,
    insetTop: 12,
    x: { type: state.logx ? "log" : "linear", label: cost, tickFormat: "~s" },
    y: log
      ? { type: "log", label: metric.label + unit, tickFormat: /per_s|flops/.test(data.metric) ? "~s" : "~r" }
      : { label: metric.label + unit, nice: true },
    color: { domain: groups, range: COLOURS },
    symbol: { domain: groups, range: SYMBOL_NAMES },
  };
  const caption = `${metric.label}${unit} with 95 % interval against ${cost}. Dashed and labelled: the Pareto front, configurations that no other on the same data beats in both.`;
  const columns = [
    { name: "configuration", value: label },
    { name: cost, value: x, text: (row) => shown(state.x, x(row)), number: true },
    {
      name: metric.label,
      value: (row) => row.score.mean,
      text: (row) => interval(row.score) + unit,
      number: true,
    },
    { name: "Pareto front", value: (row) => (best.includes(row) ? "yes" : "") },
  ];
  chart("tradeoff", caption, { marks, options, legend: legendOf(groups), columns, rows: scored });
}
