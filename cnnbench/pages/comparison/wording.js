// Settings, metrics and results of a comparison in words and numbers.
// Uses data.js, dom.js, format.js.

const metric = data.figures[data.metric] ?? { label: data.metric, share: false, higher: true };
const scale = metric.share ? 100 : 1;
const unit = metric.unit ? " " + metric.unit : "";

// Settings and groups ---------------------------------------------------------------------------------

const axisName = (axis) => axis.replace(/\.name$/, "");
const label = (row) => short(data.axes.map((axis) => row.settings[axis]).join(" "), 60);

/** What the colours of a chart can tell apart. */
const groupings = ["family", ...data.axes];
const group = (row, by) => (by === "family" ? row.family : row.settings[by]) ?? "-";

/** `norm=none` of each setting, for the search. */
const settingsInWords = (settings) =>
  Object.entries(settings).map(([key, value]) => `${axisName(key)}=${value}`);
/** States and seeds of runs, as the settings that they are on the command line. */
const runsInWords = (runs) => [
  ...new Set(runs.flatMap((run) => [`state=${run.state}`, ...(run.seed === "" ? [] : [`seed=${run.seed}`])])),
];

// Numbers ---------------------------------------------------------------------------------------------

/** Any figure, with its unit. */
function shown(key, value) {
  if (value === null || value === undefined) return "-";
  if (data.figures[key]?.share) return (100 * value).toFixed(2) + " %";
  if (data.figures[key]?.percent) return (100 * value).toFixed(0) + " %";
  const [base] = key.split(" ("); // the rest says how it was measured
  if (/^(params|macs)$|(per_s|flops)$/.test(base)) return si(value);
  return /_s$/.test(base) ? seconds(value) : String(Number(value.toPrecision(4)));
}

// The metric, without its unit.
const digits = metric.share ? 2 : 4;
const number = (value) => (value === null || value === undefined ? "-" : (scale * value).toFixed(digits));
const signed = (value) => (value > 0 ? "+" : "") + (scale * value).toFixed(metric.share ? 1 : 4);
const times = (value) => "×" + (0.1 <= value && value < 10 ? value.toFixed(2) : Number(value.toPrecision(3)));

/** An effect: the null value, and how a difference or ratio is written. */
const unchanged = metric.ratio ? 1 : 0;
const change = (value) => (metric.ratio ? times(value) : signed(value));

/** `93.12 [92.80, 93.44]`. */
const interval = (estimate, write = number) =>
  estimate === null
    ? "-"
    : write(estimate.mean) +
      (estimate.low === null
        ? estimate.n === 1
          ? " [one run]"
          : ""
        : ` [${write(estimate.low)}, ${write(estimate.high)}]`);

const outOf = (n, all) => (n === all ? String(n) : `${n} of ${all}`);

/** `3`, or `2 of 3 (1 diverged)`: the runs of a row that have the metric. */
function runsOf(row) {
  const rest = Object.entries(row.states).filter(([state]) => state !== "finished");
  const without = (row.states.finished ?? 0) - row.n;
  if (without) rest.push([`without ${metric.label}`, without]);
  return row.n === row.of
    ? String(row.n)
    : `${row.n} of ${row.of} (${rest.map(([state, n]) => `${n} ${state}`).join(", ")})`;
}
