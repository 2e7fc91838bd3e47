// Learning curves: the mean over the runs of a row, and a band from the lowest to the highest.
// Uses d3, Plot, data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js.

/** Return the exponential moving average, corrected for its start. Missing values stay missing. */
function smoothed(values, weight) {
  let sum = 0,
    mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + 1 - weight;
    return sum / mass;
  });
}

/** Return a point for each row and epoch. */
function curvePoints(rows, factor) {
  const points = [];
  for (const row of rows) {
    const curves = row.runs
      .map((path) => data.curves[path]?.[state.curve])
      .filter(Boolean)
      .map((values) => smoothed(values, state.smooth));
    const epochs = d3.max(curves, (values) => values.length) ?? 0;
    for (let epoch = 0; epoch < epochs; epoch++) {
      const values = curves
        .map((curve) => curve[epoch])
        .filter((value) => value !== null && value !== undefined && (!state.logy || value > 0));
      if (values.length)
        points.push({
          row,
          epoch,
          mean: factor * d3.mean(values),
          low: factor * d3.min(values),
          high: factor * d3.max(values),
          n: values.length,
        });
    }
  }
  return points;
}

function drawCurveControls(keys) {
  const smoothing = el("input", {
    type: "range",
    min: 0,
    max: 0.95,
    step: 0.05,
    value: state.smooth,
    id: "smooth",
    onchange: () => set({ smooth: Number(smoothing.value) }),
  });
  const first = el("input", {
    type: "number",
    min: 1,
    max: data.rows.length,
    value: Math.min(state.best, data.rows.length),
    id: "best",
    onchange: () => set({ best: Math.max(1, Number(first.value) || 1) }),
  });
  controlsOf("curves").replaceChildren(
    choose("metric", "curve", keys),
    tick("log scale", "logy"),
    el("label", {}, "smoothing", smoothing),
    choose("colour by", "by", ["configuration", ...groupings], axisName),
    el("label", {}, "first", first, "rows"),
  );
}

function drawCurves(rows) {
  const keys = [...new Set(Object.values(data.curves).flatMap(Object.keys))];
  const section = byId("curves");
  section.hidden = keys.length === 0;
  if (section.hidden) return;
  if (state.by !== "configuration" && !groupings.includes(state.by)) state.by = "configuration";
  if (!keys.includes(state.curve)) state.curve = keys.includes("val/acc") ? "val/acc" : keys[0];
  state.smooth = Math.min(Math.max(state.smooth, 0), 0.95);
  state.best = Math.max(state.best, 1);
  drawCurveControls(keys);

  const share = /acc|top5|f1|ece/.test(state.curve);
  const points = curvePoints(rows.slice(0, state.best), share ? 100 : 1);
  const kind = ({ row }) => (state.by === "configuration" ? label(row) : group(row, state.by)),
    groups = [...new Set(points.map(kind))],
    z = ({ row }) => data.rows.indexOf(row);
  const four = (value) => value.toPrecision(4);
  const marks = [
    Plot.areaY(
      points.filter((point) => point.n > 1),
      { x: "epoch", y1: "low", y2: "high", z, fill: kind, fillOpacity: 0.13 },
    ),
    Plot.line(points, { x: "epoch", y: "mean", z, stroke: kind, strokeWidth: 1.6 }),
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
        title: ({ row, epoch, mean, low, high, n }) =>
          `${label(row)}\nepoch ${epoch}: ${four(mean)} (${four(low)} to ${four(high)}, n = ${n})`,
      }),
    ),
  ];
  const options = {
    height: 380,
    marginBottom: 40,
    grid: true,
    x: { label: "epoch" },
    y: { type: state.logy ? "log" : "linear", label: state.curve + (share ? " %" : ""), nice: true },
    color: { domain: groups, range: COLOURS },
  };
  const caption = [
    `${state.curve}${share ? " %" : ""} per epoch: mean over the runs that have a value, with a band from the lowest to the highest.`,
    state.smooth > 0 ? `Smoothed: exponential moving average of weight ${state.smooth}.` : "",
    state.best < rows.length ? `First ${state.best} of ${rows.length} rows.` : "",
  ]
    .filter(Boolean)
    .join(" ");
  const columns = [
    { name: "configuration", value: ({ row }) => label(row) },
    { name: "epoch", value: ({ epoch }) => epoch, number: true },
    { name: "mean", value: ({ mean }) => mean, text: ({ mean }) => four(mean), number: true },
    { name: "lowest", value: ({ low }) => low, text: ({ low }) => four(low), number: true },
    { name: "highest", value: ({ high }) => high, text: ({ high }) => four(high), number: true },
    { name: "n", value: ({ n }) => n, number: true },
  ];
  chart("curves", caption, { marks, options, legend: legendOf(groups, true), columns, rows: points });
}
