"""Fixtures of this folder."""

import pytest
from page_support import CHROMIUM
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """`visit(file, address="", **options)`: a page that logs no message and requests no other file."""
    messages, requests, tabs = [], [], []

    def open_(file, address="", **options):
        tab = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.absolute().as_uri() + address)
        tab.wait_for_selector("html[data-ready]", state="attached")
        tabs.append(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.close()
    assert messages == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
    assert len({url.partition("#")[0] for url in requests if url.startswith("file")}) <= 1
