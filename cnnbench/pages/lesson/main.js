// The head of the page, the answer, and the order in which everything is drawn.
// Uses data.js and all the other scripts.

const LESSON = { step: 0, image: 0, channel: 0, row: 0, column: 0, line: 0 };

/** Bring what the address says within what there is. */
function settle() {
  const within = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value) || 0));
  state.step = within(state.step, data.steps.length);
  state.image = within(state.image, data.images.length);
  const step = stepNow();
  state.channel = step.is_map ? within(state.channel, step.shown) : 0;
  state.row = step.is_map ? within(state.row, step.returned[1]) : 0;
  state.column = within(state.column, step.is_map ? step.returned[2] : step.output.columns);
  state.line = within(state.line, step.matrix ? step.matrix.values.length : 1);
}

function drawAnswer() {
  const image = data.images[state.image];
  const order = image.shares.map((share, k) => [share, k]).sort((a, b) => b[0] - a[0]);
  const rows = order.slice(0, 5).map(([share, k]) => {
    const meter = el("meter", { min: 0, max: 1, value: share });
    meter.setAttribute("aria-label", data.classes[k]);
    return el("li", {}, meter, ` ${(100 * share).toFixed(1)} % `, short(data.classes[k]));
  });
  const truth = image.label === null ? "" : `; it is ${legible(image.label)}`;
  bodyOf("answer").replaceChildren(
    el("p", {}, `${image.name}${truth}.`),
    el("ul", { className: "answers" }, rows),
  );
}

let drawing = 0;

async function draw() {
  const number = ++drawing;
  settle();
  const step = stepNow();
  const id = document.activeElement?.id;
  await drawLayers();
  if (number !== drawing) return; // something else was chosen meanwhile
  drawLayer(step);
  await drawSees(step);
  await drawDoes(step);
  drawMatrix(step);
  drawAnswer();
  if (id && byId(id) && byId(id) !== document.activeElement) byId(id).focus({ preventScroll: true });
  document.documentElement.dataset.ready = "yes";
  document.documentElement.dataset.drawn = String(number);
}

byId("facts").replaceChildren(...listOf(data.facts).children);
startState(LESSON, {}, draw);
if (location.hash.length < 2) chooseLayer(0);
else draw();
