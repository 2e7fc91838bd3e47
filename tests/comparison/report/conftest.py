"""Fixtures of this folder."""

import pytest
from made_runs import make_run
from page_support import CHROMIUM
from playwright.sync_api import sync_playwright

from cnnbench.comparison.comparison import compare
from cnnbench.comparison.records import read
from cnnbench.comparison.report.page import page as render


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    """`show(runs, **options)`: the page of these runs. It must log no message and request no other file."""
    messages, requests, tabs = [], [], []

    def open_(runs, compared=None, **options):
        file = tmp_path / "page.html"
        file.write_text(render(compare(read([runs]), compared), "these runs", file), encoding="utf-8")
        return visit(file, **options)

    def visit(file, address="", clock=False, **options):
        tab = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
        if clock:  # a simulated clock, which a test can advance
            tab.clock.install()
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.as_uri() + address)
        tab.wait_for_selector("html[data-ready]", state="attached")
        tabs.append(tab)
        return tab

    open_.visit = visit
    yield open_
    for tab in tabs:
        tab.close()
    assert messages == []
    assert {url.partition("#")[0] for url in requests} <= {(tmp_path / "page.html").as_uri()}


@pytest.fixture
def runs(tmp_path):
    """Three architectures, two norms, three seeds; one failed, one diverged."""
    folder = tmp_path / "runs"
    sizes = {"vgg11": 3000, "resnet18": 2000, "alexnet": 1000}
    for i, (arch, params) in enumerate(sizes.items()):
        for norm in ("batch", "none"):
            for seed in range(3):
                test = 0.9 - i / 20 - (norm == "none") / 10 + seed / 100
                lost = (arch, norm, seed) == ("alexnet", "none", 2)
                make_run(
                    folder, arch=arch, norm=norm, seed=seed, test=test, val=test, curve=(0.2, 0.5, test),
                    figures={"params": params}, state="diverged" if lost else "finished",
                    error="loss is nan" if lost else "",
                )  # fmt: skip
    make_run(folder, arch="vgg11", norm="batch", seed=3, state="failed", error="no <b>memory</b>")
    return folder
