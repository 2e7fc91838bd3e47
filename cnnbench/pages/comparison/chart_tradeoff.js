// The scatter plot of the metric against a cost, with the Pareto front of each data set.
// Uses d3, Plot, data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js.

/** Return the Pareto front of each data set. cost(row): its position on the x axis; better: higher is better. */
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
  if (!groupings.includes(state.colour)) state.colour = groupings[0];
  controlsOf("tradeoff").replaceChildren(
    choose("x axis", "x", costs, (key) => data.figures[key].label),
    tick("log scale", "logx"),
    choose("colour by", "colour", groupings, axisName),
  );
  section.querySelector("h2").textContent = metric.share
    ? "Accuracy against cost"
    : `${metric.label} against other metrics`;

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
  const labelled = section.clientWidth > 600 ? best : [];
  const frontLabel = (row) => short(label(row), 28);
  // Half a label fits between the outermost points and the ends of the axis.
  const inset = d3.max(labelled, (row) => Math.max(45, 3.2 * frontLabel(row).length)) ?? 20;
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
    Plot.text(labelled, {
      x,
      y,
      text: frontLabel,
      dy: -12,
      fontSize: 11,
      stroke: "var(--paper)",
      fill: "currentColor",
    }),
  ];
  const options = {
    height: 380,
    grid: true,
    marginBottom: 40,
    insetLeft: inset,
    insetRight: inset,
    insetTop: 12,
    insetBottom: log ? 12 : 0,
    x: { type: state.logx ? "log" : "linear", label: cost, tickFormat: "~s" },
    y: log
      ? { type: "log", label: metric.label + unit, tickFormat: /per_s|flops/.test(data.metric) ? "~s" : "~r" }
      : { label: metric.label + unit, nice: true },
    color: { domain: groups, range: COLOURS },
    symbol: { domain: groups, range: SYMBOL_NAMES },
  };
  const caption =
    `${metric.label}${unit}, mean and 95 % confidence interval, against ${cost}. ` +
    `Dashed${labelled.length ? " and labelled" : ""}: the Pareto front; no other ${rowNoun} on the same data set is at least as good on both axes.`;
  const columns = [
    { name: rowNoun, value: label },
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
