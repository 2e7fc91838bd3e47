"""The page of inspected models, in a browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from hostile import HOSTILE
from page_support import CHROMIUM, rows, until
from playwright.sync_api import sync_playwright

from cnnbench.inspection.alignment import compare
from cnnbench.inspection.description import describe
from cnnbench.inspection.page import page
from cnnbench.settings.described import described

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    """`show(models, difference)`: their page, which must log no message and request no other file."""
    messages, requests, tabs = [], [], []

    def open_(models, difference=None):
        file = tmp_path / "page.html"
        file.write_text(page(models, difference), encoding="utf-8")
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        tabs.append(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.close()
    assert messages == []
    assert set(requests) == {(tmp_path / "page.html").as_uri()}


def of(*words):
    return describe(described([*words, "data=cifar10"]), " ".join(words))


def test_a_page_of_one_model_has_what_the_terminal_has(show):
    model = of("arch=resnet20")
    tab = show([model])
    cells = rows(tab, "layers0")
    assert [row[1] for row in cells] == [layer["name"] for layer in model["layers"]]
    act = next(row for row in cells if row[1] == "layer1.0.act2")
    assert act[3:5] == ["16x32x32", "7 (3)"]
    assert rows(tab, "totals")[0][:5] == ["arch=resnet20", "3x32x32", "10", "269,722", "40,551,040"]
    assert "the field exceeds the image from layer2.2.conv1 on" in tab.inner_text("#layers0")
    assert not tab.is_visible("#difference")
    assert tab.locator("main svg[role=img]").count() == 2
    assert Axe().run(tab).violations_count == 0


def test_two_models_are_marked_layer_by_layer(show):
    models = [of("arch=vgg11"), of("arch=vgg11_bn")]
    difference = compare(*models)
    tab = show(models, difference)
    assert len(rows(tab, "difference")) == len(difference["layers"])
    tab.check("#tick-onlyDifferent")
    until(tab, "document.querySelectorAll('#difference tbody tr').length === 8")
    assert {(row[1], row[3]) for row in rows(tab, "difference")} == {("+ second", "BatchNorm2d")}
    assert "MACs: 0, 1.000 times the first" in tab.inner_text("#totals")
    assert Axe().run(tab).violations_count == 0


def test_names_from_outside_stay_text(show):
    model = of("arch=basic", "arch.width=0.25")
    hostile = {**model, "label": HOSTILE["script"] if "script" in HOSTILE else next(iter(HOSTILE.values()))}
    hostile["layers"] = [
        {**layer, "name": text, "kind": text}
        for layer, text in zip(model["layers"], list(HOSTILE.values()) * 9, strict=False)
    ]
    show([hostile, model], compare(hostile, model))
