"""Run the commands of the guide, and put what they print and draw into its pages and docs/pictures/guide.

    python docs/guide.py [--folder build/guide] [PAGE …]      # all pages of docs/guide, or convolution.md …

A page's commands are the lines of its ```console blocks that begin with `$ `; they run in the order of the
pages' list in docs/index.md, all in one folder, so that a later one finds the runs of an earlier one, and a
second time finished runs are not trained again. A ```text block after them shows what the last one printed,
```text 9 its first nine lines. A
picture `](../pictures/guide/NAME)` is the file NAME that a command above it wrote (DIR-FILE: the file FILE of
the folder DIR). What a page says about figures is for its author to compare with what was made.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

DOCS = Path(__file__).parent
PAGES, PICTURES = DOCS / "guide", DOCS / "pictures" / "guide"
COLUMNS = 112
LISTED = re.compile(r"\]\(guide/([\w-]+\.md)\)")
PICTURE = re.compile(r"\]\(\.\./pictures/guide/([\w.-]+)\)")
BLOCK = re.compile(r"^```(console|text)( \d+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[str]:
    """Return the names of the guide's pages in the order in which docs/index.md lists them."""
    return LISTED.findall((DOCS / "index.md").read_text(encoding="utf-8"))


def commands(block: str) -> list[str]:
    """Return the commands of a console block, without prompts; a line that ends with a backslash goes on."""
    joined = block.replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


def run(command: str, folder: Path) -> str:
    """Run a command and return what it printed on standard output.

    Raises:
        SystemExit: it fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": str(COLUMNS)}
    print(f"$ {command}", flush=True)
    began = time.monotonic()
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {command}\n{done.stdout}")
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return done.stdout


def remade(text: str, folder: Path) -> str:
    """Run a page's commands; return the page with what they printed, after its pictures are copied."""
    printed = ""

    def block(match: re.Match[str]) -> str:
        nonlocal printed
        kind, most, content = match.groups()
        if kind == "text":
            lines = printed.splitlines()[: int(most) if most else None]
            return "\n".join([f"```text{most or ''}", *lines, "```"])
        for command in commands(content):
            lines = run(command, folder).splitlines()
            printed = "".join(f"{line.rstrip()}\n" for line in lines).strip("\n") + "\n"
        return match[0]

    text = BLOCK.sub(block, text)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in PICTURE.findall(text):
        shutil.copyfile(source(name, folder), PICTURES / name)
    return text


def source(name: str, folder: Path) -> Path:
    """Return the file of a picture: NAME, or FILE in the folder DIR for a picture DIR-FILE.

    Raises:
        SystemExit: no command wrote it.
    """
    places = [folder / name]
    places += [folder / name[: dash.start()] / name[dash.end() :] for dash in re.finditer("-", name)]
    for place in places:
        if place.is_file():
            return place
    raise SystemExit(f"docs/pictures/guide/{name}: no command of the page wrote it")


def main() -> None:
    """Remake the pages that are asked for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="default: all")
    parser.add_argument("--folder", type=Path, default=DOCS.parent / "build" / "guide")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.pages or pages():
        page = PAGES / name
        page.write_text(remade(page.read_text(encoding="utf-8"), folder), encoding="utf-8")
        print(f"written: {page}")


if __name__ == "__main__":
    main()
