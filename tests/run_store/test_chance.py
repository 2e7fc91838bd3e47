"""Results that are said to be near chance, in the box of a run and in comparisons."""

from pathlib import Path

import pytest
from running import TINY

from cnnbench.run_store.chance import near_chance


@pytest.mark.parametrize(
    ("accuracy", "classes", "images", "chance", "near"),
    [
        (0.10, 10, 10_000, 0.10, True),
        (0.23, 10, 360, 0.1056, True),  # vgg11 at a rate that is too high
        (0.40, 10, 10_000, 0.10, False),
        (0.05, 100, 10_000, 0.01, False),  # five times chance, after one epoch
        (0.02, 100, 10_000, 0.01, True),
        (0.55, 2, 1000, 0.50, True),
        (0.75, 2, 1000, 0.50, False),
        (0.80, 2, 1000, 0.80, True),  # the share of the larger class
        (0.60, 2, 20, 0.50, True),
        (0.95, 2, 1000, 0.80, False),
    ],
)
def test_near_chance(accuracy, classes, images, chance, near):
    figures = {"test/acc": accuracy, "data/classes": classes, "data/test": images, "data/chance": chance}
    assert near_chance(figures) == (chance if near else None)


def test_of_an_earlier_version_chance_is_one_in_the_number_of_classes():
    assert near_chance({"test/acc": 0.2, "data/classes": 10, "data/test": 360}) == 0.1
    assert near_chance({"test/acc": 0.2}) is near_chance({}) is None


def test_a_run_near_chance_says_so(cli):
    code, out, _ = cli("train", *TINY, "optimizer.lr=1e-12", "scheduler=constant", "name=x")
    assert code == 0
    assert "near chance" in out
    assert "guessing gives 10.28 %; try another optimizer.lr" in " ".join(out.split())
    assert cli("train", *TINY, "trainer.max_epochs=8", "name=x")[1].count("near chance") == 0
    code, out, _ = cli("compare", "outputs", "--html", "page.html")
    assert code == 0
    said = "1 run ended near chance, so that their row says little: basic-digits-s0-"
    assert said in " ".join(out.split())
    assert said in Path("page.html").read_text(encoding="utf-8")
