"""Whatever is written behind `cnnbench train`: a run, or one line and nothing written."""

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from search import examples

from cnnbench.settings.compose import CONF

GIVEN = {"trainer": "trainer.max_epochs=1", "data": "data.limit=200", "logger": "logger=none"}
"""Overrides that keep a valid run short, by section; left out where another one is about that section."""

ENDLESS = ("trainer.max_epochs", "device.nodes")
"""Settings whose values, if they are valid, train for days or wait for other machines."""

# fmt: off
VALUES = [
    "", "null", "true", "on", "-1", "0", "1", "2", "3.5", "1_000", "0x10", "1e400", "-1e400", "1e-320",
    "9" * 25, "nan", "inf", "basic", "sgd", "adam", "cosine", "digits", "fake", "none", "cpu", "é", "a b",
    "a\nb", "a\tb", "'x'", '"y"', "[1,2]", "[]", "{}", "{a:1}", "{a:{b:[1]}}", "[a,[b,[c]]]", "1,2",
    "range(1,3)", "choice(1,2)", "glob(*)", "sort(1,2)", "interval(0,1)", "tag(a,1)", "int(1.5)",
    "float(x)", "extend_list([1])", "${seed}", "${nope}", "${nope:1}", "${oc.env:HOME}", "${oc.env:NOPE}",
    "${", "~", "'", '"', "[", "{", "(", ")", ",", "=", "@", "$", "\\", "%s", "???", "&a", "*a", "#c", "a=b",
    "../../x", "/etc/passwd", "os.system", "!!python/object:os.system", "\x1b[31m", "\u202e", "x" * 300,
    "1" * 400, "[" * 200, "{a:" * 200,
]
OTHER_KEYS = [
    "hydra", "hydra.mode", "hydra.verbose", "hydra.job.name", "hydra.run.dir", "hydra/launcher",
    "hydra/sweeper", "budget", "experiment", "arch/native", "arch@x", "arch@x.y", "optimizer/foo", "search",
    "lr", "epochs", "-m", "--cfg", "-c", "--info", "-cd", "-cn", "--help", "--hel", "--lr", "-x", "-1",
    "--", "-",
]
# fmt: on


def keys(section, before=""):
    for name, value in section.items():
        yield before + name
        if isinstance(value, dict):
            yield from keys(value, f"{before}{name}.")


with initialize_config_dir(CONF, version_base="1.3"):
    DEFAULT = OmegaConf.to_container(compose("train"))
KEYS = [key for key in keys(DEFAULT) if key not in ENDLESS] + OTHER_KEYS
SIGNS = st.text("abc123._/@=-+~ \n'\"[]{}$\\é,:", max_size=12)


def overrides():
    ends = st.sampled_from([""] * 8 + [".", "..", ".x", "[0]", "@", "/", ":", "\n", " ", "é"])
    key = st.one_of([st.builds("".join, st.tuples(st.sampled_from(KEYS), ends))] * 9 + [SIGNS])
    value = st.one_of(
        *[st.sampled_from(VALUES).map(lambda text: "=" + text)] * 6, SIGNS.map("=".__add__), SIGNS
    )
    return st.builds("".join, st.tuples(st.sampled_from(["", "", "", "+", "++", "~"]), key, value))


def tried(cli, words):
    known = [word for section, word in GIVEN.items() if not any(section in other for other in words)]
    code, _, err = cli("train", *known, *words)
    assert code in (0, 2), err
    if code == 2:
        assert err.startswith("error: ")
        assert (err.count("\n"), err[-1]) == (1, "\n"), err
        written = [path.name for path in Path.cwd().iterdir() if path.name != "cache"]
        assert "hydra" in "".join(words) or not written
    else:
        assert "rror" not in err
    for path in Path.cwd().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@examples(30)
@given(st.lists(overrides(), min_size=1, max_size=3))
def test_any_overrides(cli, words):
    tried(cli, words)


@pytest.mark.slow
@examples(300)
@given(st.lists(overrides(), min_size=1, max_size=3), st.booleans())
def test_any_overrides_of_sweeps_too(cli, words, sweep):
    tried(cli, [*words, *["-m", "seed=1,2"] * sweep])
