"""The page in a real Chromium: it works, nothing leaves it, and what runs say stays text."""

import json
from urllib.parse import quote

import pytest
from made_runs import make_run
from page_support import rows, until

from cnnbench.comparison.comparison import Options, compare
from cnnbench.comparison.metrics import figure
from cnnbench.comparison.records import read
from cnnbench.comparison.report.wording import sentence

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize(
    ("word", "configurations", "runs_"),
    [
        ("diverged", 1, 1),
        ("state=diverged", 1, 1),
        ("state=failed", 1, 1),
        ("seed=1", 6, 6),
        ("seed=10", 1, 1),
        ("seed=2 norm=batch", 3, 3),
        ("lr=0", 0, 0),
    ],
)
def test_states_and_seeds_are_searched_like_settings(show, runs, word, configurations, runs_):
    """A number is meant whole: seed=1 is not seed=10."""
    make_run(runs, arch="vgg11", norm="batch", seed=10)
    tab = show(runs)
    tab.fill("#search", word)
    until(tab, "n => document.querySelectorAll('#rows tbody tr').length === n", configurations)
    assert len(rows(tab, "runs")) == runs_


def test_an_address_that_is_wrong_counts_as_none(show, runs):
    keys = ("off", "sort", "x", "axis", "map", "curve", "colour", "by", "a", "b", "smooth", "best", "logx")
    states = [
        None,
        [1],
        *(dict.fromkeys((*keys, "q"), value) for value in (None, 5, [5], {}, True)),
        dict.fromkeys(keys, "x"),
        {"sort": {"rows": 5}},
        {"sort": {"rows": None, "runs": [], "errors": [5, True], "diff": ["A"]}},
        {"off": {"arch.name": 5, "ops.norm": None, "__proto__": ["x"]}},
        {"off": {"arch.name": [5], "ops.norm": {}}},
        {"smooth": 7, "best": -3},
        {"__proto__": {"q": "x"}, "constructor": 1},
    ]
    tab = show(runs)
    page = tab.url
    for state in states:
        tab.goto(f"{page}#{quote(json.dumps(state))}")
        tab.reload()
        tab.wait_for_selector("html[data-ready]", state="attached", timeout=10_000)
        drawn = ("#rows tbody tr", "#runs tbody tr", "main svg[role=img]")
        assert [tab.locator(one).count() for one in drawn] == [6, 19, 4], state
        assert "NaN" not in tab.inner_html("#curves svg[role=img]"), state
        tab.fill("#search", "vgg11 norm=none")
        until(tab, "document.querySelectorAll('#rows tbody tr').length === 1")


def test_what_is_right_in_an_address_counts_beside_what_is_wrong(show, runs, tmp_path):
    show(runs)
    state = {"q": 5, "off": {"arch.name": ["vgg11"], "ops.norm": 5}, "sort": {"rows": ["params", False]}}
    tab = show.visit(tmp_path / "page.html", address="#" + quote(json.dumps(state)))
    assert [row[0] for row in rows(tab)] == ["alexnet"] * 2 + ["resnet18"] * 2
    assert tab.is_visible("#rows th[aria-sort=ascending] >> text=params")


@pytest.mark.parametrize(
    ("options", "column", "direction"),
    [
        ({}, "val acc", "descending"),
        ({"sort": "arch"}, "arch", "ascending"),
        ({"sort": "test/acc"}, "test acc %", "descending"),
        ({"sort": "data/test"}, "data/test", "ascending"),
        ({"metric": "best/val_acc"}, "val acc %", "descending"),
        ({"by": ("ops.norm",)}, "val acc", "descending"),
    ],
)
def test_the_order_that_rows_come_in_is_said(show, runs, options, column, direction):
    tab = show(runs, Options(**options))
    sorted_ = tab.query_selector_all("#rows th:not([aria-sort=none])")
    assert [(one.inner_text(), one.get_attribute("aria-sort")) for one in sorted_] == [(column, direction)]
    assert tab.inner_text("#rows caption").endswith(f"; sorted by {column}, {direction}")
    first, other = rows(tab)[0], {"ascending": "descending", "descending": "ascending"}[direction]
    sorted_[0].query_selector("button").click()
    tab.wait_for_selector(f"#rows th[aria-sort={other}] >> text='{column}'")
    assert tab.inner_text("#rows caption").endswith(f"; sorted by {column}, {other}")
    assert rows(tab)[0] != first or options.get("sort") == "data/test", "the same there, in all rows"


def test_where_nothing_has_finished_no_order_is_said(show, tmp_path):
    make_run(tmp_path / "runs", state="failed", error="no")
    make_run(tmp_path / "runs", norm="none", state="failed", error="no")
    tab = show(tmp_path / "runs")
    assert "sorted by" not in tab.inner_text("#rows caption")
    assert tab.query_selector("#rows th:not([aria-sort=none])") is None


def test_the_caption_says_what_a_row_is_the_mean_of(show, runs):
    assert "mean over the finished runs" in show(runs).inner_text("#rows caption")
    by = show(runs, Options(by=("ops.norm",))).inner_text("#rows caption")
    assert by.startswith("2 rows; test acc is the mean over architecture families")
    assert "over the finished runs" not in by


