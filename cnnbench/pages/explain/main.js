// The pictures of a run, one below the other.
// Uses data.js, dom.js.

byId("facts").replaceChildren(...listOf(data.facts).children);
byId("pictures").replaceChildren(
  ...data.pictures.map((picture) =>
    el(
      "section",
      { id: picture.name },
      el("h2", {}, picture.title),
      el(
        "figure",
        {},
        el("img", { src: picture.src, alt: picture.caption, width: picture.width }),
        el("figcaption", {}, picture.caption),
      ),
    ),
  ),
);
document.documentElement.dataset.ready = "yes";
