// One unit of a map: where its window and its field are, and how it is computed.
// Uses data.js, state.js.

const stepNow = () => data.steps[state.step];

/** Return the field of a unit on the image, in its pixels: {row, column, rows, columns}; null: it is not known. */
function fieldOf(step, row, column) {
  if (!step.field) return null;
  const whole = [0, data.size];
  const along = (line, i) =>
    line.size === null || line.jump === null || line.centre === null
      ? whole
      : [line.centre + line.jump * i - (line.size - 1) / 2, line.size];
  const [top, rows] = along(step.field.rows, row),
    [left, columns] = along(step.field.columns, column);
  return { row: top, column: left, rows, columns };
}

/** Return the padding before the first row and column, in places of the map that a layer takes. */
function before(step) {
  const { kernel, stride, dilation, padding } = step.window;
  if (padding !== "same") return padding;
  return [0, 1].map((i) => {
    const side = step.taken[1 + i],
      extent = dilation[i] * (kernel[i] - 1) + 1;
    return Math.max((Math.ceil(side / stride[i]) - 1) * stride[i] + extent - side, 0) >> 1;
  });
}

/** Return the window of a unit on the map that its layer takes; null: there is none. */
function windowOf(step, row, column) {
  if (!step.window || step.taken.length < 3) return null;
  const { kernel, stride, dilation } = step.window,
    first = before(step);
  const [r, c] = [row, column].map((i, k) => i * stride[k] - first[k]);
  return {
    row: r,
    column: c,
    rows: dilation[0] * (kernel[0] - 1) + 1,
    columns: dilation[1] * (kernel[1] - 1) + 1,
  };
}

/** Return whether a window lies in the map that its layer takes. */
const isInside = (window, [, rows, columns]) =>
  window.row >= 0 &&
  window.column >= 0 &&
  window.row + window.rows <= rows &&
  window.column + window.columns <= columns;

/**
 * Return how a unit of a convolution on the image is computed, from the pixels themselves: the products by
 * channel, the bias and their sum. Null: not all of what is needed is in the page.
 */
async function computed(step, row, column) {
  const weights = step.weights;
  if (step.source !== -1 || !weights || !weights.plain || !data.exact || step.window.groups !== 1) return null;
  const window = windowOf(step, row, column);
  const kernels = weights.kernels[state.channel];
  if (kernels.length !== step.taken[0] || !isInside(window, step.taken)) return null;
  const photo = await photoOf(state.image);
  const [height, width] = step.window.kernel,
    [down, right] = step.window.dilation;
  const products = kernels.map((kernel, channel) =>
    Array.from({ length: height }, (_, i) =>
      Array.from({ length: width }, (_, j) => {
        const level = photo.colour(window.row + i * down, window.column + j * right)[channel % 3];
        const [mean, std] = [data.mean, data.std].map((list) => list[list.length > 1 ? channel : 0]);
        return { weight: kernel[i * width + j], pixel: (level / 255 - mean) / std };
      }),
    ),
  );
  const bias = weights.bias ? weights.bias[state.channel] : 0;
  const sum = products.flat(2).reduce((total, { weight, pixel }) => total + weight * pixel, bias);
  return { products, bias, sum };
}

/** Return a value of a map in as many digits as its 256 levels tell apart. */
function rounded(map, value) {
  const digits = Math.max(0, Math.min(8, Math.ceil(-Math.log10((map.high - map.low) / 255 || 1))));
  return value.toFixed(digits).replace("-", "−");
}

/** Return a number in three digits. */
const brief = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toString()).replace("-", "−");
