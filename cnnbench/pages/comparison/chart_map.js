// The heat map of architectures against the values of one setting.
// Uses d3, Plot, data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js.

/** Return the cells of the map, each with the rows of one architecture and one value of the axis. */
const mapCells = (rows, axis) =>
  d3
    .flatRollup(
      rows,
      (members) => ({
        mean: d3.mean(members, (row) => row.score?.mean),
        n: d3.sum(members, (row) => row.n),
        runs: d3.sum(members, (row) => row.of),
        scored: members.filter((row) => row.score).length,
        of: members.length,
      }),
      (row) => row.settings["arch.name"],
      (row) => row.settings[axis],
    )
    .map(([arch, value, cell]) => ({ arch, value, ...cell }));

/** Return the values of an axis, in the order of its effects. */
function inOrderOfEffects(values, axis) {
  const effects = data.effects.filter((effect) => effect.axis === axis);
  const order = [...new Set(effects.flatMap((effect) => [effect.baseline, effect.value]))];
  return d3.sort(new Set(values), (value) => order.indexOf(value));
}

function drawMap(rows) {
  const axes = data.axes.filter((axis) => axis !== "arch.name" && !data.select.includes(axis));
  const section = byId("map");
  section.hidden = axes.length === 0 || !data.axes.includes("arch.name");
  if (section.hidden) return;
  if (!axes.includes(state.map)) state.map = axes.find((axis) => axis.startsWith("ops.")) ?? axes[0];
  controlsOf("map").replaceChildren(choose("setting", "map", axes, axisName));

  const cells = mapCells(rows, state.map);
  const setting = axisName(state.map);
  const most = d3.max(cells, (cell) => cell.scored);
  // Such a cell is not a mean over the same settings and seeds as its neighbours.
  const partial = (cell) => cell.n < cell.runs || cell.scored < most;
  const runs = (cell) => outOf(cell.n, cell.runs);
  const configurations = (cell) => outOf(cell.scored, cell.of);
  // Times and speeds spread over orders of magnitude.
  const means = d3.extent(cells, (cell) => cell.mean),
    fill = (metric.ratio && means[0] > 0 ? d3.scaleSequentialLog : d3.scaleSequential)(
      means,
      d3.interpolateViridis,
    );
  const ink = (cell) =>
    cell.mean === undefined ? "currentColor" : d3.lab(fill(cell.mean)).l < 60 ? "#fff" : "#000";
  const values = inOrderOfEffects(
      cells.map((cell) => cell.value),
      state.map,
    ),
    archs = [...new Set(cells.map((cell) => cell.arch))].sort();
  const marks = [
    Plot.cell(
      cells.filter((cell) => cell.scored),
      { x: "value", y: "arch", fill: (cell) => fill(cell.mean), inset: 1 },
    ),
    Plot.text(cells, {
      x: "value",
      y: "arch",
      text: (cell) =>
        (cell.scored ? (metric.share ? (100 * cell.mean).toFixed(1) : number(cell.mean)) : "-") +
        (partial(cell) ? "†" : ""),
      fill: ink,
      fontSize: 12,
    }),
    Plot.tip(
      cells,
      Plot.pointer({
        x: "value",
        y: "arch",
        title: (cell) =>
          `${short(cell.arch)}, ${setting}=${short(cell.value)}: ${number(cell.mean)}\nruns with a result: ${runs(cell)}\nconfigurations: ${configurations(cell)}`,
      }),
    ),
  ];
  const options = {
    height: 60 + 30 * archs.length,
    marginLeft: 130,
    x: { label: null, axis: "top", domain: values, tickFormat: (value) => short(value, 14) },
    y: { label: null, domain: archs, tickFormat: (value) => short(value, 18) },
  };
  const caption =
    `Mean ${metric.label}${unit} of each architecture with each value of ${setting}, averaged over the other varied settings.` +
    (cells.some(partial)
      ? ` †: some runs have no result, or the cell covers fewer configurations than others do (at most ${most}).`
      : "");
  const columns = [
    { name: "architecture", value: (cell) => cell.arch },
    { name: setting, value: (cell) => cell.value },
    {
      name: metric.label,
      value: (cell) => cell.mean,
      text: (cell) => number(cell.mean) + unit,
      number: true,
    },
    { name: "runs", value: (cell) => cell.n, text: runs, number: true },
    { name: "configurations", value: (cell) => cell.scored, text: configurations, number: true },
  ];
  chart("map", caption, { marks, options, columns, rows: cells });
}
