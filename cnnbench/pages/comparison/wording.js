// Settings, metrics and results of a comparison in words and numbers.
// Uses data.js, dom.js, format.js.

const metric = data.figures[data.metric] ?? { label: data.metric, share: false, higher: true };
const scale = metric.share ? 100 : 1;
const unit = metric.unit ? " " + metric.unit : "";

// Settings and groups ---------------------------------------------------------------------------------

const rowNoun = data.pooled ? "row" : "configuration";
const narrow = matchMedia("(max-width: 600px)");
const axisName = (axis) => axis.replace(/\.name$/, "");
const label = (row) => short(data.axes.map((axis) => row.settings[axis]).join(" "), 60);

// What colours can stand for. Pooled rows have no family, unless each is an architecture.
const groupings = data.pooled && !data.axes.includes("arch.name") ? data.axes : ["family", ...data.axes];
const group = (row, by) => (by === "family" ? row.family : row.settings[by]) ?? "-";

/** Return `norm=none` for each setting, for the search. */
const settingsInWords = (settings) =>
  Object.entries(settings).map(([key, value]) => `${axisName(key)}=${value}`);
/** Return states and seeds of runs as settings, as on the command line. */
const runsInWords = (runs) => [
  ...new Set(runs.flatMap((run) => [`state=${run.state}`, ...(run.seed === "" ? [] : [`seed=${run.seed}`])])),
];

// Numbers ---------------------------------------------------------------------------------------------

// The rest of a key, in brackets, says how a figure was measured.
const isCount = (key) => /^(params|macs)$|(per_s|flops)$/.test(key.split(" (")[0]);
const isTime = (key) => /_s$/.test(key.split(" (")[0]);
const fourDigits = (value) => String(Number(value.toPrecision(4)));

/** Return a value of any metric as text with its unit. */
function shown(key, value) {
  if (value === null || value === undefined) return "-";
  if (data.figures[key]?.share) return (100 * value).toFixed(2) + " %";
  if (data.figures[key]?.percent) return (100 * value).toFixed(0) + " %";
  if (isCount(key)) return si(value);
  return isTime(key) ? seconds(value) : fourDigits(value);
}

/** Return a value of the compared metric without its unit, as the terminal does: `93.12`. */
function number(value) {
  if (value === null || value === undefined) return "-";
  if (metric.share) return (100 * value).toFixed(2);
  return isCount(data.metric) && Math.abs(value) >= 1000 ? si(value) : fourDigits(value);
}
const signed = (value) => (value > 0 ? "+" : "") + (metric.share ? (100 * value).toFixed(1) : number(value));
const times = (value) => "×" + (0.1 <= value && value < 10 ? value.toFixed(2) : Number(value.toPrecision(3)));

// An effect: its null value, and a difference or ratio in text.
const unchanged = metric.ratio ? 1 : 0;
const change = (value) => (metric.ratio ? times(value) : signed(value));

/** Return `93.12 [92.80, 93.44]`. */
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
