"use strict";
// Head, filters, tables, and what is drawn when.

const ROW_OF = new Map(data.rows.flatMap((row) => row.runs.map((path) => [path, row])));
const valuesOf = (axis) =>
  [...new Set(data.rows.map((row) => row.settings[axis]).concat(data.runs.map((run) => run.settings[axis])))]
    .filter((value) => value !== undefined)
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
const section = (id) => document.getElementById(id);
const body = (id) => section(id).querySelector(".body");

function head() {
  const total = d3.sum(Object.values(data.states));
  section("title").textContent = document.title = `Comparison of ${data.title}`;
  section("counts").replaceChildren(
    `${total} runs: `,
    ...Object.entries(data.states).flatMap(([name, n], i) => [
      i ? ", " : "",
      el("span", { className: "state-" + name }, `${n} ${name}`),
    ]),
  );
  section("notes").replaceChildren(...data.notes.map((note) => el("li", {}, note)));
  section("made").textContent =
    `Made by cnnbench ${data.cnnbench} on ${data.made}` +
    (data.reload_s ? "; watched: it is written again as runs finish" : "");
}

function filters() {
  const search = section("search");
  search.value = state.q;
  search.addEventListener("input", () => set({ q: search.value }));
  section("filters").addEventListener("submit", (event) => event.preventDefault());
  section("axes").replaceChildren(
    ...data.axes.map((axis) => {
      const values = valuesOf(axis);
      const boxes = values.map((value) => {
        const box = el("input", { type: "checkbox", checked: !off(axis).includes(value) });
        box.addEventListener("change", () => {
          const left = new Set(off(axis));
          box.checked ? left.delete(value) : left.add(value);
          set({ off: { ...state.off, [axis]: [...left] } });
        });
        return el("label", {}, box, " ", short(value, 40));
      });
      const made = el(
        "details",
        {},
        el("summary", {}, name(axis)),
        el("div", { className: "values" }, boxes),
      );
      made.dataset.axis = axis;
      return made;
    }),
  );
}

/** `norm=none`, for the search. */
const said = (settings) => Object.entries(settings).map(([key, value]) => `${name(key)}=${value}`);

/** Whether the filters leave a configuration or a run. */
function passes(settings, text) {
  if (data.axes.some((axis) => off(axis).includes(settings[axis]))) return false;
  const said = text.toLowerCase();
  return state.q
    .toLowerCase()
    .split(/\s+/)
    .every((word) => said.includes(word));
}

const settingsOf = (one) =>
  data.axes.map((axis) => ({ name: name(axis), value: (row) => row.settings[axis] ?? "-" }));
const figuresOf = (keys) =>
  keys
    .filter((key) => data.figures[key])
    .map((key) => ({
      name: data.figures[key].label,
      value: (row) => row.figures[key] ?? null,
      text: (row) => shown(key, row.figures[key]),
      number: true,
    }));

function drawRows(rows) {
  body("rows").replaceChildren(
    ...table(
      "rows",
      `${rows.length} configurations; accuracies are means over the finished runs with 95 % intervals`,
      [
        ...settingsOf(),
        {
          name: "n",
          value: (row) => row.n,
          text: (row) =>
            row.n === row.of
              ? String(row.n)
              : `${row.n} of ${row.of} (${Object.entries(row.states)
                  .filter(([name]) => name !== "finished")
                  .map(([name, n]) => `${n} ${name}`)
                  .join(", ")})`,
        },
        {
          name: metric.label + unit,
          value: (row) => row.score?.mean ?? null,
          text: (row) => interval(row.score),
          number: true,
        },
        ...figuresOf(
          ["best/val_acc", "params", "macs", ...data.costs, "time/images_per_s", "time/wall_s"].filter(
            (key) => key !== data.metric,
          ),
        ),
        {
          name: "again",
          value: () => "",
          node: (row) =>
            row.command ? el("details", {}, el("summary", {}, "command"), el("pre", {}, row.command)) : "not recorded",
        },
      ],
      rows,
    ),
  );
}

/** Which run, and how it ended. */
const RUN = [
  {
    name: "run",
    value: (run) => run.name,
    node: (run) => el("a", { href: run.href }, short(run.name, 80)),
  },
  {
    name: "state",
    value: (run) => run.state,
    node: (run) => el("span", { className: "state-" + run.state }, run.state),
  },
];

function drawRuns(runs) {
  body("runs").replaceChildren(
    ...table(
      "runs",
      `${runs.length} runs; those whose tuned setting was not chosen are here too`,
      [
        ...RUN,
        ...settingsOf(),
        { name: "seed", value: (run) => run.seed },
        ...figuresOf(
          [data.metric, "best/val_acc", "best/epoch", "time/wall_s"].filter(
            (key, i, all) => all.indexOf(key) === i,
          ),
        ),
        { name: "experiment", value: (run) => run.experiment },
        {
          name: "W&B",
          value: (run) => run.url,
          node: (run) =>
            run.url ? el("a", { href: run.url, rel: "noopener noreferrer", target: "_blank" }, "page") : "-",
        },
      ],
      runs,
    ),
  );
}

