"""Names of folders, files and classes and values of a run that would act on a terminal, through the verbs."""

import shutil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_runs import make_run
from PIL import Image
from search import examples

pytest_plugins = ["finished_fixtures"]

PIECES = [
    "\x1b[31m",
    "\x1b]0;t\x07",
    "\x9b2J",
    "\u202e",
    "\u2066",
    "\n",
    "\r",
    "\t",
    "\x7f",
    "\u2028",
    "\udcff",
]
PIECES += ["[bold]", "[b]x[!b]", ":smile:", "=1+1", "-x", "@", ",", "'", '"', "%s", "{}", "é", "a", " "]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)


def clean(*texts):
    for text in texts:
        assert not [c for c in text if not c.isprintable() and c not in "\n\u200c\u200d"], text
    return True


@pytest.fixture
def verbs(photos, cli, tmp_path):
    def run(name):
        """Run all verbs with this name wherever a name can be; return their exit codes."""
        home = tmp_path / "tried"
        shutil.rmtree(home, ignore_errors=True)
        folder = home / f"n{name}"
        made = make_run(folder, norm=f"n{name}", name=f"n{name}", seed=1)
        make_run(folder, norm=f"n{name}", seed=2, state="failed", error=f"e{name}")
        for label in ("ape", "bee", f"z{name}"):
            (home / "images" / label).mkdir(parents=True)
            Image.new("RGB", (20, 20), "red").save(home / "images" / label / f"i{name}.png")
        (folder / "broken" / "bee").mkdir(parents=True)
        (folder / "broken" / "bee" / f"broken{name}.png").write_bytes(b"no")
        shutil.copytree(photos.path, folder / photos.path.name)
        run, copied = folder / made.path.name, folder / photos.path.name
        images = f"data.root={home / 'images'}"
        commands = [
            ("runs", folder), ("runs", run), ("runs", copied), ("runs", folder, f"arch={name}"),
            ("compare", folder), ("compare", folder, "--csv", "-"), ("compare", folder, "--json", "-"),
            ("compare", folder, "--markdown", "-"), ("compare", folder, "--latex", folder / f"x{name}"),
            ("predict", copied, home), ("predict", copied, home, "--csv", "-"),
            ("predict", copied, folder / "gone", "--json", "-"),
            ("evaluate", copied, "data=imagefolder", images),
            ("evaluate", copied, "data=imagefolder", images, "--csv", "-"),
            ("evaluate", copied, "data=imagefolder", f"data.root={folder}"),
            ("export", copied, "--output", folder / "gone" / f"x{name}"), ("export", folder / "gone"),
            ("train", "data=imagefolder", f"data.root={folder}"), ("train", f"arch=basic{name}"),
            ("train", f"data.root={name}", "data=mnist"), ("inspect", f"of={folder}"), ("sync", folder),
            ("dashboard", folder, "--out", folder / "gone" / "x"), (f"x{name}",),
        ]  # fmt: skip
        codes = []
        for arguments in commands:
            try:
                code, *shown = cli(*arguments)
            except SystemExit as stop:  # argparse
                code, shown = stop.code, []
            clean(*shown)
            codes.append(code)
        return codes

    return run


@examples(1)
@given(NAMES)
@example("\x1b[31m\u202e\n\x9b2J[b]x[!b]")
@example("\x1b[31m\u202e\n\x9b2J[b]x[!b]\udcff")
def test_no_name_reaches_the_terminal_raw(verbs, name):
    codes = verbs(name)
    assert codes[:3] == [0, 0, 0], codes
    assert codes[4:9] == [0] * 5
    assert codes[9:11] == [1, 1], "the images are predicted, but for one"
    assert codes[12:14] == [0, 0], "classes are matched by their order"
    assert set(codes[14:]) <= {1, 2}


def test_options_are_clean_too(cli, capfd):
    with pytest.raises(SystemExit):
        cli("runs", "--\x1b[31m")
    assert clean(capfd.readouterr().err)
