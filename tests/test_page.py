"""The page in a real Chromium: it works, nothing leaves it, and what runs say stays text."""

import json
import re
import time

import pytest
from made_runs import make_run
from playwright.sync_api import sync_playwright
from test_compare import HOSTILE

from cnnbench.compare.comparison import compare
from cnnbench.compare.page import page as render
from cnnbench.compare.records import read
from cnnbench.runs import write_atomic

pytestmark = pytest.mark.slow

CHROMIUM = "/usr/bin/chromium"  # Debian's


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    """`show(runs, **options)`: the page of these runs; afterwards it must have been quiet."""
    said, asked, tabs = [], [], []

    def open_(runs, **options):
        file = tmp_path / "page.html"
        file.write_text(render(compare(read([runs])), "these runs", file), encoding="utf-8")
        return visit(file, **options)

    def visit(file, **options):
        tab = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        tabs.append(tab)
        return tab

    open_.visit = visit
    yield open_
    for tab in tabs:
        tab.close()
    assert said == []
    assert {url.partition("#")[0] for url in asked} <= {(tmp_path / "page.html").as_uri()}


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


def until(tab, expression, arg=None, seconds=30):
    """Wait until it is true. Playwright's own way needs `eval` in the page, which the policy forbids."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression, arg):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def rows(tab, section="rows"):
    """The cells of a table that are seen."""
    return [
        [cell.inner_text() for cell in row.query_selector_all("td")]
        for row in tab.query_selector_all(f"#{section} tbody tr")
    ]


def test_everything_is_there(show, runs):
    tab = show(runs)
    assert tab.title() == "Comparison of these runs"
    assert "19 runs" in tab.inner_text("#counts")
    assert len(rows(tab)) == 6
    for section in ("tradeoff", "effects", "map", "curves"):
        assert tab.is_visible(f"#{section} svg[role=img]"), section
        assert tab.get_attribute(f"#{section} svg[role=img]", "aria-label")
    assert "3 of 4 (1 failed)" in tab.inner_text("#rows")
    assert "no <b>memory</b>" in tab.inner_text("#errors")
    assert "Student's t" in tab.inner_text("#methods")
    labels = tab.text_content("#tradeoff svg[role=img]")
    for best in ("vgg11 batch", "resnet18 batch", "alexnet batch"):
        assert best in labels, "the Pareto front is marked"
    assert "vgg11 none" not in labels


def test_the_numbers_are_those_of_the_comparison(show, runs):
    tab, found = show(runs), compare(read([runs]))
    for row, cells in zip(found.rows, rows(tab), strict=True):
        low, high = (f"{100 * end:.2f}" for end in (row.score.low, row.score.high))
        assert cells[:2] == [row.settings["arch.name"], row.settings["ops.norm"]]
        assert f"{100 * row.score.mean:.2f} [{low}, {high}]" in cells


def test_filters_by_value_and_by_word(show, runs):
    tab = show(runs)
    tab.click("#axes details[data-axis='ops.norm'] summary")
    tab.uncheck("#axes details[data-axis='ops.norm'] label:has-text('none') input")
    until(tab, "document.querySelectorAll('#rows tbody tr').length === 3")
    assert {row[1] for row in rows(tab)} == {"batch"}
    assert tab.inner_text("#matches").startswith("3 of 6 configurations")
    tab.fill("#search", "vgg")
    until(tab, "document.querySelectorAll('#rows tbody tr').length === 1")
    assert rows(tab)[0][0] == "vgg11"
    tab.fill("#search", "norm=batch arch=vgg")
    until(tab, "document.querySelectorAll('#rows tbody tr').length === 1")
    tab.fill("#search", "nothing of that name")
    until(tab, "document.querySelectorAll('#rows tbody tr').length === 0")
    assert "Nothing matches the filters" in tab.inner_text("#curves")


def test_sorting_by_mouse_and_by_keyboard(show, runs):
    tab = show(runs)
    tab.click("#rows th button:has-text('params')")
    tab.wait_for_selector("#rows th[aria-sort=descending] >> text=params")
    assert [row[5] for row in rows(tab)] == ["3 k"] * 2 + ["2 k"] * 2 + ["1 k"] * 2
    tab.focus("#rows th button:has-text('arch')")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#rows th[aria-sort=ascending] >> text=arch")
    assert [row[0] for row in rows(tab)] == sorted(row[0] for row in rows(tab))
    assert tab.evaluate("document.activeElement.textContent") == "arch", "the keyboard stays where it was"
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#rows th[aria-sort=descending] >> text=arch")
    assert rows(tab)[0][0] == "vgg11"


def test_charts_change_with_their_controls(show, runs):
    tab = show(runs)

    def shape(section):
        return tab.inner_html(f"#{section} svg[role=img]")

    for section, change in (
        ("tradeoff", lambda: tab.uncheck("#tick-logx")),
        ("tradeoff", lambda: tab.select_option("#tradeoff #choose-x", "macs")),
        ("tradeoff", lambda: tab.select_option("#tradeoff #choose-colour", "ops.norm")),
        ("effects", lambda: tab.select_option("#choose-axis", "arch.name")),
        ("curves", lambda: tab.check("#tick-logy")),
        ("curves", lambda: tab.select_option("#choose-curve", "val/loss")),
        ("curves", lambda: tab.fill("#best", "1")),
        ("curves", lambda: tab.locator("#smooth").press("End")),
    ):
        before = shape(section)
        change()
        if section == "curves":
            tab.locator("#best").blur()
        until(
            tab,
            "([id, before]) => document.querySelector(`#${id} svg[role=img]`).innerHTML !== before",
            arg=[section, before],
        )


def test_every_chart_has_its_table(show, runs):
    tab = show(runs)
    for section, columns in (("tradeoff", 4), ("effects", 6), ("map", 5), ("curves", 6)):
        tab.click(f"#{section} details.table summary")
        tab.wait_for_selector(f"#{section} details.table table")
        assert {len(row) for row in rows(tab, section)} == {columns}
    assert len(rows(tab, "curves")) == 6 * 3
    front = [row for row in rows(tab, "tradeoff") if row[3] == "yes"]
    assert len(front) == 3


def test_two_configurations_against_each_other(show, runs):
    tab = show(runs)
    tab.select_option("#choose-a", label="vgg11 batch")
    tab.select_option("#choose-b", label="vgg11 none")
    until(tab, "!document.querySelector('#diff').innerText.includes('arch.name')")
    found = {row[0]: row[1:] for row in rows(tab, "diff")}
    assert found["ops.norm"][:2] == ["batch", "none"]
    assert found["test acc % [95 %]"][2] == "-10.0 points"


def test_what_was_chosen_is_still_there_when_the_page_is_loaded_again(show, runs):
    tab = show(runs)
    tab.fill("#search", "vgg")
    tab.click("#rows th button:has-text('params')")
    until(tab, "document.querySelectorAll('#rows tbody tr').length === 2")
    tab.reload()
    tab.wait_for_selector("html[data-ready]", state="attached")
    assert tab.input_value("#search") == "vgg"
    assert len(rows(tab)) == 2
    assert tab.is_visible("#rows th[aria-sort=descending] >> text=params")


def test_links_lead_to_the_runs_and_commands_are_given(show, runs, tmp_path):
    tab = show(runs)
    links = [link.get_attribute("href") for link in tab.query_selector_all("#runs tbody a")]
    assert len(links) == 19
    assert all((tmp_path / link / "status.json").is_file() for link in links)
    tab.click("#rows tbody tr:first-child details summary")
    assert tab.inner_text("#rows tbody tr:first-child pre") == (
        "cnnbench train -m arch=vgg11 ops.norm=batch optimizer.lr=0.1 data=digits seed=0,1,2,3"
    )


def test_a_page_of_wandb_is_linked_and_nothing_else_is(show, runs):
    one, other = sorted(path for path in runs.iterdir() if "vgg11-none" in path.name)[:2]
    for path, url in ((one, "https://wandb.ai/me/cnnbench/runs/1"), (other, "javascript:alert(1)")):
        (path / "wandb").mkdir()
        (path / "wandb" / "url.txt").write_text(url)
    tab = show(runs)
    links = [link.get_attribute("href") for link in tab.query_selector_all("#runs a[target=_blank]")]
    assert links == ["https://wandb.ai/me/cnnbench/runs/1"]


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_runs_off_the_page(show, runs, width):
    tab = show(runs, viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("#tradeoff svg[role=img]").bounding_box()["width"] <= width


def test_dark_and_light(show, runs):
    def lightness(tab, what):
        colour = tab.evaluate(f"getComputedStyle(document.body).{what}")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    dark, light = (show(runs, color_scheme=scheme) for scheme in ("dark", "light"))
    assert lightness(dark, "backgroundColor") < 150 < lightness(dark, "color")
    assert lightness(light, "backgroundColor") > 600 > lightness(light, "color")


def test_it_prints_without_its_controls(show, runs):
    tab = show(runs, color_scheme="dark")
    tab.emulate_media(media="print")
    assert not tab.is_visible("#filters")
    assert not tab.is_visible("#tradeoff .controls")
    assert tab.is_visible("#tradeoff svg[role=img]")
    assert len(tab.pdf()) > 20_000


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_shown_as_text(show, tmp_path, text):
    folder = tmp_path / "hostile"
    for seed in range(2):
        make_run(folder, head=text, seed=seed, name=text, arch=text[:40])
        make_run(folder, head="gap", seed=seed)
    make_run(folder, head=text, seed=7, state="failed", error=text)
    tab = show(folder)
    assert tab.title() == "Comparison of these runs"
    assert tab.locator("#rows img, #runs img, #errors img").count() == 0
    assert tab.evaluate("document.scripts.length") == 4
    settings = tab.evaluate("[...document.querySelectorAll('#rows td')].map((cell) => cell.textContent)")
    # A cell has its text whole: a long one behind its beginning.
    assert any(cell.endswith(text) for cell in settings)
    errors = tab.evaluate("[...document.querySelectorAll('#errors pre')].map((cell) => cell.textContent)")
    assert errors == [" ".join(f"RuntimeError: {text}".split())]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_policy_forbids_everything_else(show, runs, browser, tmp_path):
    """Even if a text came through, it could not run, load or send."""
    show(runs)
    file = tmp_path / "page.html"
    taken = file.read_text().replace(
        "<main>",
        "<main><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
        '<img src="https://example.invalid/a.png"><form action="https://example.invalid"></form>'
        '<p style="color: red" id="styled">styled</p>',
    )
    other = tmp_path / "taken.html"
    other.write_text(taken)
    blocked = []
    tab = browser.new_page()
    tab.on("console", lambda message: blocked.append(message.text))
    tab.goto(other.as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached")
    assert tab.title() == "Comparison of these runs"
    assert sum("Content Security Policy" in text for text in blocked) >= 3
    assert tab.evaluate("getComputedStyle(document.querySelector('#styled')).color") != "rgb(255, 0, 0)"
    violated = tab.evaluate("""async () => {
        const found = [];
        addEventListener("securitypolicyviolation", (event) => found.push(event.effectiveDirective));
        fetch("https://example.invalid").catch(() => {});
        try { new WebSocket("wss://example.invalid"); } catch {}
        new Image().src = "https://example.invalid/a.png";
        navigator.sendBeacon("https://example.invalid");
        const frame = document.body.appendChild(document.createElement("iframe"));
        frame.src = "https://example.invalid";
        const script = document.body.appendChild(document.createElement("script"));
        script.textContent = "document.title = 'taken'";
        document.querySelector("form[action]").submit();
        await new Promise((done) => setTimeout(done, 500));
        return [document.title, ...new Set(found)].sort();
    }""")
    assert violated == [
        "Comparison of these runs",
        "connect-src",
        "form-action",
        "frame-src",
        "img-src",
        "script-src-elem",
    ]
    tab.close()


def test_settings_and_figures_may_be_called_anything(show, tmp_path):
    folder = tmp_path / "runs"
    for seed in range(2):
        for value in ("a", "b"):
            make_run(folder, seed=seed, constructor=value, toString=value, __proto__=value)
        make_run(folder, seed=seed, head="gap", figures={"constructor": 1.5, "toString": 2, "__proto__": 3})
    tab = show(folder)
    assert len(rows(tab)) == 3
    assert len(rows(tab, "runs")) == 6
    tab.click("#axes details[data-axis='arch.constructor'] summary")
    tab.uncheck("#axes details[data-axis='arch.constructor'] label:has-text('a') input")
    until(tab, "document.querySelectorAll('#rows tbody tr').length === 2")
    assert "constructor" in tab.inner_text("#diff")


def test_curves_with_holes(show, tmp_path):
    """NaN and infinity are gaps, an empty metrics.csv no curve, and a foreign one is passed over."""
    folder = tmp_path / "runs"
    make_run(folder, seed=0, curve=(0.1, "nan", 0.3))
    make_run(folder, seed=1, curve=("inf", 0.2, 0.3, 0.4))
    make_run(folder, seed=2, norm="none", curve=())
    (make_run(folder, seed=3, norm="none").path / "metrics.csv").write_text("a;b\n1;2\n")
    tab = show(folder)
    tab.click("#curves details.table summary")
    tab.wait_for_selector("#curves details.table table")
    assert [[row[1], row[2], row[5]] for row in rows(tab, "curves")] == [
        ["0", "10.00", "1"], ["1", "20.00", "1"], ["2", "30.00", "2"], ["3", "40.00", "1"],
    ]  # fmt: skip


def test_300_runs_of_50_epochs_fit_into_the_budget(show, tmp_path):
    import random

    draw = random.Random(0)
    folder = tmp_path / "runs"
    for arch in ("alexnet", "vgg11", "googlenet", "resnet18", "efficientnet_b0", "mobilenet_v2"):
        for norm in ("batch", "group", "layer", "instance", "none"):
            for seed in range(10):
                one = make_run(folder, arch=arch, norm=norm, seed=seed, test=draw.random(), val=draw.random())
                names = ("epoch", "val/acc", "val/loss", "train/acc", "train/loss", "lr", "time/epoch_s")
                lines = [",".join([str(e), *(str(draw.random()) for _ in names[1:])]) for e in range(50)]
                (one.path / "metrics.csv").write_text("\n".join([",".join(names), *lines, ""]))
    tab = show(folder)
    assert (tmp_path / "page.html").stat().st_size < 2.5e6
    assert len(rows(tab)) == 30
    data = json.loads(tab.inner_text("#data") or tab.evaluate("document.querySelector('#data').textContent"))
    assert len(data["curves"]) == 300


def test_a_watched_page_shows_what_has_become_of_the_runs(show, runs, tmp_path):
    def text():
        return render(compare(read([runs])), "these runs", tmp_path / "page.html", reload_s=5)

    show(runs)
    file = tmp_path / "page.html"
    write_atomic(file, text())
    tab = show.visit(file)
    tab.fill("#search", "vgg")
    make_run(runs, arch="vgg16", seed=0)
    write_atomic(file, text())
    tab.wait_for_selector("#rows >> text=vgg16", timeout=60_000)  # it waits until nobody works with it
    assert tab.input_value("#search") == "vgg", "what was searched for is still searched for"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(show, runs, scheme):
    """axe-core finds nothing: names, contrasts, roles, order, in both modes and with all tables open."""
    from axe_playwright_python.sync_playwright import Axe

    tab = show(runs, color_scheme=scheme, bypass_csp=True)  # axe is a script of ours
    for summary in tab.query_selector_all("details > summary"):
        summary.click()
    found = Axe().run(tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()
