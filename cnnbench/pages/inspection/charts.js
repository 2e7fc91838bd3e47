// Charts over depth: receptive fields and the sides of feature maps.
// Uses d3, Plot, dom.js, state.js, charts.js.

const modelNames = () => data.models.map(({ label }) => label);
const drawnPoints = () =>
  data.models.flatMap((model) => model.points.map((point) => ({ ...point, model: model.label })));

function overDepth(key, caption, marks, y, columns, rows) {
  const options = {
    height: 340,
    marginBottom: 40,
    grid: true,
    x: { label: "layer with a feature map, in the order of execution" },
    y: { type: "log", ...y },
    color: { domain: modelNames(), range: COLOURS },
  };
  chart(key, caption, { marks, options, legend: legendOf(modelNames(), true), columns, rows });
}

function drawFields() {
  const points = drawnPoints();
  const known = points.filter(({ largest }) => largest !== null);
  const narrow = points.filter(({ smallest }) => smallest !== null);
  const boundless = points.filter(({ largest }) => largest === null);
  const share = (value) => (value === null ? "grows with the image" : `${Number(value.toPrecision(3))} x the image`);
  const marks = [
    Plot.ruleY([1]),
    Plot.line(known, { x: "depth", y: "largest", z: "model", stroke: "model", strokeWidth: 1.6 }),
    Plot.line(narrow, { x: "depth", y: "smallest", z: "model", stroke: "model", strokeDasharray: "4,3" }),
    Plot.dot(boundless, { x: "depth", frameAnchor: "top", stroke: "model", symbol: "triangle", r: 2.5 }),
    Plot.tip(
      known,
      Plot.pointer({
        x: "depth",
        y: "largest",
        title: ({ model, name, largest, smallest }) =>
          `${legible(model)}\n${legible(name)}: ${share(largest)}, by the smallest path ${share(smallest)}`,
      }),
    ),
  ];
  const columns = [
    { name: "model", value: ({ model }) => model },
    { name: "layer", value: ({ name }) => name },
    { name: "largest", value: ({ largest }) => largest, text: ({ largest }) => share(largest), number: true },
    { name: "smallest", value: ({ smallest }) => smallest, text: ({ smallest }) => share(smallest), number: true },
  ];
  const caption =
    "Side of the receptive field, relative to the image (1: the field is as large as the image): by the largest path, " +
    "dashed by the smallest; triangles at the top: it grows with the image.";
  overDepth("fields", caption, marks, { label: "field / image" }, columns, points);
}

function drawMaps() {
  const points = drawnPoints();
  const marks = [
    Plot.line(points, { x: "depth", y: "side", z: "model", stroke: "model", strokeWidth: 1.6, curve: "step-after" }),
    Plot.tip(
      points,
      Plot.pointer({
        x: "depth",
        y: "side",
        title: ({ model, name, side }) => `${legible(model)}\n${legible(name)}: ${side} px`,
      }),
    ),
  ];
  const columns = [
    { name: "model", value: ({ model }) => model },
    { name: "layer", value: ({ name }) => name },
    { name: "side", value: ({ side }) => side, number: true },
  ];
  overDepth("maps", "Side of the feature map in pixels.", marks, { label: "side [px]" }, columns, points);
}
