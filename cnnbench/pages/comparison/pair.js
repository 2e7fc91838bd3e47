// Two configurations side by side.
// Uses data.js, dom.js, state.js, controls.js, table.js, comparison/wording.js.

function drawPair() {
  byId("diff").hidden = data.rows.length < 2;
  if (byId("diff").hidden) return;
  // Kept by their settings, not by their position: after a reload there may be other rows.
  const ids = data.rows.map((row) => data.axes.map((axis) => row.settings[axis]).join(" "));
  if (!ids.includes(state.a)) state.a = ids[0];
  if (!ids.includes(state.b)) state.b = ids[1];
  controlsOf("diff").replaceChildren(choose("A", "a", ids), choose("B", "b", ids));
  const [a, b] = [state.a, state.b].map((id) => data.rows[ids.indexOf(id)]);
  bodyOf("diff").replaceChildren(
    ...table(
      "diff",
      "Settings that differ, and results",
      [
        { name: "setting or metric", value: (row) => row.key },
        { name: "A", title: "A: " + state.a, value: (row) => row.a },
        { name: "B", title: "B: " + state.b, value: (row) => row.b },
        { name: "B relative to A", value: (row) => row.change },
      ],
      [
        ...settingsThatDiffer(a, b),
        { key: "n", a: a.n_in_words, b: b.n_in_words, change: "" },
        {
          key: `${metric.label}${unit} [95 %]`,
          a: interval(a.score),
          b: interval(b.score),
          change: gapOfScores(a, b),
        },
        ...otherFigures(a, b),
      ],
    ),
    el("p", {}, paired(a, b)),
  );
}

const settingsThatDiffer = (a, b) =>
  Object.keys({ ...a.all, ...b.all })
    .filter((key) => a.all[key] !== b.all[key])
    .map((key) => ({ key, a: a.all[key] ?? "-", b: b.all[key] ?? "-", change: "" }));

function gapOfScores(a, b) {
  if (!a.score || !b.score) return "";
  if (metric.ratio) return change(b.score.mean / a.score.mean);
  return signed(b.score.mean - a.score.mean) + (metric.share ? " points" : "");
}

const otherFigures = (a, b) =>
  Object.keys(data.figures)
    .filter((key) => key !== data.metric && (key in a.figures || key in b.figures))
    .map((key) => ({
      key: data.figures[key].label,
      a: shown(key, a.figures[key]),
      b: shown(key, b.figures[key]),
      change: gapOfFigures(data.figures[key], a.figures[key], b.figures[key]),
    }));

function gapOfFigures({ share, ratio }, x, y) {
  if (x === undefined || y === undefined) return "";
  if (share) return `${y - x > 0 ? "+" : ""}${(100 * (y - x)).toFixed(2)} points`;
  return x && ratio ? `× ${Number((y / x).toPrecision(3))}` : "";
}

const GAP = `a ${metric.ratio ? "ratio" : "difference"} of means`;

/** Return what to know about the difference: the paired effect, if A and B differ in one axis alone. */
function paired(a, b) {
  if (data.effects.length === 0) return `B relative to A is ${GAP}, without an interval of its own.`;
  const axes = data.axes.filter(
    (axis) => !data.select.includes(axis) && a.settings[axis] !== b.settings[axis],
  );
  const values = axes.length === 1 ? [a, b].map((row) => row.settings[axes[0]]) : [];
  // Pooled rows have the effect over families; so have architectures, which are in no common family.
  const families = [a.family, ...(data.pooled || axes[0] === "arch.name" ? [""] : [])];
  const effect = data.effects.find(
    ({ axis, baseline, value, family }) =>
      axis === axes[0] && values.includes(baseline) && values.includes(value) && families.includes(family),
  );
  if (!effect)
    return `B relative to A is ${GAP}, without an interval of its own; Effects has the paired comparisons.`;
  const where = effect.family ? ` in the ${effect.family} family` : "";
  return `B relative to A is ${GAP}. Over pairs of runs${where}, ${axisName(effect.axis)}=${effect.value} against ${effect.baseline}: ${effect.words}`;
}
