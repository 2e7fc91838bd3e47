// The reload of a page that is written again: every data.reload_s seconds, unless somebody is using it.
// Uses data.js.

if (data.reload_s) {
  let touched = 0;
  // Somebody in a field may be about to type.
  const pause = () => (document.activeElement?.matches("input, select") ? 60_000 : 10_000);
  for (const kind of ["pointerdown", "keydown", "input", "wheel", "touchmove"])
    addEventListener(
      kind,
      () => {
        touched = Date.now();
      },
      { passive: true },
    );
  setInterval(() => {
    if (Date.now() - touched > pause()) location.reload();
  }, 1000 * data.reload_s);
}
