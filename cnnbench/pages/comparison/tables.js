// The tables of configurations, of runs, and of runs without a result.
// Uses data.js, dom.js, format.js, table.js, comparison/wording.js.

/** Return the columns of the settings; on a phone a single one, which leaves room for the results. */
const settingColumns = () =>
  narrow.matches
    ? [
        {
          name: data.axes.map(axisName).join(" "),
          value: (row) => data.axes.map((axis) => row.settings[axis] ?? "-").join(" "),
        },
      ]
    : data.axes.map((axis) => ({ name: axisName(axis), value: (row) => row.settings[axis] ?? "-" }));

const figureColumns = (keys) =>
  [...new Set(keys)]
    .filter((key) => data.figures[key])
    .map((key) => ({
      name: data.figures[key].label,
      value: (row) => row.figures[key] ?? null,
      text: (row) => shown(key, row.figures[key]),
      number: true,
    }));

function drawRows(rows) {
  const n = { name: "n", value: (row) => row.n, text: (row) => row.n_in_words };
  const score = {
    name: metric.label + unit,
    value: (row) => row.score?.mean ?? null,
    text: (row) => interval(row.score),
    number: true,
  };
  const { key, label, down } = data.order ?? { key: null, label: null, down: false };
  const over = data.pooled
    ? "architecture families with equal weight (within a single family: over its configurations)"
    : "the finished runs";
  const command = {
    name: "reproduce",
    value: () => "",
    node: (row) =>
      row.command
        ? el("details", {}, el("summary", {}, "command"), el("pre", {}, row.command))
        : "not recorded",
  };
  const others = ["best/val_acc", key, ...data.costs].filter((other) => other !== data.metric);
  bodyOf("rows").replaceChildren(
    ...table(
      "rows",
      `${counted(rows.length, rowNoun)}; ${metric.label} is the mean over ${over}, with its 95 % confidence interval`,
      [...settingColumns(), ...(narrow.matches ? [score, n] : [n, score]), ...figureColumns(others), command],
      rows,
      [key === data.metric ? score.name : label, down],
    ),
  );
}

// Columns that identify a run and give its state.
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
  const link = {
    name: "W&B",
    value: (run) => run.url,
    node: (run) =>
      run.url ? el("a", { href: run.url, rel: "noopener noreferrer", target: "_blank" }, "page") : "-",
  };
  bodyOf("runs").replaceChildren(
    ...table(
      "runs",
      counted(runs.length, "run") +
        (data.select.length ? ", including those whose tuned settings were not selected" : ""),
      [
        ...RUN,
        ...settingColumns(),
        { name: "seed", value: (run) => run.seed },
        ...figureColumns([data.metric, "best/val_acc", "best/epoch", "time/wall_s"]),
        { name: "experiment", value: (run) => run.experiment },
        link,
      ],
      runs,
    ),
  );
}

function drawErrors(runs) {
  const ended = runs.filter((run) => run.state !== "finished");
  const reason = {
    name: "reason",
    value: (run) => run.error,
    node: (run) => (run.error ? el("pre", {}, run.error) : "-"),
  };
  byId("errors").hidden = ended.length === 0 && data.problems.length === 0;
  bodyOf("errors").replaceChildren(
    ...(ended.length ? table("errors", counted(ended.length, "run"), [...RUN, reason], ended) : []),
    data.problems.length ? listOf(data.problems) : "",
  );
}
