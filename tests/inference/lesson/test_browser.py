"""The page of a lesson, and that of `explain`, in a real Chromium: by mouse, by keyboard and on a phone."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_support import until

from cnnbench.cli import main
from cnnbench.data.image_file import Memory
from cnnbench.inference import trained_model
from cnnbench.inference.explain.examples import of_images, one_of_each_class
from cnnbench.inference.lesson.calls import calls
from cnnbench.training.images import make_data

pytest_plugins = ["finished_fixtures"]
pytestmark = pytest.mark.slow

STEPS = 13
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]}


@pytest.fixture(scope="module")
def truth(digits):
    """The calls of the digits run for the images of the page."""
    trained = trained_model.load(digits)
    data = make_data(trained.settings.data, trained.settings.arch, trained.settings.seed)
    examples = of_images(data.test, one_of_each_class(data.test, 4), trained.preparation, Memory())
    return calls(trained, examples.pixels)


@pytest.fixture
def lesson(digits, visit):
    assert main(["lesson", str(digits.path), "--output", "lesson.html"]) == 0
    return lambda address="", **options: visit(Path("lesson.html"), address, **options)


def at(**state):
    return "#" + quote(json.dumps(state))


def settled(tab, do):
    """Do something, and wait until the page is drawn again."""
    before = tab.get_attribute("html", "data-drawn")
    do()
    until(tab, "before => document.documentElement.dataset.drawn !== before", before)


def heading(tab):
    return tab.inner_text("#layer h2")


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-"))


def test_each_layer_by_mouse(lesson):
    tab = lesson()
    buttons = tab.locator("#layers .step")
    assert buttons.count() == STEPS
    for i in reversed(range(STEPS)):
        settled(tab, buttons.nth(i).click)
        assert heading(tab).startswith(f"{i + 1} of {STEPS}: ")
        assert tab.inner_text("#layer .body p:nth-child(2)")
    assert tab.is_visible("#matrix")


def test_each_layer_by_keyboard(lesson):
    tab = lesson()
    tab.focus("#layers .step[aria-pressed=true]")
    for i in range(1, STEPS):
        settled(tab, lambda: tab.keyboard.press("ArrowRight"))
        assert heading(tab).startswith(f"{i + 1} of {STEPS}: ")
        assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    settled(tab, lambda: tab.keyboard.press("Home"))
    tab.focus("#output")
    settled(tab, lambda: tab.keyboard.press("ArrowDown"))
    settled(tab, lambda: tab.keyboard.press("ArrowLeft"))
    assert tab.inner_text("#unit").startswith("Unit 5, 3 of map 0: about ")
    assert tab.evaluate("document.activeElement.id") == "output"


def test_the_numbers_are_those_of_the_network(lesson, truth):
    """Of each layer a unit: what the page shows, within what its 256 levels tell apart."""
    for i, call in enumerate(truth):
        channel, row, column = 2, 1, 0
        tab = lesson(at(step=i, image=3, channel=channel, row=row, column=column))
        shown = number(tab.inner_text("#unit").partition("about ")[2])
        maps = call.returned
        if maps.ndim == 4 and maps.shape[2:] != (1, 1):
            row = min(row, maps.shape[2] - 1)
            true, levels = maps[3, channel, row, column], maps[:, channel]
        else:
            true, levels = maps.flatten(1)[3, column], maps.flatten(1)[:, :256]
        step = float(levels.max() - levels.min()) / 255
        assert abs(shown - float(true)) <= 1.1 * step, (
            call.name
        )  # half a level, and the rounding of its digits


def test_a_convolution_is_added_up_before_the_reader(lesson, truth):
    """Weights times pixels, in the page, give what the network computed."""
    for row, column, channel, image in ((1, 1, 0, 0), (3, 4, 5, 2), (6, 6, 7, 1)):
        tab = lesson(at(step=0, image=image, channel=channel, row=row, column=column))
        found = number(re.search(r"Sum.*?: (\S+)\. Pixels", tab.inner_text("#sum"))[1])
        assert found == pytest.approx(float(truth[0].returned[image, channel, row, column]), abs=2e-4)
    tab = lesson(at(step=0, row=0, column=0))
    assert tab.locator("#sum").count() == 0, "the window reaches into the padding"


def test_the_field_grows(lesson):
    """As computed for the layers: 3, 4, 8, 10 pixels; and the window of a unit lies in the middle of it."""
    tab = lesson()
    sizes = {}
    for i in range(8):
        sizes[i] = tab.inner_text("#field-size").split(" pixels")[0].rpartition(" ")[2]
        settled(tab, lambda: tab.click("#on"))
    assert [sizes[i] for i in (0, 3, 4, 7)] == ["3×3", "4×4", "8×8", "10×10"]
    tab = lesson(at(step=4, row=1, column=2))
    frame = {key: float(tab.get_attribute("#sees rect.field", key)) for key in ("x", "y", "width", "height")}
    assert frame == {"x": 4 - 3, "y": 2 - 3, "width": 8, "height": 8}
    assert tab.locator("#sees rect.earlier").count() == 2


def test_a_unit_is_chosen_by_a_click(lesson):
    tab = lesson()
    box = tab.locator("#output").bounding_box()
    settled(tab, lambda: tab.mouse.click(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.3))
    assert tab.inner_text("#unit").startswith("Unit 2, 7 of map 0")
    settled(tab, lambda: tab.locator("#does .map").nth(3).click())
    assert tab.inner_text("#unit").startswith("Unit 2, 7 of map 3")


def test_rows_of_the_matrix_are_the_kernel_moved_on(lesson):
    tab = lesson()
    settled(tab, lambda: tab.locator("#line").press("Home"))
    assert "row 0: output 0, 0" in tab.inner_text("#matrix")
    settled(tab, lambda: tab.locator("#line").press("ArrowRight"))
    assert "row 1: output 0, 1" in tab.inner_text("#matrix")
    assert tab.evaluate("document.activeElement.id") == "line"


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_runs_off_the_page(lesson, width):
    tab = lesson(viewport={"width": width, "height": 800}, has_touch=True)
    for _ in range(STEPS):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, heading(tab)
        tab.tap("#on")
        tab.wait_for_timeout(100)
    assert heading(tab).startswith(f"{STEPS} of {STEPS}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(lesson, scheme):
    for i in range(STEPS):
        tab = lesson(at(step=i), color_scheme=scheme, bypass_csp=True)  # axe is a script of ours
        found = Axe().run(tab, options=RULES)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(
    "state",
    [{"step": 1e9, "channel": -7, "image": 99}, {"step": "x"}, {"row": 1e99, "column": 0.5}, [], None],
)
def test_any_address_shows_a_layer(lesson, state):
    tab = lesson("#" + quote(json.dumps(state)))
    assert re.match(rf"\d+ of {STEPS}: ", heading(tab))


def test_the_policy_lets_nothing_out(lesson, tmp_path, browser):
    lesson()
    text = Path("lesson.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src &#x27;none&#x27;" in policy or "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_explain(digits, visit, scheme):
    pytest.importorskip("captum")
    assert main(["explain", str(digits.path), "--output", "made", "--html", "page.html"]) == 0
    tab = visit(Path("page.html"), color_scheme=scheme, bypass_csp=True)
    pictures = tab.locator("figure img")
    assert pictures.count() == len([*Path("made").iterdir()])
    assert tab.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 50)")
    found = Axe().run(tab, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
