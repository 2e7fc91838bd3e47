// The forest plot of the effects of one setting.
// Uses d3, Plot, data.js, dom.js, state.js, controls.js, charts.js, comparison/wording.js.

/** Return an axis range that holds all mean ratios; intervals of a few pairs may extend beyond it. */
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
  controlsOf("effects").replaceChildren(choose("setting", "axis", axes, axisName));

  const effects = data.effects.filter((effect) => effect.axis === state.axis);
  const overFamilies = new Set(effects.filter(({ families }) => families > 1).map(({ value }) => value));
  const name = ({ value, family, families }, most = Infinity, mostFamily = most) =>
    short(value, most) + (families > 1 ? " · all families" : family ? " · " + short(family, mostFamily) : "");
  const sized = effects.filter((effect) => effect.size),
    tickOf = new Map(sized.map((effect) => [name(effect), name(effect, narrow.matches ? 12 : 24, 16)]));
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
      y: (effect) => name(effect),
      x1: (effect) => scale * effect.size.low,
      x2: (effect) => scale * effect.size.high,
      stroke: ink,
      strokeWidth: (effect) => (main(effect) ? 3 : 1.5),
    }),
    Plot.dot(sized, {
      y: (effect) => name(effect),
      x: (effect) => scale * effect.size.mean,
      fill: ink,
      r: (effect) => (main(effect) ? 6 : 3.5),
      symbol: (effect) => (main(effect) ? "diamond" : "circle"),
      tip: true,
      title: (effect) => `${name(effect, 60)} against ${effect.baseline}\n${effect.words}`,
    }),
  ];
  const longest = d3.max(tickOf.values(), (text) => text.length) ?? 0;
  const options = {
    height: 60 + 24 * tickOf.size,
    marginLeft: 20 + 6.8 * longest,
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
      : { label: metric.share ? "percentage points" : metric.label, tickSpacing: narrow.matches ? 40 : 80 },
    y: { domain: [...tickOf.keys()], label: null, tickFormat: (text) => tickOf.get(text) },
    r: { type: "identity" },
  };
  const caption = [
    `${metric.label} of each value of ${axisName(state.axis)} ${metric.ratio ? "divided by" : "minus"} that of ${effects[0].baseline}${metric.share ? ", in percentage points" : ""}:`,
    `${metric.ratio ? "geometric mean" : "mean"} over pairs of runs that agree in seed and all other settings${data.select.length ? " except tuned ones" : ""}${overFamilies.size ? " (all families: over the families)" : ""}, with 95 % confidence interval${metric.ratio ? ", which may extend beyond the axis" : ""}.`,
    "Green: better, red: worse, after Holm's correction for the number of comparisons; grey: no difference shown.",
    "Filters do not apply to this chart.",
  ].join(" ");
  const columns = [
    { name: "value", value: (effect) => effect.value },
    {
      name: "family",
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
      name: "p (corrected)",
      value: (effect) => effect.p,
      text: ({ p }) => (p === null ? "-" : p < 0.001 ? "<0.001" : p.toFixed(3)),
      number: true,
    },
    { name: "result", value: (effect) => effect.words },
  ];
  chart("effects", caption, { marks, options, columns, rows: effects });
}
