"use strict";
// Head, filters, tables, and what is drawn when.

const RUN_AT = new Map(data.runs.map((run) => [run.path, run]));
const valuesOf = (axis) =>
  [...new Set(data.rows.map((row) => row.settings[axis]).concat(data.runs.map((run) => run.settings[axis])))]
    .filter((value) => value !== undefined)
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
const section = (id) => document.getElementById(id);
const body = (id) => section(id).querySelector(".body");

function head() {
  const total = d3.sum(Object.values(data.states));
  section("title").textContent = document.title = `Comparison of ${legible(data.title)}`;
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
/** States and seeds of runs as the settings that they are in the terminal. */
const saidOf = (runs) => [
  ...new Set(runs.flatMap((run) => [`state=${run.state}`, ...(run.seed === "" ? [] : [`seed=${run.seed}`])])),
];

/** Whether the filters leave a configuration or a run. */
function passes(settings, texts) {
  if (data.axes.some((axis) => off(axis).includes(settings[axis]))) return false;
  const said = texts.join(" ").toLowerCase() + " ";
  return state.q
    .toLowerCase()
    .split(/\s+/)
    .every((word) => said.includes(/=[\d.]*\d$/.test(word) ? word + " " : word)); // seed=1 is not seed=10
}

/** What the filters say, for paper: there they cannot be seen. */
function filtered() {
  const words = state.q.trim() ? [`search “${state.q.trim()}”`] : [];
  for (const axis of data.axes) {
    const left = valuesOf(axis).filter((value) => off(axis).includes(value));
    if (left.length) words.push(`without ${name(axis)}=${left.map((value) => short(value)).join(", ")}`);
  }
  return words.length ? "Filtered: " + [section("matches").textContent, ...words].join("; ") : "";
}

/** `3`, or `2 of 3 (1 diverged)`: the runs of a row that have the metric. */
function runsOf(row) {
  const rest = Object.entries(row.states).filter(([state]) => state !== "finished");
  const without = (row.states.finished ?? 0) - row.n;
  if (without) rest.push([`without ${metric.label}`, without]);
  return row.n === row.of
    ? String(row.n)
    : `${row.n} of ${row.of} (${rest.map(([state, n]) => `${n} ${state}`).join(", ")})`;
}

/** The settings, a column each; on a phone one for all, so that what came out stands beside them. */
const narrow = matchMedia("(max-width: 600px)");
const settingsOf = () =>
  narrow.matches
    ? [
        {
          name: data.axes.map(name).join(" "),
          value: (row) => data.axes.map((axis) => row.settings[axis] ?? "-").join(" "),
        },
      ]
    : data.axes.map((axis) => ({ name: name(axis), value: (row) => row.settings[axis] ?? "-" }));
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
  const n = { name: "n", value: (row) => row.n, text: runsOf };
  const score = {
    name: metric.label + unit,
    value: (row) => row.score?.mean ?? null,
    text: (row) => interval(row.score),
    number: true,
  };
  const { key, label, down } = data.order ?? { key: null, label: null, down: false };
  const over = data.pooled
    ? "over families of architectures, each counted once (of one family alone, over its runs),"
    : "over the finished runs";
  body("rows").replaceChildren(
    ...table(
      "rows",
      `${rows.length} ${data.pooled ? "rows" : "configurations"}; ${metric.label} is the mean ${over} with its 95 % interval`,
      [
        ...settingsOf(),
        ...(narrow.matches ? [score, n] : [n, score]),
        ...figuresOf(
          [...new Set(["best/val_acc", key, ...data.costs])].filter((key) => key !== data.metric),
        ),
        {
          name: "again",
          value: () => "",
          node: (row) =>
            row.command ? el("details", {}, el("summary", {}, "command"), el("pre", {}, row.command)) : "not recorded",
        },
      ],
      rows,
      [key === data.metric ? score.name : label, down],
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
          : x && data.figures[key].ratio
            ? `× ${Number((y / x).toPrecision(3))}`
            : "";
      return { key: data.figures[key].label, a: shown(key, x), b: shown(key, y), change };
    });
  const score = {
    key: `${metric.label}${unit} [95 %]`,
    a: interval(a.score),
    b: interval(b.score),
    change:
      a.score && b.score
        ? metric.ratio
          ? changed(b.score.mean / a.score.mean)
          : `${signed(b.score.mean - a.score.mean)} ${metric.share ? "points" : ""}`
        : "",
  };
  const n = { key: "n", a: runsOf(a), b: runsOf(b), change: "" };
  body("diff").replaceChildren(
    ...table(
      "diff",
      "What differs, and what came out",
      [
        { name: "setting or figure", value: (row) => row.key },
        { name: "A", title: "A: " + state.a, value: (row) => row.a },
        { name: "B", title: "B: " + state.b, value: (row) => row.b },
        { name: "B against A", value: (row) => row.change },
      ],
      [...settings, n, score, ...figures],
    ),
    el("p", {}, paired(a, b)),
  );
}

const GAP = `a ${metric.ratio ? "ratio" : "difference"} of means`;

/** What is known of the difference beyond that of two means: the effect, where one axis is all that differs. */
function paired(a, b) {
  if (data.effects.length === 0) return `B against A is ${GAP}, without an interval of its own.`;
  const differ = data.axes.filter(
    (axis) => !data.select.includes(axis) && a.settings[axis] !== b.settings[axis],
  );
  const pair = differ.length === 1 ? [a, b].map((row) => row.settings[differ[0]]) : [];
  // Over families where the rows are, and of architectures, which are in no common family.
  const families = [a.family, ...(data.pooled || differ[0] === "arch.name" ? [""] : [])];
  const effect = data.effects.find(
    (one) =>
      one.axis === differ[0] &&
      pair.includes(one.baseline) &&
      pair.includes(one.value) &&
      families.includes(one.family),
  );
  if (!effect) return `B against A is ${GAP}; Effects has those of pairs, with their intervals.`;
  const where = effect.family ? ` in the family ${effect.family}` : "";
  return `B against A is ${GAP}. Of pairs${where}, ${name(effect.axis)}=${effect.value} against ${effect.baseline}: ${effect.words}`;
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
    passes(row.settings, [
      row.family,
      row.command,
      ...said(row.settings),
      ...saidOf(row.runs.map((path) => RUN_AT.get(path))),
    ]),
  );
  const runs = data.runs.filter((run) =>
    passes(run.settings, [run.name, run.experiment, run.error, ...said(run.settings), ...saidOf([run])]),
  );
  section("matches").textContent =
    `${rows.length} of ${data.rows.length} configurations, ${runs.length} of ${data.runs.length} runs`;
  section("filtered").textContent = legible(filtered());
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
// On paper there is nothing to press.
addEventListener("beforeprint", () => {
  for (const more of document.querySelectorAll("button.more")) more.click();
});
if (data.reload_s) {
  // A page that somebody reads or works with stays as it is; who is in a field may be about to type.
  let touched = 0;
  const rest = () => (document.activeElement?.matches("input, select") ? 60_000 : 10_000);
  for (const kind of ["pointerdown", "keydown", "input", "wheel", "touchmove"])
    addEventListener(
      kind,
      () => {
        touched = Date.now();
      },
      { passive: true },
    );
  setInterval(() => {
    if (Date.now() - touched > rest()) location.reload();
  }, 1000 * data.reload_s);
}
