"""Disks that fail: small ones that become full, and folders that become read-only under those who write."""

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def _mount(*arguments):
    """Call mount, which needs the rights of root; they are what CI has."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode and (os.geteuid() or "permission denied" in done.stderr):
        pytest.skip(f"may not mount: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def _unmount(folder):
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def small_disk(folder, size="2m"):
    """Make a folder a disk of this size."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield Path(folder)
    finally:
        _unmount(folder)


def fill(folder):
    """Fill the disk of a folder; return the file that takes the room."""
    file = Path(folder, "fill")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    with suppress(OSError):
        os.close(descriptor)
    return file


@contextmanager
def read_only(folder):
    """Make a folder read-only at once, also for those who have files open in it."""
    aside = Path(f"{folder}.aside")
    aside.mkdir()
    _mount("--bind", folder, aside)
    try:
        _mount("-o", "remount,bind,ro", aside)
        _mount("--bind", aside, folder)
        try:
            yield
        finally:
            _unmount(folder)
    finally:
        _unmount(aside)
        aside.rmdir()


def lose(folder, how):
    """Take a folder away from the process that writes to it."""
    if how == "moved":
        Path(folder).rename(f"{folder}.moved")
    else:
        while Path(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
