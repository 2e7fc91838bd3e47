// Pictures of numbers: sprites are decoded once, and drawn in colours on canvases.
// Uses data.js, dom.js.

const decoded = new Map();

/** Return the levels (0 to 255) of a picture as {width, height, at(x, y, channel)}, once it is decoded. */
async function levels(src) {
  if (!decoded.has(src)) {
    const image = new Image();
    image.src = src;
    await image.decode();
    const canvas = el("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    decoded.set(src, {
      width: image.width,
      height: image.height,
      at: (x, y, channel = 0) => pixels[4 * (y * image.width + x) + channel],
    });
  }
  return decoded.get(src);
}

/** Return one map of a sprite: {rows, columns, low, high, at(row, column)}, in the units of the network. */
async function mapOf(sprite, image, channel) {
  const picture = await levels(sprite.src);
  const { rows, columns } = sprite;
  const [low, high] = [sprite.low[channel], sprite.high[channel]];
  const at = (r, c) =>
    low + ((high - low) * picture.at(channel * columns + c, image * rows + r)) / 255;
  return { rows, columns, low, high, at };
}

/** Return the photo of an image as a map of colours: {rows, columns, colour(row, column)}. */
async function photoOf(image) {
  const picture = await levels(data.photos.src);
  const side = data.photos.side;
  const colour = (r, c) => [0, 1, 2].map((k) => picture.at(c, image * side + r, k));
  return { rows: side, columns: side, colour };
}

const mix = (a, b, t) => a.map((x, k) => Math.round(x + (b[k] - x) * t));
const DARK = [8, 6, 30], WARM = [203, 62, 82], LIGHT = [252, 253, 191];
const BLUE = [33, 102, 172], WHITE = [247, 247, 247], RED = [178, 24, 43];

/** Return a colour for a value of a map without negative values, from 0 (dark) to `limit` (light). */
const heat = (value, limit) => {
  const t = Math.max(0, Math.min(1, value / limit));
  return t < 0.5 ? mix(DARK, WARM, 2 * t) : mix(WARM, LIGHT, 2 * t - 1);
};
/** Return a colour for a value between -limit (blue) and limit (red). */
const signed = (value, limit) => {
  const t = Math.max(-1, Math.min(1, value / limit));
  return t < 0 ? mix(WHITE, BLUE, -t) : mix(WHITE, RED, t);
};

/** Return the function that colours a map's values. */
function colours(map) {
  const limit = Math.max(Math.abs(map.low), Math.abs(map.high), 1e-12);
  return map.low < -0.01 * limit ? (value) => signed(value, limit) : (value) => heat(value, limit);
}

/** Return a canvas with a pixel for each place of a map; styles enlarge it. */
function drawn(map, options = {}) {
  const canvas = el("canvas", { width: map.columns, height: map.rows, ...options });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(map.columns, map.rows);
  const colour = map.colour ?? ((r, c) => tint(map.at(r, c)));
  const tint = map.colour ? null : colours(map);
  for (let r = 0; r < map.rows; r++)
    for (let c = 0; c < map.columns; c++)
      pixels.data.set([...colour(r, c), 255], 4 * (r * map.columns + c));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const SVG = "http://www.w3.org/2000/svg";

/** Return a picture with frames on it, which are {row, column, rows, columns, kind} in places of the picture. */
function framed(canvas, frames, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${canvas.width} ${canvas.height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const frame of frames) {
    const rect = document.createElementNS(SVG, "rect");
    const shape = { x: frame.column, y: frame.row, width: frame.columns, height: frame.rows, class: frame.kind };
    for (const [key, value] of Object.entries(shape)) rect.setAttribute(key, value);
    svg.append(rect);
  }
  const box = el("div", { className: "framed" }, canvas, svg);
  if (label) {
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", label);
  }
  return box;
}
