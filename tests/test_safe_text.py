"""Texts from outside: what reaches a terminal, a log and a spreadsheet."""

import csv
import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table
from rich.text import Text
from search import examples

from cnnbench import safe_text
from cnnbench.console import CleanConsole
from cnnbench.processes import logs
from cnnbench.safe_text import FORMULA, MARK, clean, legible, to_csv

ANY = st.text(st.characters(codec=None, categories=None), max_size=30)
"""Texts of all characters, half surrogates included."""


def unclean(text):
    """The characters of printed text that a terminal would act on, or that nobody sees."""
    return [c for c in text if not c.isprintable() and c not in "\n\u200c\u200d"]


@examples(200)
@given(ANY)
@example("a\x1b]0;title\x07\x9b31m\u202e\u2066\r\n\t\udcff\ud800z")
def test_clean_is_one_line_of_the_same_length(text):
    assert not unclean(clean(text))
    assert "\n" not in clean(text)
    assert len(clean(text)) == len(text)
    assert clean(clean(text)) == clean(text)
    assert clean(text).encode("utf-8") is not None
    assert len(legible(text, 10)) <= 10


def test_what_is_kept():
    for text in ("spaß ☃ 雪", "\u0645\u06cc\u200c\u062e", "👨\u200d👩\u200d👧", "e\u0301"):
        assert clean(text) == text
    assert clean("a\tb\u3000c\u2028d") == "a b c d"
    assert clean("a\x1b[1mb") == f"a{MARK}[1mb"


@examples(60)
@given(ANY)
@example("[bold]a[/nothing] :smile: [link=http://x]y[/link]")
@example("one\ntwo")
def test_everything_that_a_console_shows_is_clean(text):
    def shown(terminal):
        table = Table(text, title=text, caption=Text(text))
        table.add_column(Text(text))
        table.add_row(text, Text(text))
        file = io.StringIO()
        console = CleanConsole(file=file, width=400, force_terminal=terminal, color_system=None)
        console.print(text, Text(text), table, Group(text, Text(text)))
        console.print(text, style="red", soft_wrap=True)
        console.rule(text)
        with console.status(text):
            pass
        return file.getvalue()

    assert not unclean(shown(terminal=False))
    controls = shown(terminal=True)
    for code in ("\x1b[?25l", "\x1b[?25h", "\r", "\x1b[2K", "\x1b[1A"):  # rich's own, of the spinner
        controls = controls.replace(code, "")
    assert not unclean(controls)


def test_a_console_shows_markup_as_it_is():
    file = io.StringIO()
    CleanConsole(file=file, width=100).print("[bold]a[/x] :smile:\nb")
    assert file.getvalue() == "[bold]a[/x] :smile: b\n"


@examples(200)
@given(st.lists(st.lists(ANY, min_size=1, max_size=3), min_size=1, max_size=3))
@example([["\udcc2\udc9b31m"]])
@example([["\t=1+1"], ["\r@a"], ["-2+3+cmd|' /C calc'!A0"], ["\uff1d1+1"]])
def test_a_csv_is_shown_and_not_run(rows):
    data = to_csv(rows).encode("utf-8", "surrogateescape")
    assert not unclean(data.decode("utf-8", "replace"))
    read = list(csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))
    assert [len(row) for row in read] == [len(row) for row in rows]
    for cell in (cell for row in read for cell in row):
        if cell.lstrip().startswith(FORMULA):
            float(cell)


def test_numbers_of_a_csv_stay_numbers():
    rows = [["a", 1, -0.5, None, "-1e-3", "+7", "-", "x,y", 'q"', "\udcff.png"]]
    assert to_csv(rows) == 'a,1,-0.5,,-1e-3,+7,\'-,"x,y","q""",\udcff.png\n'


def test_a_log_has_a_line_for_each_message(tmp_path):
    def attempt():
        with (tmp_path / "train.log").open("w") as file, logs.log_file(file):
            logging.getLogger("cnnbench").info("one\n2026-01-01 ERROR forged \x1b[31m")
            raise ValueError("\x1b]0;title\x07\nsecond line")

    with pytest.raises(ValueError, match="second line"):
        attempt()
    text = (tmp_path / "train.log").read_text()
    assert not unclean(text)
    lines = text.splitlines()
    assert lines[0].endswith(f"INFO one 2026-01-01 ERROR forged {MARK}[31m")
    assert lines[-1] == "second line", "a traceback keeps its lines"


def test_there_is_one_way_to_print_and_one_to_write_a_csv():
    """Errors, results, tables and parsers go through `safe_text` and `CleanConsole`."""
    allowed = {
        "file=sys.stderr": set(),
        "file=notes": {"safe_text.py", "console.py"},
        "sys.stderr.write": set(),
        "traceback.print": set(),
        "csv.writer(": {"safe_text.py"},
        " Console(": set(),
        "argparse.ArgumentParser(": set(),
        "logging.Formatter(": set(),
    }
    package = Path(safe_text.__file__).parent
    files = {path: path.read_text() for path in package.rglob("*.py")}
    for words, names in allowed.items():
        found = {path.name for path, text in files.items() if words in text}
        assert found == names, words


def test_an_error_that_nobody_foresaw_is_clean():
    program = (
        "import sys; from cnnbench import cli; cli.main(['--version']); raise ValueError('\\x1b[31m\\u202e')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stderr.endswith(f"ValueError: {MARK}[31m{MARK}\n")
