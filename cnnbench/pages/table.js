// Tables whose columns sort.
// Uses dom.js, state.js.

/**
 * Make a table and, where it has more rows, the button that shows them all.
 * key: its name in state.sort.
 * columns: {name, title?, value(row), text?(row), node?(row), number?}.
 * given: the column and the direction by which the rows come sorted, [null, false] for neither.
 * most: rows that are shown at first.
 */
function table(key, caption, columns, rows, given = [null, false], most = 100) {
  const chosen = Object.hasOwn(state.sort, key) ? state.sort[key] : given;
  const column = columns.find((candidate) => candidate.name === chosen[0]);
  const [by, down] = column ? chosen : given;
  if (by !== null) caption += `; sorted by ${column?.title ?? by}, ${down ? "descending" : "ascending"}`;
  if (column && chosen !== given) rows = sorted(rows, column, down);
  const head = columns.map(({ name, title, number }) => {
    const direction = name === by ? (down ? "descending" : "ascending") : "none";
    const next = [name, name === by ? !down : Boolean(number)];
    const button = el(
      "button",
      { type: "button", onclick: () => set({ sort: { ...state.sort, [key]: next } }) },
      short(title ?? name, 200),
    );
    button.dataset.sort = `${key}/${name}`;
    return el("th", { scope: "col", className: number ? "number" : "", "aria-sort": direction }, button);
  });
  const cell = (row, { value, text, node, number }) =>
    el(
      "td",
      { className: number ? "number" : "" },
      node?.(row) ?? folded(text?.(row) ?? String(value(row) ?? "-")),
    );
  const line = (row) =>
    el(
      "tr",
      {},
      columns.map((part) => cell(row, part)),
    );
  const body = el("tbody", {}, rows.slice(0, most).map(line));
  const element = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), body);
  const scrolled = el("div", { className: "scroll" }, element);
  if (rows.length <= most) return [scrolled];
  const showAll = () => {
    body.append(...rows.slice(most).map(line));
    more.remove();
  };
  const more = el(
    "button",
    { type: "button", className: "more", onclick: showAll },
    `show all ${rows.length}`,
  );
  return [scrolled, more];
}

/** Sort by a column: numbers by size, texts with their numbers by size; missing values come last. */
function sorted(rows, column, down) {
  const known = (row) => {
    const value = column.value(row);
    return value === null || value === undefined || value === "-" ? null : value;
  };
  return [...rows].sort((a, b) => {
    const [x, y] = [known(a), known(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const order =
      typeof x === "number" && typeof y === "number"
        ? x - y
        : String(x).localeCompare(String(y), "en", { numeric: true });
    return down ? -order : order;
  });
}

// On paper there is nothing to press.
addEventListener("beforeprint", () => {
  for (const more of document.querySelectorAll("button.more")) more.click();
});
