"""The curves over a setting, on the page in a real Chromium."""

import pytest
from made_runs import make_run
from page_support import rows, until

pytestmark = pytest.mark.slow

RATES = (0.001, 0.01, 0.1, 1.0)


@pytest.fixture
def rates(tmp_path):
    """Two architectures, four learning rates, two seeds; all diverge at 1."""
    folder = tmp_path / "rates"
    for arch, best in (("vgg11", 0.01), ("resnet18", 0.1)):
        for lr in RATES:
            for seed in (0, 1):
                make_run(
                    folder, arch=arch, lr=lr, seed=seed, val=0.9 - abs(lr - best) + seed / 100,
                    state="diverged" if lr == 1 else "finished", error="loss is nan" if lr == 1 else "",
                    select=("optimizer.lr",),
                )  # fmt: skip
    return folder


def test_the_curves_the_best_and_the_diverged(show, rates):
    tab = show(rates)
    text = tab.text_content("#response svg[role=img]")
    assert "★ 0.01" in text
    assert "★ 0.1" in text
    assert "diverged" in text
    assert "best at 0.01" in tab.inner_text("#findings")
    assert "val acc % over optimizer.lr" in tab.get_attribute("#response svg[role=img]", "aria-label")
    assert tab.locator("#response .legend li").all_inner_texts() == ["resnet18", "vgg11"]
    tab.click("#response summary")
    until(tab, "document.querySelectorAll('#response tbody tr').length === 8")
    cells = {(row[0], row[1]): row[2:] for row in rows(tab, "response")}
    assert cells["vgg11", "0.01"] == ["90.50 %", "90.00 %", "91.00 %", "2", "0"]
    assert cells["vgg11", "1"] == ["-", "-", "-", "0 of 2", "2"]


def test_filters_and_the_metric(show, rates):
    tab = show(rates)
    tab.fill("#search", "arch=vgg11 seed=0")
    until(tab, "document.querySelectorAll('#response .legend li').length === 0")
    assert "★ 0.1" not in tab.text_content("#response svg[role=img]").replace("★ 0.01", "")
    tab.select_option("#choose-response", "test/acc")
    until(tab, "document.querySelector('#response figcaption').innerText.startsWith('test acc %')")
    assert "the best value, by val acc" in tab.inner_text("#response figcaption")
    tab.fill("#search", "nothing of that name")
    until(tab, "document.querySelector('#response .body').innerText.includes('Nothing matches')")


def test_runs_without_a_numeric_setting_have_no_section(show, runs):
    assert not show(runs).is_visible("#response")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(show, rates, scheme):
    from axe_playwright_python.sync_playwright import Axe

    tab = show(rates, color_scheme=scheme, bypass_csp=True)
    for summary in tab.query_selector_all("details > summary"):
        summary.click()
    found = Axe().run(tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()


def test_it_fits_a_phone(show, rates):
    tab = show(rates, viewport={"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert "★ 0" not in tab.text_content("#response svg[role=img]"), "labels would cover each other"


def test_runs_that_differ_in_more_are_points_without_lines(show, tmp_path):
    for i, lr in enumerate(RATES):
        make_run(tmp_path / "search", lr=lr, val=0.8, width=1 + i / 7)
    tab = show(tmp_path / "search")
    assert tab.locator("#response svg[role=img] circle, #response svg[role=img] g > path").count() >= 4
    assert "runs differ in other settings, too" in tab.inner_text("#response figcaption")
    assert "★" not in tab.text_content("#response svg[role=img]")
    assert tab.locator("#choose-over option").all_inner_texts() == ["arch.width", "optimizer.lr"]
