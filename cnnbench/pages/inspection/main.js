// The methods, and the order in which everything is drawn.
// Uses all the other scripts.

const DEFAULTS = { sort: {}, onlyDifferent: false, fieldsTable: false, mapsTable: false };
const EXAMPLES = { sort: ["", false] };

const METHODS = [
  "Field: the side in pixels of what a unit depends on, by the largest path through the network, in brackets by the " +
    "smallest where they differ (of a sum or a concatenation); all: it grows with the image.",
  "Sees: the share of the image that the unit in the middle depends on; the border cuts fields off.",
  "Window: kernel/stride and padding. MACs: multiply-accumulates for one image. Memory: of the output, as float32.",
];

function draw() {
  keepingFocus(() => {
    drawTotals();
    drawFields();
    drawMaps();
    drawDifference();
    drawModels();
  });
}

startState(DEFAULTS, EXAMPLES, draw);
bodyOf("methods").replaceChildren(listOf(METHODS));
draw();
document.documentElement.dataset.ready = "yes";
