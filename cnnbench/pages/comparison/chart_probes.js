// What probes measured: curves or a heat map of the layers over the steps, configurations side by side.
// Uses d3, Plot, data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js.

const BESIDE = 4; // configurations that are shown at a time

/** Return what can be shown, as `activations: dead` and, for pictures, `field: end`. */
const probed = () => [
  ...new Set(
    data.probes.flatMap(({ series, field }) => [
      ...Object.entries(series).flatMap(([name, { quantities }]) =>
        Object.keys(quantities).map((quantity) => `${name}: ${quantity}`),
      ),
      ...(field ? ["field: start", "field: end"] : []),
    ]),
  ),
];

/** Return a point for each thing and step of a configuration: without a value, a layer has none at all. */
function probePoints(measured, config) {
  const [name, quantity] = state.probe.split(": ");
  if (name === "field")
    return measured.field[quantity].flatMap((line, y) =>
      line.map((value, x) => ({ config, thing: y, step: x, value })),
    );
  const { steps, things, quantities } = measured.series[name];
  return things.flatMap((thing, i) =>
    quantities[quantity][i].every((value) => value === null)
      ? []
      : steps.map((step, j) => ({ config, thing, step, value: quantities[quantity][i][j] })),
  );
}

function drawProbes(rows) {
  const choices = probed();
  const section = byId("probes");
  section.hidden = choices.length === 0;
  if (section.hidden) return;
  if (!choices.includes(state.probe)) state.probe = choices[0];
  const [name, quantity] = state.probe.split(": "),
    picture = name === "field";
  controlsOf("probes").replaceChildren(
    choose("quantity", "probe", choices),
    ...(picture ? [] : [tick("heat map", "probeMap"), tick("log scale", "probeLog")]),
  );
  const having = data.probes.filter(
    ({ row, series, field }) =>
      rows.includes(data.rows[row]) && (picture ? field : series[name]?.quantities[quantity]),
  );
  const shownRows = having.slice(0, BESIDE);
  const points = shownRows.flatMap((measured) => probePoints(measured, label(data.rows[measured.row])));
  const usable = points.filter(({ value }) => value !== null && (picture || !state.probeLog || value > 0));
  const things = [...new Set(points.map(({ thing }) => thing))],
    about = picture ? "row" : (shownRows[0]?.series[name].about ?? "");
  const map = picture || state.probeMap;
  const runs = d3.sum(shownRows, ({ series, field }) => (picture ? field : series[name]).runs);
  const four = (value) => (value === null ? "-" : value.toPrecision(4));
  const [low, high] = d3.extent(usable, ({ value }) => value);
  const caption = [
    picture
      ? `Effective receptive field of the middle of the last map, at the ${quantity} of the training, in percent of its largest value.`
      : `${name}: ${quantity} of each ${about} over the optimizer steps.`,
    `Means over the runs of each configuration (${runs} in all).`,
    map && usable.length ? `Dark: ${four(low)}, light: ${four(high)}.` : "",
    having.length > BESIDE ? `First ${BESIDE} of ${having.length} configurations that were measured.` : "",
  ]
    .filter(Boolean)
    .join(" ");
  const title = ({ config, thing, step, value }) =>
    picture
      ? `${config}\nrow ${thing}, column ${step}: ${value} %`
      : `${config}\n${about} ${thing}, step ${step}: ${four(value)}`;
  const tip = Plot.tip(
    usable,
    Plot.pointer({ x: "step", y: map ? "thing" : "value", fx: "config", title }),
  );
  const marks = map
    ? [Plot.cell(usable, { x: "step", y: "thing", fx: "config", fill: "value", inset: 0 }), tip]
    : [
        Plot.frame({ stroke: "currentColor", strokeOpacity: 0.2 }),
        Plot.line(usable, { x: "step", y: "value", z: "thing", fx: "config", stroke: "thing" }),
        tip,
      ];
  const scale = state.probeLog && !picture ? "log" : "linear";
  const steps = [...new Set(usable.map(({ step }) => step))].sort(d3.ascending),
    every = Math.ceil(steps.length / 5);
  const options = map
    ? {
        height: picture ? 320 : 80 + 22 * things.length,
        marginLeft: picture ? 20 : 130,
        x: {
          label: picture ? null : "step",
          domain: steps,
          ticks: steps.filter((_, i) => i % every === 0),
          padding: 0,
        },
        y: {
          label: null,
          domain: things,
          ticks: picture ? [] : things,
          tickFormat: (thing) => short(String(thing), 18),
          padding: 0,
        },
        color: { type: scale, scheme: "viridis" },
      }
    : {
        height: 340,
        marginBottom: 40,
        grid: true,
        x: { label: "step", ticks: 5 },
        y: { type: scale, label: quantity, nice: true },
        color: { type: "ordinal", domain: things, range: COLOURS },
      };
  const columns = [
    { name: "configuration", value: ({ config }) => config },
    { name: about, value: ({ thing }) => thing },
    { name: picture ? "column" : "step", value: ({ step }) => step, number: true },
    { name: quantity, value: ({ value }) => value, text: ({ value }) => four(value), number: true },
  ];
  const legend = map ? undefined : legendOf(things.map(String), true);
  chart("probes", caption, {
    marks,
    options: { ...options, fx: { label: null, tickFormat: (config) => short(config, 40) } },
    legend,
    columns,
    rows: points,
  });
}
