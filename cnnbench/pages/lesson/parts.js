// The sections of a layer: what it is, what it sees, what it does, its matrix, the answer.
// Uses data.js, dom.js, state.js, controls.js, pictures.js, layers.js, unit.js.

function drawLayer(step) {
  byId("layer").querySelector("h2").replaceChildren(
    `${state.step + 1} of ${data.steps.length}: ${step.kind} `,
    el("code", {}, step.name),
  );
  const window = step.window;
  const facts = [
    `${sizeOf(step.taken)} → ${sizeOf(step.returned)}`,
    window ? `window ${sizeOf(window.kernel)}, stride ${sizeOf(window.stride)}` : null,
    window && step.kind === "convolution" && window.groups > 1 ? `${window.groups} groups` : null,
    step.params ? `${step.params.toLocaleString("en")} parameters` : "nothing to learn",
    step.class,
  ];
  bodyOf("layer").replaceChildren(
    el("p", { className: "faint" }, facts.filter(Boolean).join(" · ")),
    ...step.texts.map((text) => el("p", {}, text)),
  );
}

async function drawSees(step) {
  byId("sees").hidden = !step.field;
  if (!step.field) return;
  const photo = await photoOf(state.image);
  const scale = data.photos.side / data.size;
  const scaled = (field, kind) => ({
    row: field.row * scale,
    column: field.column * scale,
    rows: field.rows * scale,
    columns: field.columns * scale,
    kind,
  });
  const frames = [];
  // How the field grew: the fields of earlier layers around the same middle.
  const own = fieldOf(step, state.row, state.column);
  const middle = [own.row + own.rows / 2, own.column + own.columns / 2];
  let last = null;
  for (const earlier of data.steps.slice(0, state.step)) {
    const field = earlier.field;
    if (!field || field.rows.size === null || field.columns.size === null) continue;
    const size = `${field.rows.size} ${field.columns.size}`;
    if (size === last || field.rows.size >= own.rows) continue;
    last = size;
    const [rows, columns] = [field.rows.size, field.columns.size];
    frames.push(scaled({ row: middle[0] - rows / 2, column: middle[1] - columns / 2, rows, columns }, "earlier"));
  }
  frames.push(scaled(own, "field"));
  const whole = step.field.rows.size === null || step.field.columns.size === null;
  const size = whole ? "the whole image" : `${step.field.rows.size}×${step.field.columns.size} pixels`;
  const share = `${Math.round(100 * step.field.share)} % of the image lie in the field of the unit in the middle`;
  bodyOf("sees").replaceChildren(
    framed(drawn(photo), frames, `the image, and the field of the unit: ${size}`),
    el(
      "p",
      { id: "field-size" },
      `A unit of this layer depends on ${size}; ${share}. `,
      frames.length > 1 ? "The thin frames are the fields of the layers before it, around the same middle." : "",
    ),
  );
}

async function inputMap(step) {
  if (step.source === -1) return photoOf(state.image);
  const sprite = step.source === null ? step.input : data.steps[step.source].output;
  const channels = (await levels(sprite.src)).width / sprite.columns;
  const depthwise = step.kind !== "convolution" || step.window.groups === step.taken[0];
  const channel = depthwise ? state.channel : 0;
  return channel < channels ? mapOf(sprite, state.image, channel) : null;
}

/** Return a frame, given in places of a map of some shape, in those of its picture. */
const fitted = (frame, [, rows, columns], picture, kind) => ({
  row: (frame.row * picture.rows) / rows,
  column: (frame.column * picture.columns) / columns,
  rows: (frame.rows * picture.rows) / rows,
  columns: (frame.columns * picture.columns) / columns,
  kind,
});

async function drawDoes(step) {
  const [input, output] = [await inputMap(step), await mapOf(step.output, state.image, state.channel)];
  const parts = [];
  if (input && step.taken.length === 3) {
    const window = windowOf(step, state.row, state.column);
    const frames = window ? [fitted(window, step.taken, input, "window")] : [];
    const channel = step.kind === "convolution" && step.window.groups === 1 ? 0 : state.channel;
    const name = step.source === -1 ? "the image" : `input, map ${channel}`;
    parts.push(el("figure", {}, framed(drawn(input), frames, name), el("figcaption", {}, name)));
  }
  if (step.weights) parts.push(kernels(step));
  if (step.curve) parts.push(activationCurve(step));
  parts.push(outputPicture(step, output));
  const about = [];
  if (step.affine)
    about.push(
      el(
        "p",
        {},
        `Channel ${state.channel}: y = ${brief(step.affine[0][state.channel])} x + ` +
          `${brief(step.affine[1][state.channel])}`,
      ),
    );
  const sum = await computed(step, state.row, state.column);
  if (sum) about.push(arithmetic(sum));
  const value = output.at(...pictureOf(step, output));
  const small = step.is_map && output.rows < step.returned[1]; // a picture of fewer places than the map has
  about.unshift(
    el(
      "p",
      { id: "unit", role: "status" },
      step.is_map
        ? `${small ? "On average around unit" : "Unit"} ${state.row}, ${state.column} of map ` +
            `${state.channel}: about ${rounded(output, value)}`
        : `Unit ${state.column}: about ${rounded(output, value)}`,
    ),
  );
  controlsOf("does").replaceChildren(...(step.is_map && step.shown > 1 ? [await channels(step)] : []));
  bodyOf("does").replaceChildren(el("div", { className: "flow" }, parts), ...about);
}

