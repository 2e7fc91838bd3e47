"""The shell of offline pages: its policy, its escaping, its files."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hostile import HOSTILE

from cnnbench.comparison.report import page as comparison
from cnnbench.inference.explain import page as explain
from cnnbench.inference.lesson import page as lesson
from cnnbench.inspection import page as inspection
from cnnbench.pages import shell


class Elements(HTMLParser):
    """The elements of a page: name, attributes and text of each."""

    def __init__(self, page):
        super().__init__()
        self.elements = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.elements[-1][2] += data

    def texts(self, tag):
        return [text for name, _, text in self.elements if name == tag]

    @property
    def policy(self):
        [policy] = [has["content"] for _, has, _ in self.elements if "http-equiv" in has]
        return policy


@pytest.fixture
def make(tmp_path):
    """`make(title, data, **options)`: a page whose own files are a heading and a script."""
    body, script = tmp_path / "body.html", tmp_path / "mine.js"
    body.write_text("<h1>{{title}}</h1>")
    script.write_text("draw(data);\n")

    def make(title="a title", data=None, **options):
        return shell.page(title, data or {}, body=str(body), scripts=[str(script)], **options)

    return make


@pytest.mark.parametrize("charts", [False, True])
def test_the_policy_allows_the_scripts_and_styles_of_the_page_alone(make, charts):
    elements = Elements(make(charts=charts))
    [data, *scripts], [style] = elements.texts("script"), elements.texts("style")
    assert data == '{"reload_s":0}'
    assert len(scripts) == (3 if charts else 1)
    assert scripts[-1].startswith('"use strict";\n')
    assert scripts[-1].endswith("draw(data);\n")

    def hashed(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert elements.policy.split("; ") == [
        "default-src 'none'",
        f"script-src {' '.join(map(hashed, scripts))}",
        f"style-src {hashed(style)}" + f" {shell.PLOT_STYLE}" * charts,
        "base-uri 'none'",
        "form-action 'none'",
    ]


@pytest.mark.parametrize(
    "text", [*HOSTILE.values(), "\udce9 of no encoding", "\0"], ids=[*HOSTILE, "surrogate", "zero"]
)
def test_titles_and_data_stay_text(make, text):
    page = make(text, {"text": text, "{{title}}": [text]})
    page.encode("utf-8")
    elements = Elements(page)
    visible = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)
    assert elements.texts("title") == elements.texts("h1") == [visible]
    data, _ = elements.texts("script")
    assert json.loads(data) == {"text": text, "{{title}}": [text], "reload_s": 0}


def test_numbers_that_json_lacks_are_no_data(make):
    with pytest.raises(ValueError, match="JSON"):
        make(data={"loss": float("nan")})


def test_a_page_that_is_written_again_says_so(make):
    page = make(reload_s=5)
    assert '"reload_s":5' in page
    assert "; reloads every 5 s" in "".join(Elements(page).texts("p"))


def test_every_file_is_used_once_and_says_what_it_is():
    listed = [*shell.STYLES, *shell.SCRIPTS, *shell.CHARTS]
    for kind in (comparison, explain, inspection, lesson):
        listed += [*kind.SCRIPTS, *kind.STYLES]
    files = [file for suffix in ("js", "css") for file in shell.FOLDER.rglob(f"*.{suffix}")]
    names = [file.relative_to(shell.FOLDER).as_posix() for file in files]
    assert sorted(listed) == sorted(name for name in names if not name.startswith("vendor/"))
    for name in listed:
        text = (shell.FOLDER / name).read_text(encoding="utf-8")
        assert text.startswith(("// ", "/* ")), name
        assert len(text.splitlines()) < 300, name
        assert not re.search(r"</script|</style|<!--", text, re.I), f"{name}: it would end its element"
