"""Make the pictures of README.md from real runs.

    python docs/pictures.py page FOLDER   # of the runs below FOLDER: pictures/page-light.png, page-dark.png
    python docs/pictures.py recording     # trains the quickstart anew: pictures/quickstart.svg

The page is a part of what `cnnbench compare FOLDER --html` writes, photographed in the Chromium that is
installed (CHROMIUM names another one). The recording is what the quickstart printed, line by line at its own
times, with pauses shortened; it is an SVG with an animation in CSS and without any script.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent / "pictures"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
COMMAND = "cnnbench train -m experiment=quickstart"
COLUMNS = 116
PAUSE_S = 0.7
"""The longest pause that is shown."""

SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>A terminal session</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas,
  "DejaVu Sans Mono", monospace }}
.{unique_id}-title {{ font: bold 18px system-ui, sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own format loads fonts from a network."""

ANIMATION = """
@keyframes appear {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}
@media (prefers-reduced-motion: no-preference) {{
{rules}
}}
"""


def photograph(folder: Path) -> None:
    """Photograph a part of the page of some runs, in light and in dark mode."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        page = Path(place) / "page.html"
        compare = [sys.executable, "-m", "cnnbench", "compare", folder, "--html", page]
        subprocess.run(compare, check=True, stdout=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            size = {"width": 920, "height": 1000}
            tab = browser.new_page(color_scheme=scheme, viewport=size, device_scale_factor=1.5)
            tab.goto(page.as_uri())
            tab.locator("#map svg").first.wait_for()
            first, last = (tab.locator(part).bounding_box() for part in ("#effects", "#map"))
            assert first is not None
            assert last is not None
            clip = {"x": 0, "y": first["y"], "width": size["width"]}
            clip["height"] = last["y"] + last["height"] - first["y"]
            tab.screenshot(path=HERE / f"page-{scheme}.png", full_page=True, clip=clip)  # type: ignore[arg-type]
            print(f"written: {HERE / f'page-{scheme}.png'}")
        browser.close()


def record() -> None:
    """Run the quickstart in an empty folder and write what it printed as an animated SVG."""
    shown, when = session()
    from rich.console import Console
    from rich.text import Text

    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in shown:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop", highlight=False)
    svg = console.export_svg(title="cnnbench", code_format=SVG, unique_id="t")
    rules = [
        f'[clip-path="url(#t-line-{number})"] {{ animation: appear 1ms {delay:.2f}s both }}'
        for number, delay in enumerate(delays(when))
    ]
    svg = svg.replace("</style>", ANIMATION.format(rules="\n".join(rules)) + "</style>")
    (HERE / "quickstart.svg").write_text(svg, encoding="utf-8")
    print(f"written: {HERE / 'quickstart.svg'}")


def session() -> tuple[list[str], list[float]]:
    """Run the command and return the lines that stayed on the screen, and when each was last written."""
    variables = {
        "COLUMNS": str(COLUMNS),
        "FORCE_COLOR": "1",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
    lines, times, row = [f"\x1b[1m$ {COMMAND}\x1b[0m", ""], [0.0, 0.0], 1
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", *COMMAND.split()]
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 65536):
            for token in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", chunk.decode("utf-8", "replace")):
                if token == "\n":
                    row += 1
                    if row == len(lines):
                        lines.append("")
                        times.append(0.0)
                elif up := re.fullmatch(r"\x1b\[(\d+)A", token):
                    row = max(1, row - int(up[1]))
                elif token == "\x1b[2K":
                    lines[row] = ""
                elif token and (token[0] != "\x1b" or token[-1] == "m") and token != "\r":
                    lines[row] += token
                    times[row] = time.monotonic() - began
        if process.wait():
            raise SystemExit("\n".join(lines))
    kept = [(line, at) for line, at in zip(lines, times, strict=True) if line or at]
    return [line for line, _ in kept], [at for _, at in kept]


def delays(when: list[float]) -> list[float]:
    """Return at which second each line appears, with pauses cut to PAUSE_S."""
    shown, now, before = [], 0.3, 0.0
    for at in when:
        now += min(PAUSE_S, max(0.0, at - before))
        before = max(before, at)
        shown.append(now)
    return shown


def main(arguments: list[str]) -> int:
    """Make what is asked for."""
    match arguments:
        case ["page", folder]:
            photograph(Path(folder))
        case ["recording"]:
            record()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
