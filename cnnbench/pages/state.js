// The state of the page, kept in its address, so that a reload or a link shows the same.
// Uses nothing.

const state = {};
let redraw = () => {};

/**
 * Read the state from the address. Anybody may have written it: a value whose type differs from that of its
 * default is ignored.
 * defaults: values by key. table.js needs `sort: {}`, and each chart of charts.js `<key>Table: false`.
 * examples: for defaults that are objects with arbitrary keys, a value as an example: `sort: ["", false]`.
 * draw: draws the page from the state.
 */
function startState(defaults, examples, draw) {
  redraw = draw;
  let stored = {};
  try {
    stored = JSON.parse(decodeURIComponent(location.hash.slice(1))) ?? {};
  } catch {
    /* no state, or not one of this page */
  }
  const read = ([key, usual]) => {
    if (!Object.hasOwn(stored, key) || !like(stored[key], usual)) return [key, usual];
    if (!(key in examples)) return [key, stored[key]];
    const members = Object.entries(stored[key]).filter(([, value]) => like(value, examples[key]));
    return [key, Object.fromEntries(members)];
  };
  Object.assign(state, Object.fromEntries(Object.entries(defaults).map(read)));
}

/** Return whether a value has the type of an example. A list of one example stands for one of any length. */
function like(value, example) {
  if (!Array.isArray(value) || !Array.isArray(example))
    return (
      value !== null && typeof value === typeof example && Array.isArray(value) === Array.isArray(example)
    );
  return (
    (example.length === 1 || value.length === example.length) &&
    value.every((member, i) => like(member, example[i % example.length]))
  );
}

/** Change the state, store it in the address and draw again. */
function set(change) {
  Object.assign(state, change);
  try {
    history.replaceState(null, "", "#" + encodeURIComponent(JSON.stringify(state)));
  } catch {
    /* some browsers forbid this for files */
  }
  cancelAnimationFrame(set.frame);
  set.frame = requestAnimationFrame(redraw);
}