/** Return the place of the unit in the picture of its map, which may be smaller than the map. */
function pictureOf(step, output) {
  if (!step.is_map) return [0, state.column];
  const [, rows, columns] = step.returned;
  return [
    Math.floor((state.row * output.rows) / rows),
    Math.floor((state.column * output.columns) / columns),
  ];
}

async function channels(step) {
  const maps = await Promise.all(
    Array.from({ length: step.shown }, (_, k) => mapOf(step.output, state.image, k)),
  );
  return chooser("maps", step.shown, state.channel, (channel) => set({ channel }), (k) =>
    el("button", { type: "button", className: "map", ariaLabel: `map ${k}` }, drawn(maps[k])),
  );
}

function outputPicture(step, output) {
  const shape = step.is_map ? step.returned : [1, 1, output.columns];
  const place = { row: step.is_map ? state.row : 0, column: state.column, rows: 1, columns: 1 };
  const picture = framed(drawn(output), [fitted(place, shape, output, "unit")]);
  if (!step.is_map) picture.classList.add("vector");
  const [rows, columns] = [shape[1], shape[2]];
  const choose = (row, column) =>
    set({
      row: Math.max(0, Math.min(rows - 1, row)),
      column: Math.max(0, Math.min(columns - 1, column)),
    });
  const button = el("button", { type: "button", id: "output", className: "pick" }, picture);
  button.setAttribute("aria-label", `output ${rows}×${columns}: choose a unit with the arrow keys`);
  button.onclick = (event) => {
    if (event.detail === 0) return; // the keyboard
    const box = picture.getBoundingClientRect();
    choose(
      Math.floor(((event.clientY - box.top) / box.height) * rows),
      Math.floor(((event.clientX - box.left) / box.width) * columns),
    );
  };
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  button.onkeydown = (event) => {
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    choose(state.row + down, state.column + right);
  };
  return el("figure", {}, button, el("figcaption", {}, step.is_map ? `output, map ${state.channel}` : "output"));
}

function kernels(step) {
  const [rows, columns] = step.window.kernel;
  const all = step.weights.kernels[Math.min(state.channel, step.weights.kernels.length - 1)];
  const limit = Math.max(...all.flat().map(Math.abs), 1e-12);
  const tiles = all.map((kernel) =>
    drawn({ rows, columns, low: -limit, high: limit, at: (r, c) => kernel[r * columns + c] }),
  );
  const inputs = step.taken[0] / step.window.groups;
  const which = inputs > all.length ? `its kernels for the first ${all.length} of ${inputs} inputs` : "its kernel";
  const box = el("div", { className: tiles.length > 3 ? "kernels" : "kernels few", role: "img" }, tiles);
  box.setAttribute("aria-label", which);
  return el("figure", {}, box, el("figcaption", {}, `${which}: red adds, blue takes away`));
}

function activationCurve(step) {
  const y = step.curve.map(([, value]) => value);
  const [low, high] = [Math.min(-1, ...y), Math.max(1, ...y)];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("class", "curve");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${step.class} from −4 to 4`);
  const place = (x, value) => `${((x + 4) / 8) * 100},${100 - ((value - low) / (high - low)) * 100}`;
  const lines = { axis: [[-4, 0], [4, 0]], "axis up": [[0, low], [0, high]], line: step.curve };
  for (const [kind, points] of Object.entries(lines)) {
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", points.map(([x, value]) => place(x, value)).join(" "));
    line.setAttribute("class", kind);
    svg.append(line);
  }
  return el("figure", {}, svg, el("figcaption", {}, `${step.class}, from −4 to 4`));
}

function arithmetic({ products, bias, sum }) {
  const tables = products.map((rows) =>
    el(
      "table",
      { className: "products" },
      el(
        "tbody",
        {},
        rows.map((cells) =>
          el("tr", {}, cells.map(({ weight, pixel }) => el("td", {}, `${brief(weight)} · ${brief(pixel)}`))),
        ),
      ),
    ),
  );
  return el(
    "details",
    { open: products.length * products[0].length <= 3 },
    el("summary", {}, `weight · pixel, added up: ${brief(sum)}`),
    el("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel: "products" }, tables),
    el("p", { id: "sum" }, `Sum${bias ? `, with the bias ${brief(bias)}` : ""}: ${sum.toFixed(4).replace("-", "−")}. Pixels are normalised.`),
  );
}
