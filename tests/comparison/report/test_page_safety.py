"""The page in a real Chromium: it works, nothing leaves it, and what runs say stays text."""

import json
import re
import time
import unicodedata

import pytest
from hostile import HOSTILE
from made_runs import make_measurement, make_run
from page_support import rows, until

from cnnbench.comparison.comparison import compare
from cnnbench.comparison.records import read
from cnnbench.comparison.report.page import page as render
from cnnbench.run_store.files import write_atomic

pytestmark = pytest.mark.slow


def visible(text):
    """As the page writes it: with controls that can be seen."""
    return "".join(
        f"\\u{{{ord(one):x}}}" if unicodedata.category(one) in ("Cc", "Cf") else one for one in text
    )


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


def test_on_paper_it_says_what_is_seen(show, runs):
    """Return what the controls say on a screen: the filters, and which two configurations."""
    tab = show(runs)
    tab.emulate_media(media="print")
    assert not tab.is_visible("#filtered")
    tab.emulate_media(media="screen")
    tab.fill("#search", "arch=")
    tab.click("#axes details[data-axis='ops.norm'] summary")
    tab.uncheck("#axes details[data-axis='ops.norm'] label:has-text('none') input")
    until(tab, "document.querySelectorAll('#rows tbody tr').length === 3")
    assert not tab.is_visible("#filtered")
    tab.emulate_media(media="print")
    assert tab.inner_text("#filtered") == (
        "Filtered: 3 of 6 configurations, 10 of 19 runs; search “arch=”; excluding ops.norm=none"
    )
    heads = [one.inner_text() for one in tab.query_selector_all("#diff th")]
    assert heads[1:3] == ["A: vgg11 batch", "B: resnet18 batch"]
    assert not tab.is_visible("#diff .controls")


def test_on_paper_all_rows_are_there(show, tmp_path):
    for seed in range(101):
        make_run(tmp_path / "runs", seed=seed)
    tab = show(tmp_path / "runs")
    assert tab.locator("#runs tbody tr").count() == 100
    tab.pdf()
    assert tab.locator("#runs tbody tr").count() == 101


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
    assert any(cell.endswith(visible(text)) for cell in settings)
    errors = tab.evaluate("[...document.querySelectorAll('#errors pre')].map((cell) => cell.textContent)")
    assert errors == [visible(" ".join(f"RuntimeError: {text}".split()))]
    for summary in tab.query_selector_all("details.table > summary"):
        summary.click()
    seen = tab.evaluate(
        "[...document.querySelectorAll('body :not(script)')].map((e) => e.textContent).join('')"
    )
    assert not {one for one in seen if unicodedata.category(one) in ("Cc", "Cf")} - {"\n"}
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
    """Runs of different lengths; one without epochs has no curve, and damaged ones are passed over."""
    folder = tmp_path / "runs"
    make_run(folder, seed=0, curve=(0.1, 0.2, 0.3))
    make_run(folder, seed=1, curve=(0.2, 0.2, 0.3, 0.4))
    make_run(folder, seed=2, curve=(0.9, "nan", 0.9))
    make_run(folder, seed=3, norm="none", curve=())
    (make_run(folder, seed=4, norm="none").path / "metrics.csv").write_text("a;b\n1;2\n")
    tab = show(folder)
    tab.click("#curves details.table summary")
    tab.wait_for_selector("#curves details.table table")
    assert [[row[1], row[2], row[5]] for row in rows(tab, "curves")] == [
        ["0", "15.00", "2"], ["1", "20.00", "2"], ["2", "30.00", "2"], ["3", "40.00", "1"],
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
    """As soon as nobody works with it: who is in a field may be about to type."""

    def text():
        return render(compare(read([runs])), "these runs", tmp_path / "page.html", reload_s=5)

    show(runs)
    file = tmp_path / "page.html"
    write_atomic(file, text())
    tab = show.visit(file, clock=True)
    tab.evaluate("document.body.dataset.loaded = 'once'")
    tab.fill("#search", "vgg")
    make_run(runs, arch="vgg16", seed=0)
    write_atomic(file, text())
    tab.clock.fast_forward(30_000)
    time.sleep(1)  # in which it would be loaded
    assert tab.get_attribute("body", "data-loaded") == "once"
    tab.locator("#search").blur()
    tab.clock.fast_forward(10_000)
    tab.wait_for_selector("#rows >> text=vgg16")
    assert tab.input_value("#search") == "vgg", "what was searched for is still searched for"
    tab.evaluate("document.body.dataset.loaded = 'once'")
    tab.focus("#search")
    tab.clock.fast_forward(65_000)
    tab.wait_for_selector("body:not([data-loaded])", state="attached")  # a field that is left alone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(show, runs, scheme):
    """axe-core finds nothing: names, contrasts, roles, order, in both modes and with all tables open."""
    from axe_playwright_python.sync_playwright import Axe

    tab = show(runs, color_scheme=scheme, bypass_csp=True)  # axe is a script of ours
    for summary in tab.query_selector_all("details > summary"):
        summary.click()
    found = Axe().run(tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()


def test_measurements_are_shown_as_what_they_are(show, tmp_path):
    """Times over orders of magnitude, ratios of few pairs, and no accuracy."""
    for arch, params, ms in (("vgg11", 900_000, 250.0), ("resnet18", 90_000, 0.25), ("alexnet", 9_000, 0.02)):
        for backend, times in (("eager", 1.0), ("compile", 0.1 if arch == "alexnet" else 3.0)):
            make_measurement(
                tmp_path / "runs", arch=arch, backend=backend, ms=times * ms,
                figures={"params": params, "time/load_s": 0.0036},
            )  # fmt: skip
    tab = show(tmp_path / "runs")
    assert tab.inner_text("#tradeoff h2") == "latency p50 ms against other metrics"
    ticks = " ".join(tab.locator("#tradeoff .body figure > svg text").all_text_contents())
    assert {"0.1", "1", "10", "100"} <= set(ticks.split())
    assert "3.6 ms" in tab.inner_text("#diff")
    assert "B relative to A is a ratio of means" in tab.inner_text("#diff")
    words = " ".join(tab.locator("#effects figure > svg text").all_text_contents()).split()
    assert max(map(len, words)) < 20, "no axis of a thousand zeros"
