// The layers as buttons, and the images to choose from.
// Uses data.js, dom.js, state.js, pictures.js.

const SHORT = {
  convolution: "conv",
  norm: "norm",
  activation: "act",
  pooling: "pool",
  "global pooling": "pool",
  flatten: "flat",
  linear: "full",
  other: "…",
};

const sizeOf = (shape) => shape.join("×");

/** Choose a layer, and the unit in the middle of its map. */
function chooseLayer(number) {
  const step = data.steps[Math.max(0, Math.min(data.steps.length - 1, number))];
  const [rows, columns] = step.is_map ? step.returned.slice(1) : [1, step.output.columns];
  set({
    step: data.steps.indexOf(step),
    channel: step.is_map ? Math.min(state.channel, step.shown - 1) : 0,
    row: Math.floor(rows / 2),
    column: step.is_map ? Math.floor(columns / 2) : 0,
    line: step.matrix ? Math.floor((step.matrix.places[0] / 2 + 0.5) * step.matrix.places[1]) : 0,
  });
}

/** Return buttons of which one is chosen; arrow keys move between them, and Tab leaves them. */
function chooser(label, count, chosen, choose, make) {
  const buttons = Array.from({ length: count }, (_, i) => {
    const button = make(i);
    button.id = `${label.replace(/\W+/g, "-")}-${i}`;
    button.setAttribute("aria-pressed", String(i === chosen));
    button.tabIndex = i === chosen ? 0 : -1;
    button.onclick = () => choose(i);
    return button;
  });
  const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -count, End: count };
  const group = el("div", { className: "chooser", role: "group" }, buttons);
  group.setAttribute("aria-label", label);
  group.addEventListener("keydown", (event) => {
    if (!(event.key in move)) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(count - 1, chosen + move[event.key]));
    buttons[next].focus();
    choose(next);
  });
  return group;
}

async function drawLayers() {
  const buttons = chooser("layers", data.steps.length, state.step, chooseLayer, (i) => {
    const step = data.steps[i];
    const side = step.is_map ? `${step.returned[1]}` : sizeOf(step.returned);
    const button = el("button", { type: "button", className: "step", title: step.name });
    button.dataset.kind = step.kind;
    button.append(el("b", {}, SHORT[step.kind]), el("small", {}, side));
    button.setAttribute("aria-label", `${i + 1} ${step.name} ${step.kind}`);
    return button;
  });
  const pictures = await Promise.all(data.images.map((_, i) => photoOf(i)));
  const images = chooser("images", data.images.length, state.image, (image) => set({ image }), (i) =>
    el("button", { type: "button", className: "photo", ariaLabel: data.images[i].name }, drawn(pictures[i])),
  );
  controlsOf("layers").replaceChildren(
    el("button", { type: "button", id: "back", onclick: () => chooseLayer(state.step - 1) }, "← back"),
    el("button", { type: "button", id: "on", onclick: () => chooseLayer(state.step + 1) }, "next layer →"),
    images,
  );
  bodyOf("layers").replaceChildren(buttons);
  buttons.querySelector("[aria-pressed=true]").scrollIntoView({ block: "nearest", inline: "nearest" });
}
