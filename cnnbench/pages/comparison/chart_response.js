// The curves of a metric over a numeric setting: a point per run, a line through the means.
// Uses d3, Plot, data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js, comparison/filters.js.

const CURVES = 10; // as many as there are colours

/** Return the curves that pass the filters, with the points that have a run left; the best are first. */
function responseCurves(response, runs) {
  const passing = new Set(runs.map((run) => run.path));
  const value = (run) => (run.counts ? run.figures[state.response] : undefined);
  return response.curves
    .map((curve) => ({
      ...curve,
      points: curve.points
        .map((point) => ({
          ...point,
          runs: point.runs.filter((path) => passing.has(path)).map((path) => RUN_AT.get(path)),
        }))
        .filter((point) => point.runs.length)
        .map((point) => {
          const scored = point.runs.filter((run) => value(run) !== undefined);
          return {
            ...point,
            curve: curve.name,
            scored,
            mean: d3.mean(scored, value),
            extent: d3.extent(scored, value),
            diverged: point.runs.filter((run) => run.state === "diverged").length,
          };
        }),
    }))
    .filter((curve) => curve.points.length);
}

/** Number the points in which runs diverged, so that those of one value stand above each other. */
function stacked(points) {
  const height = new Map();
  return points.map((point) => {
    const level = height.get(point.value) ?? 0;
    height.set(point.value, level + 1);
    return { ...point, level };
  });
}

