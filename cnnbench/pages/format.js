// Numbers with their units.
// Uses d3 (si alone).

/** Return 1234567 as `1.23 M`. */
const si = (value) =>
  d3
    .format(".3~s")(value)
    .replace(/([kMGTmµn])$/, " $1");

/** Return 75.3 as `1:15 min`, 4.2 as `4.2 s`, 0.0042 as `4.2 ms`. */
function seconds(value) {
  if (0 < value && value < 0.05) return Number((1000 * value).toPrecision(3)) + " ms";
  if (value < 60) return value.toFixed(1) + " s";
  const minutes = (Math.round(value) / 60) | 0,
    rest = Math.round(value) % 60;
  return minutes < 60
    ? `${minutes}:${String(rest).padStart(2, "0")} min`
    : `${(minutes / 60) | 0}:${String(minutes % 60).padStart(2, "0")} h`;
}

/** Return `1 run`, `2 runs`. */
const counted = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
