// A convolution as a matrix, and one of its rows as a map.
// Uses data.js, dom.js, state.js, pictures.js.

function drawMatrix(step) {
  byId("matrix").hidden = !step.matrix;
  if (!step.matrix) return;
  const { values, side, places } = step.matrix;
  const whole = { rows: values.length, columns: values[0].length, low: -100, high: 100 };
  const line = Math.min(state.line, values.length - 1);
  const picture = framed(
    drawn({ ...whole, colour: (r, c) => cell(values[r][c]) }),
    [{ row: line, column: 0, rows: 1, columns: whole.columns, kind: "unit" }],
    `matrix of ${whole.rows} outputs by ${whole.columns} inputs`,
  );
  const row = framed(
    drawn({ rows: side, columns: side, colour: (r, c) => cell(values[line][r * side + c]) }),
    [],
    `row ${line} of the matrix, as a map of ${side}×${side}`,
  );
  const slider = el("input", {
    type: "range",
    id: "line",
    min: 0,
    max: values.length - 1,
    value: line,
    oninput: () => set({ line: Number(slider.value) }),
  });
  slider.max = String(values.length - 1);
  slider.value = String(line);
  controlsOf("matrix").replaceChildren(el("label", {}, "output ", slider));
  const [down, right] = [Math.floor(line / places[1]), line % places[1]];
  bodyOf("matrix").replaceChildren(
    el(
      "div",
      { className: "flow" },
      el("figure", {}, picture, el("figcaption", {}, `${whole.rows} outputs × ${whole.columns} inputs`)),
      el("figure", {}, row, el("figcaption", {}, `row ${line}: output ${down}, ${right}`)),
    ),
    el(
      "p",
      {},
      `The matrix from the first channel of the input, on a map of ${side}×${side}, to the first of the output. ` +
        "Grey entries are fixed at zero; each row has the same few weights, moved on. A linear layer would learn all " +
        "of them.",
    ),
  );
}

/** Return the colour of an entry; one that is exactly zero is grey. */
const cell = (value) => (value === 0 ? [205, 208, 214] : signed(value, 100));
