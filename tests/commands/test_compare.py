"""`cnnbench compare`: the command line, the files it writes, and hostile texts."""

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import HOSTILE
from made_runs import make_run
from running import TINY

from cnnbench import cli, console
from cnnbench.comparison.report import watch
from cnnbench.run_store.run import Run
from cnnbench.safe_text import clean


@pytest.fixture
def runs(tmp_path):
    """Two architectures, two norms, three seeds."""
    folder = tmp_path / "runs"
    for arch in ("vgg11", "resnet18"):
        for norm, gain in (("batch", 0.1), ("none", 0.0)):
            for seed in range(3):
                test = 0.7 + gain + seed / 100 + (arch == "vgg11") / 50
                make_run(folder, arch=arch, norm=norm, seed=seed, test=test, val=test)
    return folder


@pytest.fixture
def compare(capsys, monkeypatch):
    """`compare(…)`: exit code, standard output, standard error."""
    monkeypatch.setattr(console.out, "_width", 160)

    def call(*arguments):
        code = cli.main(["compare", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_terminal_has_rows_effects_and_methods(runs, compare):
    code, out, _ = compare(runs)
    assert code == 0
    assert f"12 runs in {runs}: 12 finished" in " ".join(out.split())
    assert "vgg11" in out
    assert "ops.norm: test acc against batch" in out
    assert "-10.0" in out
    assert "6 pairs in 2 families" in out
    assert "Student's t" in out
    assert "Holm's correction" in out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_is_asked_for_is_never_the_column_that_goes(tmp_path, compare, monkeypatch, width):
    """Five axes with long values: they share a column and are folded; the metric and val are never cut."""
    monkeypatch.setattr(console.out, "_width", width)
    for lr, act, head in ((0.1, "leaky_relu", "gap"), (0.02, "identity", "flatten")):
        for norm in ("instance", "batch"):
            for seed in range(2):
                state = "interrupted" if norm == "batch" else "finished"
                make_run(
                    tmp_path / "runs", arch="efficientnet_b0", lr=lr, act=act, norm=norm, head=head,
                    seed=seed, test=0.7 + seed / 10, val=0.8, state=state, zero_init="x" * 50,
                )  # fmt: skip
    _, out, _ = compare(tmp_path / "runs")
    assert "75.00 [11.47, 100.00]" in out
    assert "80.00" in out
    assert max(map(len, out.splitlines())) <= width
    text = " ".join(out.split())
    assert "test acc % [95 %]" in text
    assert "val acc %" in text
    assert "too narrow for params" in text or width == 120


def test_filters(runs, compare):
    for words in (["arch=vgg11"], ["--filter", "arch=vgg11"], ["arch.name=vgg11", "seed=0,1,2"]):
        code, out, _ = compare(runs, *words, "--json", "-")
        assert code == 0
        assert len(json.loads(out)["runs"]) == 6
    assert len(json.loads(compare(runs, "seed=0", "ops.norm=none", "--json", "-")[1])["runs"]) == 2


def test_csv_is_read_back_to_the_last_bit(runs, compare, tmp_path):
    target = tmp_path / "rows.csv"
    code, _, err = compare(runs, "--csv", target)
    assert (code, err) == (0, f"written: {target}\n")
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert len(rows) == 4
    first = rows[0]
    assert (first["arch.name"], first["ops.norm"], first["n"]) == ("vgg11", "batch", "3")
    assert float(first["test/acc"]) == sum(0.7 + 0.1 + s / 100 + 0.02 for s in range(3)) / 3
    assert float(first["low"]) < float(first["test/acc"]) < float(first["high"])


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)"])
def test_a_spreadsheet_takes_no_setting_for_a_formula(compare, tmp_path, text):
    make_run(tmp_path / "runs", head=text, lr="-0.5", seed=0)
    make_run(tmp_path / "runs", head="gap", lr="0.5", seed=0)
    rows = list(csv.DictReader(io.StringIO(compare(tmp_path / "runs", "--csv", "-")[1])))
    assert {row["arch.head"] for row in rows} == {f"'{text}", "gap"}
    assert {row["optimizer.lr"] for row in rows} == {"-0.5", "0.5"}, "numbers stay numbers"


def test_markdown_and_latex_are_tables_of_that_width(runs, compare):
    _, markdown, _ = compare(runs, "--markdown", "-")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 6
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert "- ops.norm=none against batch: " in markdown
    _, latex, _ = compare(runs, "--latex", "-")
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 5
    assert {line.count(" & ") for line in rows} == {rows[0].count(" & ")}
    assert r"\toprule" in latex


def test_pictures(runs, compare, tmp_path):
    from PIL import Image

    code, _, err = compare(runs, "--plots", tmp_path / "plots")
    assert code == 0
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {
        "test-acc-params.png",
        "test-acc-params.svg",
        "effect-ops-norm.png",
        "learning-curves.svg",
    } <= names
    assert f"written: {len(names) // 2} plots" in err
    with Image.open(tmp_path / "plots" / "effect-ops-norm.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10, "something is drawn"
    assert "all families" in (tmp_path / "plots" / "effect-ops-norm.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--metric", "test/akk"],
            "--metric test/akk: none of these runs has this metric; did you mean test/a",
        ),
        (["--sort", "parms"], "--sort parms: none of these runs has this metric; did you mean params?"),
        (["--by", "ops.nrm"], "--by ops.nrm: none of these runs has this setting; did you mean ops.norm?"),
        (["--select", "optimizer.rate"], "--select optimizer.rate: none of these runs has this setting"),
        (["--baseline", "ops.norm"], "--baseline ops.norm: allowed: KEY=VALUE"),
        (
            ["--baseline", "ops.norm=bath"],
            "--baseline ops.norm=bath: no run has this value; did you mean b",
        ),
        (["ops.nrm=none"], "ops.nrm=none: none of these runs has this setting; did you mean ops.norm?"),
        (
            ["--by", "zzz"],
            "--by zzz: none of these runs has this setting; those that differ here: arch, ops.norm",
        ),
        (["ops.norm=btch"], "no run with ops.norm=btch; did you mean batch? allowed: none, batch"),
        (["arch=vgg11", "ops.norm=9"], "no run with arch=vgg11 ops.norm=9; allowed: none, batch"),
        (
            ["--metric", "zzz"],
            "--metric zzz: none of these runs has this metric; allowed: best/val_acc, macs, ",
        ),
        (["--csv", "c" * 300], f"--csv {'c' * 300}: cannot be written (File name too long)"),
        (["--plots", ""], "--plots: the name is empty; allowed: a folder"),
        (["--csv", "a", "--plots", "/proc/x/y"], "--plots /proc/x/y: cannot be written ("),
        (
            ["--csv", "a", "--plots", "/dev/null"],
            "--plots /dev/null: /dev/null is not a folder; allowed: a folder",
        ),
        (["--csv", "a", "--html", "/proc/x"], "--html /proc/x: cannot be written ("),
        (
            ["--html", "-", "--watch"],
            "--html -: standard output cannot be rewritten; allowed with --watch: a file",
        ),
        (["--html", "a", "--csv", "-", "--watch"], "--csv -: standard output cannot be rewritten"),
        (["--html", "a", "--watch", "--by", "zzz"], "--by zzz: none of these runs has this setting"),
        (["--html", "a", "--watch", "--metric", "zzz"], "--metric zzz: none of these runs has this metric"),
        (["nowhere", "--html", "a", "--watch", "--filter", "zzz"], "--filter zzz: allowed: KEY=VALUE"),
        (["--html", "/proc/x", "--watch"], "--html /proc/x: cannot be written ("),
        (["--html", "missing/page.html"], "--html missing/page.html: its folder does not exist"),
        (["--json", "."], "--json .: is a folder"),
        (["--json", ""], "--json: not a file name"),
        (["--json", "-", "--csv", "-"], "--csv -: the same target as --json"),
        (["--html", "a", "--csv", "a"], "--csv a: the same target as --html"),
        (["state=finshed"], "state=finshed: no such state; did you mean finished?"),
        (["--watch"], "--watch: rewrites a page as runs finish; allowed: with --html FILE"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(runs, compare, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = compare(runs, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_without_runs(compare, tmp_path):
    assert "no run here" in compare(tmp_path)[2]
    assert "no such folder" in compare(tmp_path / "nowhere")[2]


@pytest.mark.parametrize("verb", ["compare", "runs", "sync"])
def test_what_is_too_long_for_a_name_is_a_condition_or_an_error(runs, capfd, verb):
    hundred = "seed=" + ",".join(map(str, range(100)))
    code, out, err = cli.main([verb, str(runs), hundred]), *capfd.readouterr()
    if verb == "sync":
        assert "no runs that were logged with W&B" in err
    else:
        assert (code, err) == (0, "")
        assert "12 runs" in out
    assert cli.main([verb, "n" * 300]) == 2
    assert capfd.readouterr().err == f"error: {'n' * 300}: cannot be read (File name too long)\n"


@pytest.fixture
def locked(monkeypatch):
    """Folders that may not be read, also by root."""
    found, scandir = set(), os.scandir

    def guarded(path="."):
        if Path(path) in found:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    return found


def test_folders_that_may_not_be_read_are_named_and_the_rest_is_shown(runs, compare, locked, capsys):
    one = next(runs.iterdir())
    locked.add(one)
    said = f"{one}: cannot be read (Permission denied)"
    code, out, _ = compare(runs)
    assert code == 0
    assert "11 runs" in out
    assert said in "".join(out.split("\n"))
    assert json.loads(compare(runs, "--json", "-")[1])["problems"] == [said]
    assert cli.main(["runs", str(runs)]) == 0
    assert said in capsys.readouterr().err
    locked.update(runs.iterdir())
    assert "no run here (a folder with a status.json); " in (err := compare(runs)[2])
    assert err.endswith("cannot be read (Permission denied)\n")
    locked.add(runs)
    for arguments in ([], ["--html", "page.html", "--watch"]):
        assert compare(runs, *arguments) == (2, "", f"error: {runs}: cannot be read (Permission denied)\n")


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "latex"])
def test_what_a_reader_must_know_does_not_depend_on_where_the_numbers_go(tmp_path, compare, form):
    for seed, state in enumerate(("finished", "interrupted", "running", "diverged")):
        make_run(tmp_path, seed=seed, state=state)
    bad = make_run(tmp_path, seed=9, figures={"test/acc": "0.95"}).path / "summary.json"
    code, out, err = compare(tmp_path, f"--{form}", "-")
    assert code == 0
    # A run that is said to be running and that nobody holds was interrupted.
    counts = "5 runs: 1 finished, 1 damaged, 1 diverged, 2 interrupted"
    problem = f'{bad}: test/acc is "0.95"; allowed: a number from 0 to 1'
    assert err.splitlines() == [counts.replace(":", f" in {tmp_path}:"), problem]
    last = out.splitlines()[-1]
    match form:
        case "csv":
            (row,) = csv.DictReader(io.StringIO(out))
            states = ("n", "runs", "diverged", "failed", "interrupted", "pruned", "running", "damaged")
            assert [row[state] for state in states] == list("15102001")
        case "markdown":
            assert last == f"{counts}; 1 file problem (see --json)"
        case "latex":
            assert last == f"% {counts}; 1 file problem (see --json)"
        case "json":
            assert json.loads(out)["problems"] == [problem]


def test_the_default_is_where_runs_are_written(runs, compare, monkeypatch):
    monkeypatch.setenv("CNNBENCH_OUTPUTS", str(runs))
    assert "12 runs" in compare()[1]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_text(compare, tmp_path, text):
    """As a setting, an experiment's name and an error, in every kind of output."""
    folder = tmp_path / "runs"
    for seed in range(2):
        make_run(folder, head=text, seed=seed, name=text)
        make_run(folder / "other", head="gap", seed=seed)
    make_run(folder / "failed", seed=5, head=text, state="failed", error=text)
    code, out, _ = compare(folder)
    assert code == 0
    assert "\x1b]" not in out
    assert max(map(len, out.splitlines())) < 200
    assert json.loads(compare(folder, "--json", "-")[1])["rows"][0]["settings"]["arch.head"] in (text, "gap")
    rows = list(csv.DictReader(io.StringIO(compare(folder, "--csv", "-")[1], newline="")))
    assert {row["arch.head"] for row in rows} == {clean(text), "gap"}
    markdown = [line for line in compare(folder, "--markdown", "-")[1].split("\n") if line.startswith("| ")]
    assert len(markdown) == 3
    assert len({line.replace("\\|", "").count("|") for line in markdown}) == 1
    latex = compare(folder, "--latex", "-")[1]
    assert r"\input{" not in latex
    assert sum(line.endswith(r"\\") for line in latex.split("\n")) == 3
    page = tmp_path / "page.html"
    assert compare(folder, "--html", page, "--plots", tmp_path / "plots")[0] == 0
    html = page.read_text(encoding="utf-8")
    assert html.count("<script") == 4
    assert html.count("</script") == 4
    assert 'onerror="' not in html


def test_watched_pages_are_written_again(tmp_path):
    """The command itself rewrites them while runs appear; Ctrl-C is its normal end."""
    make_run(tmp_path / "runs", seed=0)
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "cnnbench", "compare", "runs", "--html", "page.html", "--watch"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        _wait(lambda: page.exists() and '"finished":1' in page.read_text())
        assert '"reload_s":5' in page.read_text()
        make_run(tmp_path / "runs", seed=1)
        _wait(lambda: '"finished":2' in page.read_text())
    finally:
        process.send_signal(2)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0, out
    assert "Traceback" not in out
    assert "2 runs in runs: 2 finished" in out
    assert "1 configuration, sorted by val acc" in out, "the table comes at the end"
    assert '"reload_s":0' in page.read_text(), "and the page stays as it is"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_there_yet_is_waited_for_and_said_once(tmp_path, compare, monkeypatch):
    """The folder, then a run that meets the condition; all files are written each time."""
    folder, page, rows = (tmp_path / name for name in ("runs", "page.html", "rows.csv"))
    written = []

    def next_step(_):
        written.append(rows.read_text().count("\n") if rows.exists() else 0)
        match len(written):
            case 2:
                make_run(folder, seed=0, norm="none")
            case 3:
                make_run(folder, seed=0)
            case 5:
                make_run(folder, seed=0, act="gelu")
            case 6:
                raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", next_step)
    code, out, err = compare(folder, "ops.norm=batch", "--html", page, "--csv", rows, "--watch")
    assert code == 0
    assert written == [0, 0, 0, 2, 2, 3]
    assert [line for line in err.splitlines() if "waiting" in line] == [
        f"{folder}: no such folder; waiting (Ctrl-C stops)",
        "no run with ops.norm=batch; allowed: none; waiting (Ctrl-C stops)",
    ]
    assert "2 configurations" in out


def _wait(there, seconds=30):
    import time

    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_nothing_heavy_is_imported(runs):
    code = (
        "import sys; from cnnbench import cli; cli.main(['compare', sys.argv[1]]);"
        "print([m for m in ('torch', 'wandb', 'hydra', 'matplotlib', 'pydantic') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code, runs], capture_output=True, text=True, env=os.environ)
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_a_sweep_ends_with_the_comparison_and_its_commands_lead_to_the_same_runs(cli, tmp_path, launcher):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "kernels.yaml").write_text(
        "# @package _global_\nname: kernels\n"
        "hydra: {sweeper: {params: {arch.kernel: '3,5', optimizer.lr: '0.01,0.05', seed: '0,1'}}}\n"
        "select: [optimizer.lr]\n"
    )
    asked = [
        "--config-dir",
        "mine",
        "experiment=kernels",
        *TINY,
        f"hydra/launcher={launcher}",
        "sweep.jobs=2",
    ]
    code, out, _ = cli("train", "-m", *asked, "output_dir=out")
    assert code == 0
    assert "2 configurations, sorted by val acc" in out
    assert "optimizer.lr: chosen on val within each row, from 2 values" in " ".join(out.split())
    assert "page: out/kernels/compare.html" in out
    assert "kernels" in (tmp_path / "out" / "kernels" / "compare.html").read_text()
    found = json.loads(cli("compare", "out", "--select", "", "--json", "-")[1])
    assert len(found["rows"]) == 4
    for row in found["rows"]:
        words = shlex.split(row["command"])
        assert words[:3] == ["cnnbench", "train", "-m"]
        code, out, err = cli(*words[1:], "output_dir=out")
        assert code == 0
        assert err.startswith("2 runs: 2 done"), row["command"]
    # A part of the sweep that is launched again leaves the page of all of it.
    assert "2 runs in out/kernels, of 8 in all: 2 finished" in " ".join(out.split())
    text = (tmp_path / "out" / "kernels" / "compare.html").read_text()
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["runs"]) == 8


def test_links_are_followed_and_pipes_are_written_into(runs, compare, tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert compare(runs, "--csv", tmp_path / "link.csv")[0] == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("arch.name,")
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    assert compare(runs, "--csv", tmp_path / "pipe")[0] == 0
    assert reader.communicate(timeout=20)[0] == (tmp_path / "real.csv").read_text()
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
def test_where_standard_output_cannot_be_written(runs, redirect):
    for option in ("", " --csv -"):
        command = f"'{sys.executable}' -m cnnbench compare '{runs}'{option} {redirect}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        if redirect == ">/dev/full":
            assert done.returncode == 1
            assert done.stderr.endswith("error: standard output: No space left on device; free some space\n")


def test_axes_of_pictures_are_numbers(runs, compare, tmp_path):
    compare(runs, "--plots", tmp_path)
    text = (tmp_path / "test-acc-params.svg").read_text()
    assert "mathdefault" not in text
    assert ">1 k<" in text


def test_a_long_name_leaves_room_for_the_picture(compare, tmp_path):
    """Matplotlib would warn if there were none, which is an error here."""
    for arch in ("x" * 200, "y" * 200):
        make_run(tmp_path / "runs", arch=arch)
    code, _, err = compare(tmp_path / "runs", "--plots", tmp_path / "plots")
    assert (code, "Warning" in err) == (0, False)
    assert "x" * 39 + "…" in (tmp_path / "plots" / "test-acc-params.svg").read_text()


def test_runs_that_never_started_are_no_damage(tmp_path, capsys):
    """As after Ctrl-C, when a sweep has not started all of its runs."""
    from cnnbench.commands.sweep_report import SweepSession

    begun, never = make_run(tmp_path / "runs"), Run(tmp_path / "runs" / "never")
    for runs, shown in (([begun, never], True), ([never], False)):
        session = SweepSession()
        for run in runs:
            session.recall(run)
        session.report()
        said = capsys.readouterr()
        assert "never" in said.out
        assert "damaged" not in said.out + said.err
        assert "status.json" not in said.out + said.err
        assert ("1 run in" in said.out) == shown
        assert ("page: " in said.out) == shown
