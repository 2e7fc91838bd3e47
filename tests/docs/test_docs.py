"""The documentation: generated pages are not stale, links lead somewhere, README is what CI runs."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted(
    [*DOCS.rglob("*.md"), *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))]
)
names = pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))


def load(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load("generate")


@pytest.mark.parametrize("name", generate.PAGES)
def test_what_a_generated_page_says_is_still_so(name):
    """Each of its lines, in order; what was added since may be missing until `python docs/generate.py`."""
    current = iter(generate.PAGES[name]().splitlines())
    for line in (DOCS / "reference" / name).read_text().splitlines():
        assert line in current, f"run python docs/generate.py: {line}"


def test_every_setting_is_described():
    """Its range comes from the schema, its meaning from the comment in conf/."""
    rows = re.findall(
        r"^\| `(\S+)` \| .*? \| (.*?) \| (.*?) \|$", generate.PAGES["settings.md"](), re.MULTILINE
    )
    assert len(rows) > 80
    for setting, allowed, meaning in rows:
        assert allowed, setting
        assert meaning or allowed.startswith("`"), setting


def test_comments_of_a_choice_are_read():
    header, found = generate.entries(
        "# A head,\n# in two lines.\nname: x\n# Above.\na: 1\n"
        "b: [1, 2]    # beside\n             # and below\nc:\n  d: null   # within\n"
    )
    assert header == "A head,\nin two lines."
    assert [(one.key, one.value, one.comment) for one in found] == [
        ("name", "x", ""), ("a", "1", "Above."), ("b", "[1, 2]", "beside and below"), ("c", None, ""),
        ("c.d", "null", "within"),
    ]  # fmt: skip


def anchors(path):
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@names
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for target in targets:
        file, _, anchor = target.partition("#")
        if ":" in file:
            continue
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_on_the_first_one():
    listed = (DOCS / "index.md").read_text()
    for path in DOCS.rglob("*.md"):
        assert path.name == "index.md" or f"({path.relative_to(DOCS)})" in listed, path


def test_the_commands_that_ci_runs_are_the_first_two_of_readme():
    text = (ROOT / "README.md").read_text()
    venv = "python3 -m venv .venv && .venv/bin/pip install"
    assert re.findall(r"^```sh\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL) == [
        f"{venv} . && .venv/bin/cnnbench train -m experiment=quickstart",
        f"{venv} -e '.[test]' && .venv/bin/pytest",
    ]
    assert len(text.splitlines()) <= 170


def test_citation_names_this_version():
    import cnnbench

    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    assert str(found["version"]) == cnnbench.__version__
