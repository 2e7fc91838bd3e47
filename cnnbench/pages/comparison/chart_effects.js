// The forest plot of the effects of one setting.
// Uses data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js.

/** Return a range of ratios with all means: intervals of a few pairs would leave no room for them. */
function ratioDomain(effects) {
  const ends = effects.flatMap(({ size }) => [size.low ?? size.mean, size.high ?? size.mean]);
  const [least, most] = d3.extent(effects, ({ size }) => size.mean);
  const reach = Math.max(10, most / least);
  return [Math.max(d3.min(ends), least / reach), Math.min(d3.max(ends), most * reach)];
}

function drawEffects() {
  const axes = [...new Set(data.effects.map((effect) => effect.axis))];
  const section = byId("effects");
  section.hidden = axes.length === 0;
  if (section.hidden) return;
  if (!axes.includes(state.axis)) state.axis = axes.find((axis) => axis !== "arch.name") ?? axes[0];
  controlsOf("effects").replaceChildren(choose("of", "axis", axes, axisName));

  const effects = data.effects.filter((effect) => effect.axis === state.axis);
  const overFamilies = new Set(effects.filter(({ families }) => families > 1).map(({ value }) => value));
  const name = (effect) =>
    short(effect.value, 24) +
    (effect.families > 1 ? " · all families" : effect.family ? " · " + short(effect.family, 16) : "");
  const sized = effects.filter((effect) => effect.size),
    order = [...new Set(sized.map(name))];
  const ranged = sized.filter((effect) => effect.size.low !== null);
  const main = (effect) => effect.families > 1 || !overFamilies.has(effect.value);
  const ink = (effect) =>
    effect.shown
      ? effect.size.mean > unchanged === metric.higher
        ? "var(--good)"
        : "var(--bad)"
      : "var(--faint)";
  const marks = [
    Plot.ruleX([unchanged], { strokeOpacity: 0.6 }),
    Plot.ruleY(ranged, {
      clip: true,
      y: name,
      x1: (effect) => scale * effect.size.low,
      x2: (effect) => scale * effect.size.high,
      stroke: ink,
      strokeWidth: (effect) => (main(effect) ? 3 : 1.5),
    }),
    Plot.dot(sized, {
      y: name,
      x: (effect) => scale * effect.size.mean,
      fill: ink,
      r: (effect) => (main(effect) ? 6 : 3.5),
      symbol: (effect) => (main(effect) ? "diamond" : "circle"),
      tip: true,
      title: (effect) => `${name(effect)} against ${effect.baseline}\n${effect.words}`,
    }),
  ];
  const options = {
    height: 60 + 24 * order.length,
    marginLeft: 190,
    marginBottom: 40,
    grid: true,
    x: metric.ratio
      ? {
          label: `${metric.label}, ratio`,
          type: "log",
          domain: ratioDomain(sized),
          ticks: 5,
          tickFormat: "~r",
        }
      : { label: metric.share ? "points" : metric.label },
    y: { domain: order, label: null },
    r: { type: "identity" },
  };
  const caption =
    `${metric.label} of each value of ${axisName(state.axis)} ${metric.ratio ? "over" : "minus"} that of ${effects[0].baseline}, ${metric.share ? "in points, " : ""}paired by everything else, with 95 % intervals. ` +
    (metric.ratio ? "Intervals may be wider than the picture. " : "") +
    "Coloured: a difference after correction for the number of comparisons. Filters do not change this chart.";
  const columns = [
    { name: "value", value: (effect) => effect.value },
    {
      name: "where",
      value: (effect) => (effect.families > 1 ? `${effect.families} families` : effect.family || "-"),
    },
    {
      name: `${metric.ratio ? "ratio" : "difference"} [95 %]`,
      value: (effect) => effect.size?.mean ?? null,
      text: (effect) => (effect.size ? interval(effect.size, change) : "-"),
      number: true,
    },
    { name: "pairs", value: (effect) => effect.pairs, number: true },
    {
      name: "p",
      value: (effect) => effect.p,
      text: ({ p }) => (p === null ? "-" : p < 0.001 ? "<0.001" : p.toFixed(3)),
      number: true,
    },
    { name: "in words", value: (effect) => effect.words },
  ];
  chart("effects", caption, { marks, options, columns, rows: effects });
}
