"""Errors of the operating system as one line; all others keep their traceback."""

import errno
import os

import pytest

from cnnbench.errors import DISK, LIMITS, of_system


def raised(error, before=None):
    """Return an error that was raised while another was being handled."""
    try:
        try:
            if before is not None:
                raise before
        finally:
            raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_any_error_of_the_system(number):
    error = OSError(number, os.strerror(number), "runs/r/.metrics.csv.17")
    line = of_system(error, "runs/r")
    advice = (DISK | LIMITS).get(number)
    assert os.strerror(number) in line
    assert line.endswith(f"; {advice}" if advice else os.strerror(number))
    assert ("runs/r: " in line) == (number in DISK)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "x"), "runs/r: No space left on device; free some space"),
        (OSError(2, "x", "/data/a.png"), "/data/a.png: No such file or directory; put it back if it was"),
        (OSError(24, "x", "/usr/lib/a.py"), "Too many open files; raise `ulimit -n`"),
        (RuntimeError("can't start new thread"), "Resource temporarily unavailable; raise `ulimit -u`"),
        (RuntimeError("[/gloo/loop.cc:105] epoll_create: Too many open files"), "Too many open files; raise"),
        (raised(RuntimeError("[enforce fail at x.cc:672]"), OSError(28, "x")), "runs/r: No space"),
        (raised(OSError(30, "x"), KeyError("norm")), "runs/r: Read-only file system (after KeyError: "),
        (raised(OSError(30, "x"), OSError(28, "x")), "runs/r: Read-only file system; make it writable"),
    ],
)  # fmt: skip
def test_what_it_is_about_and_what_to_do(error, line):
    assert of_system(error, "runs/r").startswith(line)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), RuntimeError("shapes differ"), OSError("image file is truncated"),
        raised(RuntimeError("mine"), OSError(28, "x")), raised(ValueError("mine"), OSError(2, "x")),
    ],
)  # fmt: skip
def test_errors_of_code(error):
    assert of_system(error, "runs/r") == ""
