// Elements and text. Text from the data is inserted as text nodes alone, never as markup.
// Uses nothing.

const byId = (id) => document.getElementById(id);
// A section is <section id="…"><h2>…</h2><div class="controls"></div><div class="body"></div></section>.
const bodyOf = (id) => byId(id).querySelector(".body");
const controlsOf = (id) => byId(id).querySelector(".controls");

/** Make an element with properties and children; strings become text. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  const present = children.flat().filter((child) => child !== null && child !== undefined);
  element.append(...present.map((child) => (typeof child === "string" ? legible(child) : child)));
  return element;
}

/** Show control characters as `\u{202e}`: they could reorder or hide text. Joiners inside words stay. */
const legible = (text) =>
  text.replace(
    /(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}]/gu,
    (control) => `\\u{${control.codePointAt(0).toString(16)}}`,
  );
const short = (text, most = 48) => legible(text.length > most ? text.slice(0, most - 1) + "…" : text);

/** Fold a text that is too long for a cell behind its beginning. */
const folded = (text) =>
  text.length <= 120 ? text : el("details", {}, el("summary", {}, short(text, 60)), el("pre", {}, text));

/** Call `draw`, which replaces elements, and move the keyboard focus to the one that replaces the focused one. */
function keepingFocus(draw) {
  const sortKey = document.activeElement?.dataset?.sort ?? null,
    id = document.activeElement?.id;
  draw();
  const successor =
    sortKey !== null
      ? [...document.querySelectorAll("[data-sort]")].find((button) => button.dataset.sort === sortKey)
      : id && byId(id);
  if (successor && successor !== document.activeElement) successor.focus({ preventScroll: true });
}

const listOf = (texts) =>
  el(
    "ul",
    {},
    texts.map((text) => el("li", {}, text)),
  );
