"use strict";
// The charts, each from the configurations that the filters leave.

const label = (row) => short(data.axes.map((axis) => row.settings[axis]).join(" "), 60);
const groupings = ["family", ...data.axes];
const outOf = (n, all) => (n === all ? String(n) : `${n} of ${all}`);
const group = (row, by) => (by === "family" ? row.family : row.settings[by]) ?? "-";

/** Of rows with an x and a score: those that no other on the same data beats in both. */
function fronts(rows, x, better) {
  return d3.groups(rows, (row) => row.data).map(([, part]) => front(part, x, better));
}

function front(rows, x, better) {
  const best = [];
  const sorted = d3.sort(
    rows,
    (a, b) => (better ? -1 : 1) * (x(a) - x(b)) || (metric.higher ? -1 : 1) * (a.score.mean - b.score.mean),
  );
  for (const row of sorted) {
    const last = best.at(-1)?.score.mean;
    if (last === undefined || (metric.higher ? row.score.mean > last : row.score.mean < last)) best.push(row);
  }
  return best;
}

function drawTradeoff(section, rows) {
  const costs = Object.keys(data.figures).filter(
    (key) =>
      key !== data.metric &&
      !/^(best|data|epochs|test|val)/.test(key) &&
      data.rows.some((row) => row.figures[key] > 0),
  );
  section.hidden = costs.length === 0;
  if (section.hidden) return;
  if (!costs.includes(state.x)) state.x = costs.includes("params") ? "params" : costs[0];
  if (!groupings.includes(state.colour)) state.colour = "family";
  section.querySelector(".controls").replaceChildren(
    choose("against", "x", costs, (key) => data.figures[key].label),
    tick("logarithmic", "logx"),
    choose("colour", "colour", groupings, name),
  );
  // Of times and speeds, which models spread over orders of magnitude, both axes.
  const log = state.logx && metric.ratio;
  section.querySelector("h2").textContent = metric.share ? "Accuracy against cost" : `${metric.label} against the rest`;
  const x = (row) => row.figures[state.x];
  const found = rows.filter((row) => row.score && x(row) > 0);
  const lines = fronts(found, x, data.figures[state.x].higher),
    best = lines.flat(),
    groups = [...new Set(rows.map((row) => group(row, state.colour)))].sort();
  const y = (row) => scale * row.score.mean;
  // No place on a logarithmic axis: an interval that reaches zero ends below all that was measured.
  const floor = d3.min(found, (row) => Math.min(row.score.mean, row.score.low > 0 ? row.score.low : Infinity));
  const low = (row) => scale * (log ? Math.max(row.score.low, floor / 2) : row.score.low);
  const marks = [
    Plot.line(best, {
      x,
      y,
      z: "data",
      curve: "step-after", // from the cheapest on: as good as that until the next one's cost is reached
      stroke: "currentColor",
      strokeOpacity: 0.45,
      strokeDasharray: "4 3",
    }),
    Plot.ruleX(
      found.filter((row) => row.score.low !== null),
      {
        x,
        y1: low,
        y2: (row) => scale * row.score.high,
        stroke: (row) => group(row, state.colour),
        strokeOpacity: 0.5,
      },
    ),
    Plot.dot(found, {
      x,
      y,
      fill: (row) => group(row, state.colour),
      symbol: (row) => group(row, state.colour),
      r: 4.5,
      tip: true,
      title: (row) =>
        `${label(row)}\n${metric.label} ${interval(row.score)}${unit}\n${data.figures[state.x].label} ${shown(state.x, x(row))}\nn = ${row.n}`,
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
  chart(
    section.querySelector(".body"),
    "tradeoff",
    `${metric.label}${unit} with 95 % interval against ${data.figures[state.x].label}. Dashed and labelled: the Pareto front, configurations that no other on the same data beats in both.`,
    marks,
    {
      height: 380,
      grid: true,
      insetLeft: 45,
      insetRight: 45,
      insetTop: 12,
      x: { type: state.logx ? "log" : "linear", label: data.figures[state.x].label, tickFormat: "~s" },
      y: log
        ? { type: "log", label: metric.label + unit, tickFormat: /per_s|flops/.test(data.metric) ? "~s" : "~r" }
        : { label: metric.label + unit, nice: true },
      color: { domain: groups, range: COLOURS },
      symbol: { domain: groups, range: SYMBOLS },
    },
    legend(groups),
    [
      { name: "configuration", value: label },
      { name: data.figures[state.x].label, value: x, text: (row) => shown(state.x, x(row)), number: true },
      {
        name: metric.label,
        value: (row) => row.score.mean,
        text: (row) => interval(row.score) + unit,
        number: true,
      },
      { name: "Pareto front", value: (row) => (best.includes(row) ? "yes" : "") },
    ],
    found,
  );
}

/** The part of an axis of ratios that has all of them; intervals of a few pairs would leave no room for it. */
function room(effects) {
  const ends = effects.flatMap(({ size }) => [size.low ?? size.mean, size.high ?? size.mean]);
  const [least, most] = d3.extent(effects, ({ size }) => size.mean);
  const reach = Math.max(10, most / least);
  return [Math.max(d3.min(ends), least / reach), Math.min(d3.max(ends), most * reach)];
}

function drawEffects(section) {
  const axes = [...new Set(data.effects.map((effect) => effect.axis))];
  section.hidden = axes.length === 0;
  if (section.hidden) return;
  if (!axes.includes(state.axis)) state.axis = axes.find((axis) => axis !== "arch.name") ?? axes[0];
  section.querySelector(".controls").replaceChildren(choose("of", "axis", axes, name));
  const found = data.effects.filter((effect) => effect.axis === state.axis);
  const several = new Set(found.filter((effect) => effect.families > 1).map((effect) => effect.value));
  const what = (effect) =>
    short(effect.value, 24) +
    (effect.families > 1 ? " · all families" : effect.family ? " · " + short(effect.family, 16) : "");
  const measured = found.filter((effect) => effect.size),
    order = [...new Set(measured.map(what))];
  const ranged = measured.filter((effect) => effect.size.low !== null);
  const strong = (effect) => effect.families > 1 || !several.has(effect.value);
  const ink = (effect) =>
    effect.shown ? (effect.size.mean > same === metric.higher ? "var(--good)" : "var(--bad)") : "var(--faint)";
  const marks = [
    Plot.ruleX([same], { strokeOpacity: 0.6 }),
    Plot.ruleY(ranged, {
      clip: true,
      y: what,
      x1: (e) => scale * e.size.low,
      x2: (e) => scale * e.size.high,
      stroke: ink,
      strokeWidth: (e) => (strong(e) ? 3 : 1.5),
    }),
    Plot.dot(measured, {
      y: what,
      x: (e) => scale * e.size.mean,
      fill: ink,
      r: (e) => (strong(e) ? 6 : 3.5),
      symbol: (e) => (strong(e) ? "diamond" : "circle"),
      tip: true,
      title: (e) => `${what(e)} against ${e.baseline}\n${e.words}`,
    }),
  ];
  chart(
    section.querySelector(".body"),
    "effects",
    `${metric.label} of each value of ${name(state.axis)} ${metric.ratio ? "over" : "minus"} that of ${found[0].baseline}, ${metric.share ? "in points, " : ""}paired by everything else, with 95 % intervals. ` +
      (metric.ratio ? "Intervals may be wider than the picture. " : "") +
      "Coloured: a difference after correction for the number of comparisons. Filters do not change this chart.",
    marks,
    {
      height: 60 + 24 * order.length,
      marginLeft: 190,
      marginBottom: 40,
      grid: true,
      x: metric.ratio
        ? { label: `${metric.label}, ratio`, type: "log", domain: room(measured), ticks: 5, tickFormat: "~r" }
        : { label: metric.share ? "points" : metric.label },
      y: { domain: order, label: null },
      r: { type: "identity" },
    },
    null,
    [
      { name: "value", value: (e) => e.value },
      { name: "where", value: (e) => (e.families > 1 ? `${e.families} families` : e.family || "-") },
      {
        name: `${metric.ratio ? "ratio" : "difference"} [95 %]`,
        value: (e) => e.size?.mean ?? null,
        text: (e) => (e.size ? interval(e.size, changed) : "-"),
        number: true,
      },
      { name: "pairs", value: (e) => e.pairs, number: true },
      {
        name: "p",
        value: (e) => e.p,
        text: (e) => (e.p === null ? "-" : e.p < 0.001 ? "<0.001" : e.p.toFixed(3)),
        number: true,
      },
      { name: "in words", value: (e) => e.words },
    ],
    found,
  );
}

function drawMap(section, rows) {
  const axes = data.axes.filter((axis) => axis !== "arch.name" && !data.select.includes(axis));
  section.hidden = axes.length === 0 || !data.axes.includes("arch.name");
  if (section.hidden) return;
  if (!axes.includes(state.map)) state.map = axes.find((axis) => axis.startsWith("ops.")) ?? axes[0];
  section.querySelector(".controls").replaceChildren(choose("setting", "map", axes, name));
  const cells = d3
    .flatRollup(
      rows,
      (of) => ({
        mean: d3.mean(of, (row) => row.score?.mean),
        n: d3.sum(of, (row) => row.n),
        runs: d3.sum(of, (row) => row.of),
        scored: of.filter((row) => row.score).length,
        of: of.length,
      }),
      (row) => row.settings["arch.name"],
      (row) => row.settings[state.map],
    )
    .map(([arch, value, cell]) => ({ arch, value, ...cell }));
  const most = d3.max(cells, (cell) => cell.scored);
  // Its mean is over other things than that of its neighbours.
  const partial = (cell) => cell.n < cell.runs || cell.scored < most;
  const [runsOf, configurationsOf] = [
    (cell) => outOf(cell.n, cell.runs),
    (cell) => outOf(cell.scored, cell.of),
  ];
  const inks = d3.scaleSequential(
    d3.extent(cells, (cell) => cell.mean),
    d3.interpolateViridis,
  );
  const ink = (cell) =>
    cell.mean === undefined ? "currentColor" : d3.lab(inks(cell.mean)).l < 60 ? "#fff" : "#000";
  const order = [
    ...new Set(
      data.effects
        .filter((effect) => effect.axis === state.map)
        .flatMap((effect) => [effect.baseline, effect.value]),
    ),
  ];
  const values = d3.sort(new Set(cells.map((cell) => cell.value)), (value) => order.indexOf(value)),
    archs = [...new Set(cells.map((cell) => cell.arch))].sort();
  const marks = [
    Plot.cell(
      cells.filter((cell) => cell.scored),
      { x: "value", y: "arch", fill: (cell) => inks(cell.mean), inset: 1 },
    ),
    Plot.text(cells, {
      x: "value",
      y: "arch",
      text: (cell) =>
        (cell.scored ? (scale * cell.mean).toFixed(metric.share ? 1 : 3) : "-") + (partial(cell) ? "†" : ""),
      fill: ink,
      fontSize: 12,
    }),
    Plot.tip(
      cells,
      Plot.pointer({
        x: "value",
        y: "arch",
        title: (cell) =>
          `${short(cell.arch)}, ${name(state.map)}=${short(cell.value)}: ${number(cell.mean)}\nruns with a result: ${runsOf(cell)}\nconfigurations: ${configurationsOf(cell)}`,
      }),
    ),
  ];
  chart(
    section.querySelector(".body"),
    "map",
    `Mean ${metric.label}${unit} of each architecture with each value of ${name(state.map)}, over what else was varied.` +
      (cells.some(partial)
        ? ` †: runs without a result are left out of this mean, or it is over fewer configurations than others (at most ${most}).`
        : ""),
    marks,
    {
      height: 60 + 30 * archs.length,
      marginLeft: 130,
      x: { label: null, axis: "top", domain: values, tickFormat: (value) => short(value, 14) },
      y: { label: null, domain: archs, tickFormat: (value) => short(value, 18) },
    },
    null,
    [
      { name: "architecture", value: (cell) => cell.arch },
      { name: name(state.map), value: (cell) => cell.value },
      {
        name: metric.label,
        value: (cell) => cell.mean,
        text: (cell) => number(cell.mean) + unit,
        number: true,
      },
      { name: "runs", value: (cell) => cell.n, text: runsOf, number: true },
      { name: "configurations", value: (cell) => cell.scored, text: configurationsOf, number: true },
    ],
    cells,
  );
}

/** Exponential moving average, corrected for its start. */
function smoothed(values, weight) {
  let sum = 0,
    mass = 0;
  return values.map((value) =>
    value === null
      ? null
      : ((sum = weight * sum + (1 - weight) * value), (mass = weight * mass + 1 - weight), sum / mass),
  );
}

function drawCurves(section, rows) {
  const keys = [...new Set(Object.values(data.curves).flatMap(Object.keys))];
  section.hidden = keys.length === 0;
  if (section.hidden) return;
  if (state.by !== "configuration" && !groupings.includes(state.by)) state.by = "configuration";
  if (!keys.includes(state.curve)) state.curve = keys.includes("val/acc") ? "val/acc" : keys[0];
  state.smooth = Math.min(Math.max(state.smooth, 0), 0.95);
  state.best = Math.max(state.best, 1);
  const range = el("input", {
    type: "range",
    min: 0,
    max: 0.95,
    step: 0.05,
    value: state.smooth,
    id: "smooth",
    onchange: () => set({ smooth: Number(range.value) }),
  });
  const best = el("input", {
    type: "number",
    min: 1,
    max: data.rows.length,
    value: Math.min(state.best, data.rows.length),
    id: "best",
    onchange: () => set({ best: Math.max(1, Number(best.value) || 1) }),
  });
  section
    .querySelector(".controls")
    .replaceChildren(
      choose("show", "curve", keys),
      tick("logarithmic", "logy"),
      el("label", {}, "smoothing", range),
      choose("colour", "by", ["configuration", ...groupings], name),
      el("label", {}, "first", best, "rows"),
    );
  const share = /acc|top5/.test(state.curve),
    by = share ? 100 : 1;
  const points = [];
  for (const row of rows.slice(0, state.best)) {
    const runs = row.runs
      .map((path) => data.curves[path]?.[state.curve])
      .filter(Boolean)
      .map((values) => smoothed(values, state.smooth));
    const last = d3.max(runs, (values) => values.length) ?? 0;
    for (let epoch = 0; epoch < last; epoch++) {
      const values = runs
        .map((run) => run[epoch])
        .filter((value) => value !== null && value !== undefined && (!state.logy || value > 0));
      if (values.length)
        points.push({
          row,
          epoch,
          mean: by * d3.mean(values),
          low: by * d3.min(values),
          high: by * d3.max(values),
          n: values.length,
        });
    }
  }
  const kind = (row) => (state.by === "configuration" ? label(row) : group(row, state.by)),
    groups = [...new Set(points.map((point) => kind(point.row)))],
    z = (point) => data.rows.indexOf(point.row);
  const marks = [
    Plot.areaY(
      points.filter((point) => point.n > 1),
      {
        x: "epoch",
        y1: "low",
        y2: "high",
        z,
        fill: (point) => kind(point.row),
        fillOpacity: 0.13,
      },
    ),
    Plot.line(points, {
      x: "epoch",
      y: "mean",
      z,
      stroke: (point) => kind(point.row),
      strokeWidth: 1.6,
    }),
    Plot.axisX({
      label: "epoch (from 0)",
      ticks: d3.ticks(0, d3.max(points, (point) => point.epoch) ?? 0, 8).filter(Number.isInteger),
      tickFormat: "d",
    }),
    Plot.tip(
      points,
      Plot.pointer({
        x: "epoch",
        y: "mean",
        title: (point) =>
          `${label(point.row)}\nepoch ${point.epoch}: ${point.mean.toPrecision(4)} (${point.low.toPrecision(4)} to ${point.high.toPrecision(4)}, n = ${point.n})`,
      }),
    ),
  ];
  chart(
    section.querySelector(".body"),
    "curves",
    `${state.curve}${share ? " %" : ""} by epoch: mean over the seeds that got there, and a band from the lowest to the highest.`,
    marks,
    {
      height: 380,
      grid: true,
      x: { label: "epoch" },
      y: { type: state.logy ? "log" : "linear", label: state.curve + (share ? " %" : ""), nice: true },
      color: { domain: groups, range: COLOURS },
    },
    legend(groups, true),
    [
      { name: "configuration", value: (point) => label(point.row) },
      { name: "epoch", value: (point) => point.epoch, number: true },
      {
        name: "mean",
        value: (point) => point.mean,
        text: (point) => point.mean.toPrecision(4),
        number: true,
      },
      {
        name: "lowest",
        value: (point) => point.low,
        text: (point) => point.low.toPrecision(4),
        number: true,
      },
      {
        name: "highest",
        value: (point) => point.high,
        text: (point) => point.high.toPrecision(4),
        number: true,
      },
      { name: "n", value: (point) => point.n, number: true },
    ],
    points,
  );
}
