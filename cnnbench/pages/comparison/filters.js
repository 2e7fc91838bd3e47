// The search and the filters by value.
// Uses data.js, dom.js, format.js, state.js, comparison/wording.js.

const RUN_AT = new Map(data.runs.map((run) => [run.path, run]));

/** Return the values of an axis whose rows are hidden. */
const hiddenOf = (axis) => (Object.hasOwn(state.off, axis) ? state.off[axis] : []);
const valuesOf = (axis) =>
  [...new Set([...data.rows, ...data.runs].map((item) => item.settings[axis]))]
    .filter((value) => value !== undefined)
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));

function drawFilters() {
  const search = byId("search");
  search.value = state.q;
  search.addEventListener("input", () => set({ q: search.value }));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("axes").replaceChildren(...data.axes.map(filter));
}

/** Make the checkboxes of the values of an axis. */
function filter(axis) {
  const boxes = valuesOf(axis).map((value) => {
    const box = el("input", { type: "checkbox", checked: !hiddenOf(axis).includes(value) });
    box.addEventListener("change", () => {
      const hidden = new Set(hiddenOf(axis));
      box.checked ? hidden.delete(value) : hidden.add(value);
      set({ off: { ...state.off, [axis]: [...hidden] } });
    });
    return el("label", {}, box, " ", short(value, 40));
  });
  const details = el(
    "details",
    {},
    el("summary", {}, axisName(axis)),
    el("div", { className: "values" }, boxes),
  );
  details.dataset.axis = axis;
  return details;
}

/** Return the rows that pass the filters; states and seeds of their runs count, too. */
const filteredRows = () =>
  data.rows.filter((row) =>
    passes(row.settings, [
      row.family,
      row.command,
      ...settingsInWords(row.settings),
      ...runsInWords(row.runs.map((path) => RUN_AT.get(path))),
    ]),
  );

/** Return the runs that pass the filters. */
const filteredRuns = () =>
  data.runs.filter((run) =>
    passes(run.settings, [
      run.name,
      run.experiment,
      run.error,
      ...settingsInWords(run.settings),
      ...runsInWords([run]),
    ]),
  );

function passes(settings, texts) {
  if (data.axes.some((axis) => hiddenOf(axis).includes(settings[axis]))) return false;
  const text = texts.join(" ").toLowerCase() + " ";
  return state.q
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(/=[\d.]*\d$/.test(word) ? word + " " : word)); // seed=1 is not seed=10
}

/** Report how much the filters leave and, for paper, which has no controls, the filters themselves. */
function drawMatches(rows, runs) {
  byId("matches").textContent =
    `${rows.length} of ${counted(data.rows.length, rowNoun)}, ${runs.length} of ${counted(data.runs.length, "run")}`;
  byId("filtered").textContent = legible(filtersInWords());
  for (const details of byId("axes").children)
    details.classList.toggle("narrowed", hiddenOf(details.dataset.axis).length > 0);
}

function filtersInWords() {
  const words = state.q.trim() ? [`search “${state.q.trim()}”`] : [];
  for (const axis of data.axes) {
    const hidden = valuesOf(axis).filter((value) => hiddenOf(axis).includes(value));
    if (hidden.length)
      words.push(`excluding ${axisName(axis)}=${hidden.map((value) => short(value)).join(", ")}`);
  }
  return words.length ? "Filtered: " + [byId("matches").textContent, ...words].join("; ") : "";
}