function drawErrors(runs) {
  const ended = runs.filter((run) => run.state !== "finished");
  section("errors").hidden = ended.length === 0 && data.problems.length === 0;
  body("errors").replaceChildren(
    ...(ended.length
      ? table(
          "errors",
          `${ended.length} runs`,
          [
            ...RUN,
            {
              name: "reason",
              value: (run) => run.error,
              node: (run) => (run.error ? el("pre", {}, run.error) : "-"),
            },
          ],
          ended,
        )
      : []),
    data.problems.length
      ? el(
          "ul",
          {},
          data.problems.map((text) => el("li", {}, text)),
        )
      : "",
  );
}

function drawDiff() {
  section("diff").hidden = data.rows.length < 2;
  if (section("diff").hidden) return;
  // By their settings, not by their place: a page that is written again has other rows.
  const ids = data.rows.map((row) => data.axes.map((axis) => row.settings[axis]).join(" "));
  if (!ids.includes(state.a)) state.a = ids[0];
  if (!ids.includes(state.b)) state.b = ids[1];
  section("diff")
    .querySelector(".controls")
    .replaceChildren(choose("A", "a", ids), choose("B", "b", ids));
  const [a, b] = [data.rows[ids.indexOf(state.a)], data.rows[ids.indexOf(state.b)]];
  const settings = Object.keys({ ...a.all, ...b.all })
    .filter((key) => a.all[key] !== b.all[key])
    .map((key) => ({ key, a: a.all[key] ?? "-", b: b.all[key] ?? "-", change: "" }));
  const figures = Object.keys(data.figures)
    .filter((key) => key !== data.metric && (key in a.figures || key in b.figures))
    .map((key) => {
      const [x, y] = [a.figures[key], b.figures[key]],
        both = x !== undefined && y !== undefined;
      const change = !both
        ? ""
        : data.figures[key].share
          ? `${y - x > 0 ? "+" : ""}${(100 * (y - x)).toFixed(2)} points`
          : x && /^(params|macs|time\/|latency|memory)/.test(key)
            ? `× ${Number((y / x).toPrecision(3))}`
            : "";
      return { key: data.figures[key].label, a: shown(key, x), b: shown(key, y), change };
    });
  const score = {
    key: `${metric.label}${unit} [95 %]`,
    a: interval(a.score),
    b: interval(b.score),
    change: a.score && b.score ? `${signed(b.score.mean - a.score.mean)} ${metric.share ? "points" : ""}` : "",
  };
  body("diff").replaceChildren(
    ...table(
      "diff",
      "What differs, and what came out",
      [
        { name: "setting or figure", value: (row) => row.key },
        { name: "A", value: (row) => row.a },
        { name: "B", value: (row) => row.b },
        { name: "B against A", value: (row) => row.change },
      ],
      [...settings, score, ...figures],
    ),
  );
}

function drawMethods() {
  body("methods").replaceChildren(
    el(
      "ul",
      {},
      data.methods.map((text) => el("li", {}, text)),
    ),
    el(
      "p",
      { className: "faint" },
      "The same in all rows: " +
        (Object.entries(data.constant)
          .map(([key, value]) => `${key}=${value}`)
          .join("  ") || "nothing"),
    ),
  );
}

function draw() {
  const kept = document.activeElement?.dataset?.sort ?? null,
    id = document.activeElement?.id;
  const rows = data.rows.filter((row) =>
    passes(row.settings, [row.family, row.command, ...said(row.settings)].join(" ")),
  );
  const runs = data.runs.filter((run) =>
    passes(run.settings, [run.name, run.state, run.experiment, run.error, ...said(run.settings)].join(" ")),
  );
  section("matches").textContent =
    `${rows.length} of ${data.rows.length} configurations, ${runs.length} of ${data.runs.length} runs`;
  for (const made of section("axes").children)
    made.classList.toggle("narrowed", off(made.dataset.axis).length > 0);
  drawRows(rows);
  drawTradeoff(section("tradeoff"), rows);
  drawEffects(section("effects"));
  drawMap(section("map"), rows);
  drawCurves(section("curves"), rows);
  drawDiff();
  drawRuns(runs);
  drawErrors(runs);
  // What was drawn anew takes the keyboard's place back.
  const again =
    kept !== null
      ? [...document.querySelectorAll("[data-sort]")].find((one) => one.dataset.sort === kept)
      : id && document.getElementById(id);
  if (again && again !== document.activeElement) again.focus({ preventScroll: true });
}

head();
filters();
drawMethods();
draw();
document.documentElement.dataset.ready = "yes";

let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) {
    width = innerWidth;
    set({});
  }
});
if (data.reload_s) {
  // A page that somebody reads or works with stays as it is.
  let touched = 0;
  for (const kind of ["pointerdown", "keydown", "input", "wheel", "touchmove"])
    addEventListener(
      kind,
      () => {
        touched = Date.now();
      },
      { passive: true },
    );
  setInterval(() => {
    if (Date.now() - touched > 10000) location.reload();
  }, 1000 * data.reload_s);
}
