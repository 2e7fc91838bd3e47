// Tables of totals, of the layers of a model, and of two models side by side.
// Uses dom.js, state.js, controls.js, table.js.

const grouped = (value) => (value === null ? "-" : value.toLocaleString("en-US"));
const total = (model, key) => model.layers.reduce((sum, layer) => sum + layer[key], 0);

const MEASURES = [
  { name: "name", title: "layer", value: ({ name }) => name },
  { name: "kind", value: ({ kind }) => kind },
  { name: "output", value: ({ texts }) => texts.output },
  { name: "receptive_field", title: "field", value: ({ largest }) => largest, text: ({ texts }) => texts.field, number: true },
  { name: "params", value: ({ params }) => params, text: ({ params }) => (params ? grouped(params) : ""), number: true },
  { name: "macs", title: "MACs", value: ({ macs }) => macs, text: ({ macs }) => (macs ? grouped(macs) : ""), number: true },
  { name: "window", value: ({ texts }) => texts.window },
];

function drawTotals() {
  const columns = [
    { name: "model", value: ({ label }) => label },
    { name: "image", value: ({ input }) => input.join("x") },
    { name: "classes", value: ({ classes }) => classes, number: true },
    { name: "params", value: ({ params }) => params, text: ({ params }) => grouped(params), number: true },
    { name: "MACs", value: ({ macs }) => macs, text: ({ macs }) => grouped(macs), number: true },
    { name: "layers", value: ({ layers }) => layers.length, number: true },
    {
      name: "outputs",
      value: (model) => total(model, "activation_bytes"),
      text: (model) => `${(total(model, "activation_bytes") / 2 ** 20).toPrecision(3)} MiB`,
      number: true,
    },
  ];
  const rows = [...data.models];
  bodyOf("totals").replaceChildren(...table("totals", "Totals for one image", columns, rows), ...changes());
}

/** Return the ratios of two models that are compared. */
function changes() {
  if (!data.difference) return [];
  const names = { params: "parameters", macs: "MACs", layers: "layers", activation_bytes: "memory of outputs" };
  const lines = Object.entries(data.difference.totals).map(
    ([key, { difference, ratio }]) =>
      `${names[key]}: ${difference > 0 ? "+" : ""}${grouped(difference)}` +
      (ratio === null ? "" : `, ${ratio.toPrecision(4)} times the first`),
  );
  return [listOf(lines)];
}

function drawModels() {
  const columns = [
    { name: "number", title: "#", value: ({ number }) => number, number: true },
    ...MEASURES,
    {
      name: "sees",
      value: (layer) => layer.receptive_field?.share ?? null,
      text: (layer) => (layer.receptive_field ? `${Number((100 * layer.receptive_field.share).toPrecision(3))} %` : ""),
      number: true,
    },
    { name: "memory", value: (layer) => layer.activation_bytes, text: ({ texts }) => texts.memory, number: true },
  ];
  byId("models").replaceChildren(
    ...data.models.map((model, i) =>
      el(
        "section",
        { id: `layers${i}` },
        el("h2", {}, `Layers of ${short(model.label, 200)}`),
        listOf(model.remarks),
        ...table(`layers${i}`, `${model.arch} on ${model.data}, one row per layer`, columns, model.layers, [null, false], 1000),
      ),
    ),
  );
}

function drawDifference() {
  const section = byId("difference");
  section.hidden = !data.difference;
  if (section.hidden) return;
  const [first, second] = data.models.map(
    (model) => new Map(model.layers.map((layer) => [layer.name, layer])),
  );
  let pairs = data.difference.layers.map((pair, i) => ({
    number: i + 1,
    a: pair.first === null ? null : first.get(pair.first),
    b: pair.second === null ? null : second.get(pair.second),
    differs: pair.differs,
  }));
  if (state.onlyDifferent) pairs = pairs.filter(({ a, b, differs }) => !a || !b || differs.length);
  controlsOf("difference").replaceChildren(tick("only what differs", "onlyDifferent"));
  const mark = ({ a, b, differs }) => (!a ? "+ second" : !b ? "− first" : differs.length ? "≠" : "=");
  const columns = [
    { name: "number", title: "#", value: ({ number }) => number, number: true },
    { name: "mark", title: "in", value: mark },
    ...MEASURES.map((measure) => ({
      name: measure.name,
      title: measure.title,
      number: measure.number,
      value: ({ a, b }) => measure.value(b ?? a),
      node: (pair) => both(pair, measure),
    })),
  ];
  const caption = `${data.models[0].label} → ${data.models[1].label}: layers that correspond, side by side`;
  bodyOf("difference").replaceChildren(...table("difference", caption, columns, pairs, [null, false], 1000));
}

/** Return a figure of two layers, `a → b` where they differ. */
function both({ a, b }, { value, text }) {
  const show = (layer) => String(text?.(layer) ?? value(layer) ?? "") || "-";
  if (!a || !b) return el("span", { className: a ? "removed" : "added" }, show(a ?? b));
  const [one, other] = [show(a), show(b)];
  return one === other ? el("span", {}, one) : el("span", { className: "differs" }, `${one} → ${other}`);
}
