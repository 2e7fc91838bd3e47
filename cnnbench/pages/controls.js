// Controls that change one key of the state.
// Uses dom.js, state.js.

function choose(label, key, options, write = (value) => value) {
  const select = el(
    "select",
    { onchange: () => set({ [key]: select.value }) },
    options.map((value) => el("option", { value }, short(String(write(value)), 80))),
  );
  select.value = state[key];
  select.id = "choose-" + key;
  return el("label", {}, label, select);
}

function tick(label, key) {
  const box = el("input", {
    type: "checkbox",
    checked: state[key],
    id: "tick-" + key,
    onchange: () => set({ [key]: box.checked }),
  });
  return el("label", {}, box, label);
}