def test_runs_that_do_not_count_in_a_pooled_row_are_left_out(show, runs):
    """One architecture has all norms: the others would make the comparison unfair."""
    make_run(runs, arch="resnet18", norm="group", seed=0)
    counts = {row[0]: row[1] for row in rows(show(runs, Options(by=("ops.norm",))))}
    assert counts["batch"] == "3 of 10 (1 failed, 6 left out)"
    assert counts["group"] == "1"


def test_the_effects_are_labelled_each(show, runs):
    """Also values that begin alike, and the first of them."""
    values = [f"a_value_whose_name_is_long_{i}" for i in (1, 2, 3)]
    for i, value in enumerate(values):
        for seed in range(2):
            make_run(runs, arch="vgg11", norm=value, seed=seed, test=0.5 + i / 10)
    tab = show(runs)
    tab.select_option("#choose-axis", "ops.norm")
    labels = tab.locator("#effects svg[role=img] text").all_text_contents()
    assert labels.count("a_value_whose_name_is_l… · vgg") == 3
    assert {f"none · {of}" for of in ("all families", "vgg", "resnet", "alexnet")} <= set(labels)
    for label in tab.locator("#effects svg[role=img] text").all():
        assert label.bounding_box()["x"] >= 0, "no label is cut"


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
    assert found["test acc % [95 %]"] == ["91.00 [88.52, 93.48]", "81.00 [78.52, 83.48]", "-10.0 points"]
    assert [found["n"][i].split(" ", 1) for i in (0, 1)] == [["3", "of 4 (1 failed)"], ["3"]]
    [effect] = [
        one
        for one in compare(read([runs])).effects
        if (one.axis, one.value, one.family) == ("ops.norm", "none", "vgg")
    ]
    words = sentence(effect, figure("test/acc"))
    paired = f"Over pairs of runs in the vgg family, ops.norm=none against batch: {words}"
    assert paired in tab.inner_text("#diff")
    tab.select_option("#choose-a", label="vgg11 none")
    tab.select_option("#choose-b", label="vgg11 batch")
    until(tab, "document.querySelector('#diff').innerText.includes('+10.0 points')")
    assert paired in tab.inner_text("#diff"), "it says itself what is against what"


def test_two_configurations_of_which_one_has_no_result_or_that_differ_in_much(show, runs):
    for seed in range(3):
        make_run(runs, arch="vgg11", norm="group", seed=seed, state="diverged", error="loss is nan")
    tab = show(runs)
    tab.select_option("#choose-a", label="vgg11 none")
    tab.select_option("#choose-b", label="vgg11 group")
    until(tab, "document.querySelector('#diff').innerText.includes('B: vgg11 group')")
    found = {row[0]: row[1:] for row in rows(tab, "diff")}
    assert found["n"] == ["3", "0 of 3 (3 diverged)", ""]
    assert found["test acc % [95 %]"][1:] == ["-", ""]
    assert "Effects has the paired comparisons" in tab.inner_text("#diff"), "neither is the baseline"
    tab.select_option("#choose-b", label="resnet18 batch")
    until(tab, "document.querySelector('#diff').innerText.includes('B: resnet18 batch')")
    assert "Effects has the paired comparisons" in tab.inner_text("#diff")
    tab.select_option("#choose-b", label="resnet18 none")
    until(tab, "document.querySelector('#diff').innerText.includes('B: resnet18 none')")
    assert "Over pairs of runs, arch=resnet18 against vgg11: " in tab.inner_text("#diff")


def test_cells_that_are_means_over_less_are_marked(show, runs):
    for seed in range(3):
        make_run(runs, arch="vgg11", norm="group", seed=seed, state="diverged", error="loss is nan")
        make_run(runs, arch="vgg11", norm="none", lr=0.01, seed=seed)
    tab = show(runs)
    said = tab.inner_text("#map figcaption")
    assert "†" in said
    assert "at most 2" in said
    tab.click("#map details.table summary")
    tab.wait_for_selector("#map details.table table")
    cells = {(row[0], row[1]): row[2:] for row in rows(tab, "map")}
    assert cells["alexnet", "none"][1:] == ["2 of 3", "1"]
    assert cells["vgg11", "batch"][1:] == ["3 of 4", "1"]
    assert cells["vgg11", "none"][1:] == ["6", "2"]
    assert cells["vgg11", "group"] == ["- %", "0 of 3", "0 of 1"]
    drawn = tab.evaluate(
        "[...document.querySelectorAll('#map svg[role=img] text')].map((e) => e.textContent)"
    )
    marked = [text for text in drawn if text.endswith("†")]
    assert len(marked) == 6, "all but vgg11 with none"
    assert "-†" in marked
    tab.fill("#search", "lr=0.1 resnet18")
    until(tab, "!document.querySelector('#map figcaption').innerText.includes('†')")


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


def test_on_a_phone_the_accuracy_is_beside_the_settings(show, runs):
    for seed in range(2):
        make_run(runs, arch="efficientnet_b0", norm="instance", lr=0.001, seed=seed)
    tab = show(runs, viewport={"width": 390, "height": 800})
    assert rows(tab)[0][0] == "vgg11 batch 0.1"
    for cell in tab.query_selector_all("#rows tbody td:nth-child(2)"):
        box = cell.bounding_box()
        assert box["x"] + box["width"] <= 390
    box = tab.locator("#rows caption").bounding_box()
    assert box["x"] + box["width"] <= 390
    tab.set_viewport_size({"width": 1280, "height": 800})
    until(tab, "document.querySelector('#rows tbody td').innerText === 'vgg11'")