function drawResponse(runs) {
  const section = byId("response");
  section.hidden = data.responses.length === 0;
  if (section.hidden) return;
  const axes = data.responses.map(({ axis }) => axis);
  if (!axes.includes(state.over)) state.over = axes[0];
  const response = data.responses.find(({ axis }) => axis === state.over);
  const metrics = [
    ...new Set([
      response.metric,
      data.metric,
      ...Object.keys(data.figures).filter((key) => /^(best|test)\//.test(key) && key !== "best/epoch"),
    ]),
  ].filter((key) => data.figures[key]);
  if (!metrics.includes(state.response)) state.response = metrics[0] ?? response.metric;
  controlsOf("response").replaceChildren(
    choose("setting", "over", axes),
    choose("metric", "response", metrics, (key) => data.figures[key].label),
  );

  const {
    label: name,
    unit: units,
    share,
    ratio,
  } = data.figures[state.response] ?? { label: state.response };
  const factor = share ? 100 : 1;
  const all = responseCurves(response, runs);
  const curves = d3.sort(all.slice(0, CURVES), (a, b) =>
    a.name.localeCompare(b.name, "en", { numeric: true }),
  );
  const names = curves.map((curve) => curve.name);
  const points = curves.flatMap((curve) => curve.points),
    means = points.filter((point) => point.scored.length),
    single = means.flatMap((point) =>
      point.scored.map((run) => ({ ...point, run, y: factor * run.figures[state.response] })),
    ),
    lost = stacked(points.filter((point) => point.diverged));
  const best = curves.flatMap((curve) =>
    means.filter((point) => point.curve === curve.name && point.value === curve.best),
  );
  const near = curves.length === 1 && response.joined ? curves[0].within_noise : null;
  const levels = d3.max(lost, (point) => point.level + 1) ?? 0;
  const values = [...new Set(points.map((point) => point.value))].sort(d3.ascending);
  const few = values.length <= 12 && !narrow.matches;
  const y = (point) => factor * point.mean;
  const summary = (point) =>
    [
      point.curve ? short(point.curve, 60) : "",
      `${state.over}=${point.value}: ${shown(state.response, point.mean)}`,
      point.scored.length > 1 ? `${point.extent.map((end) => shown(state.response, end)).join(" to ")}` : "",
      `n = ${outOf(point.scored.length, point.runs.length)}${point.diverged ? `, ${point.diverged} diverged` : ""}`,
    ]
      .filter(Boolean)
      .join("\n");
  const marks = [
    near && near[0] < near[1]
      ? Plot.rect([near], { x1: near[0], x2: near[1], fill: "var(--accent)", fillOpacity: 0.12 })
      : null,
    response.joined
      ? Plot.line(means, { x: "value", y, z: "curve", stroke: "curve", strokeWidth: 1.8 })
      : null,
    Plot.dot(single, {
      x: "value",
      y: "y",
      stroke: "curve",
      symbol: "curve",
      r: response.joined ? 3 : 4.5,
      strokeOpacity: response.joined ? 0.6 : 1,
    }),
    response.joined ? Plot.dot(means, { x: "value", y, fill: "curve", symbol: "curve", r: 4.5 }) : null,
    Plot.text(response.joined ? best : [], {
      x: "value",
      y: (point) => factor * point.extent[1],
      text: (point) => (narrow.matches ? "★" : `★ ${point.value}`),
      dy: -12,
      fontWeight: 600,
      fill: "currentColor",
      stroke: "var(--paper)",
    }),
    ...d3
      .groups(lost, (point) => point.level)
      .map(([level, members]) =>
        Plot.dot(members, {
          x: "value",
          frameAnchor: "bottom",
          dy: -8 - 11 * level,
          symbol: "times",
          stroke: "curve",
          strokeWidth: 2.5,
          r: 5,
        }),
      ),
    Plot.text(lost.length ? ["diverged"] : [], {
      frameAnchor: "bottom-left",
      textAnchor: "end", // in the margin, where no cross can be
      dx: -6,
      dy: -3,
      fill: "var(--faint)",
      text: (text) => text,
    }),
    Plot.tip(means, Plot.pointer({ x: "value", y, title: summary })),
    Plot.tip(
      lost.filter((point) => !point.scored.length),
      Plot.pointerX({ x: "value", frameAnchor: "bottom", title: summary }),
    ),
  ];
  const options = {
    height: 380,
    grid: true,
    marginBottom: 40,
    insetLeft: 24,
    insetRight: 24,
    insetTop: 24,
    insetBottom: lost.length ? 16 + 11 * levels : 6,
    x: {
      type: response.logarithmic ? "log" : "linear",
      label: state.over,
      ...(few ? { ticks: values } : { ticks: 5 }),
      tickFormat: (value) => String(Number(value.toPrecision(4))),
    },
    y: ratio
      ? { type: "log", label: name, tickFormat: "~s" }
      : { label: [name, units].filter(Boolean).join(" "), nice: true },
    color: { domain: names, range: COLOURS },
    symbol: { domain: names, range: SYMBOL_NAMES },
  };
  const caption = [
    `${name}${units ? ` ${units}` : ""} over ${state.over}: a point for each run` +
      (response.joined
        ? `, the line through the means of the finished runs${names.length > 1 ? " that agree in all other settings" : ""}.`
        : "; runs differ in other settings, too."),
    response.joined && best.length
      ? "★: the best value" +
        (response.metric === state.response ? "." : `, by ${data.figures[response.metric].label}.`)
      : "",
    near && near[0] < near[1] ? "Shaded: values within noise of it." : "",
    lost.length ? "×: values with runs that diverged." : "",
    all.length > curves.length
      ? `The best ${curves.length} of ${all.length} curves; filters leave others.`
      : "",
    response.left.length ? `Not shown: ${response.left.map((text) => short(text, 20)).join(", ")}.` : "",
  ]
    .filter(Boolean)
    .join(" ");
  const columns = [
    ...(names.length > 1 ? [{ name: "curve", value: (point) => point.curve }] : []),
    { name: state.over, value: (point) => point.value, number: true },
    {
      name: `mean ${name}`,
      value: (point) => point.mean ?? null,
      text: (point) => shown(state.response, point.mean),
      number: true,
    },
    {
      name: "lowest",
      value: (point) => point.extent[0] ?? null,
      text: (point) => shown(state.response, point.extent[0]),
      number: true,
    },
    {
      name: "highest",
      value: (point) => point.extent[1] ?? null,
      text: (point) => shown(state.response, point.extent[1]),
      number: true,
    },
    {
      name: "runs",
      value: (point) => point.scored.length,
      text: (point) => outOf(point.scored.length, point.runs.length),
      number: true,
    },
    { name: "diverged", value: (point) => point.diverged, number: true },
  ];
  const legend = names.length > 1 ? legendOf(names) : null;
  chart("response", caption, { marks, options, legend, columns, rows: points });
}
