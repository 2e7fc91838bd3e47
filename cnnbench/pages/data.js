// The data of this page, which Python has written into the element #data.
// Uses nothing.

// Objects have no prototype: a setting may be called "constructor".
const withoutPrototype = (key, value) =>
  value && typeof value === "object" && !Array.isArray(value)
    ? Object.assign(Object.create(null), value)
    : value;
const data = JSON.parse(document.getElementById("data").textContent, withoutPrototype);
