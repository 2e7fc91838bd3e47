"""Damage to the small files of a run: by a disk, by a user, or by somebody who means harm."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from hypothesis import strategies as st
from sealing import seal

from cnnbench.run_store.identity import choice_of_format_1, deciding, identity
from cnnbench.run_store.run import Run

FORMAT_1 = Path(__file__).parents[1] / "run_store" / "format_1"

FILES = ("status.json", "summary.json", "metrics.csv", "config.yaml", "identity.json")

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A kilobyte of YAML that stands for 400 million values."""

ENDLESS = "a: &a {b: *a}\n"

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [10**400, -1, 0, 1, 2, 97.0, 1e308, "\ud800", "\x1b[31m", "[/x]", "3", "nan", "x" * 3000]
    )
    | st.sampled_from(["bench", "train", "finished", "running", "failed", "0001-01-01T00:00:00+00:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
"""Values of all types and ranges."""


@dataclass(frozen=True)
class Damage:
    """Something that happens to a run.

    Attributes:
        said: what it is, for the report of a failed search.
        happens: does it.
        forged: the digests and the checksum are corrected, so that it is noticed only if it makes no sense.
    """

    said: str
    happens: Callable[[Run], None]
    forged: bool = False

    def __repr__(self) -> str:
        return self.said


def make(folder: Path, experiment: str = "trained", number: int = 2) -> Run:
    """A run below a folder: of format 1, as it was made, or as the present version would have made it."""
    (old,) = (FORMAT_1 / experiment).iterdir()
    if number == 1:
        return Run(Path(shutil.copytree(old, folder / old.name)))
    choice = choice_of_format_1(Run(old).config())
    name = f"{old.name.rpartition('-')[0]}-{identity(deciding(choice))}"
    run = Run(Path(shutil.copytree(old, folder / name)), choice)
    run.write_identity()
    return seal(run, format=2)


def _damage(said: str, file: str, happens: Callable[[Path], None]) -> Damage:
    return Damage(f"{file}: {said}", lambda run: happens(run.path / file))


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something else in place of a file."""

    def happens(path: Path) -> None:
        path.unlink()
        make(path)

    return happens


def _flip(position: float, bit: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        flipped = bytearray(data)
        flipped[int(position * len(data))] ^= 1 << bit
        return bytes(flipped)

    return change


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    os.chdir(here)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**33)


INSTEAD: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "8 GiB": _huge,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "nothing in it": lambda path: path.write_bytes(b""),
    "a picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\x00" + bytes(range(256))),
    "a bomb": lambda path: path.write_text(BOMB),
    "itself": lambda path: path.write_text(ENDLESS),
    "many brackets": lambda path: path.write_text("[" * 100_000),
    "many mappings": lambda path: path.write_text('{"a":' * 900 + "1" + "}" * 900),
    "an empty object": lambda path: path.write_text("{}"),
    "the largest number": lambda path: path.write_text("9" * 5000),
    "many keys": lambda path: path.write_text(json.dumps({f"k{i}": i for i in range(50_000)})),
}


def _anything(file: str) -> st.SearchStrategy[Damage]:
    """Return what a disk or a user does to one file."""
    position = st.floats(0, 1, exclude_max=True)
    flips = st.tuples(position, st.integers(0, 7))
    others = sorted(FORMAT_1.glob(f"*/*/{file}"))
    return (
        flips.map(lambda at: _damage(f"bit {at} flipped", file, _rewrite(_flip(*at))))
        | position.map(
            lambda at: _damage(f"cut at {at}", file, _rewrite(lambda data: data[: int(at * len(data))]))
        )
        | st.binary(max_size=50).map(
            lambda data: _damage(f"{data!r} instead", file, lambda path: path.write_bytes(data) and None)
        )
        | st.sampled_from(sorted(INSTEAD)).map(
            lambda name: _damage(f"{name} instead", file, _instead(INSTEAD[name]))
        )
        | st.sampled_from([file, *FILES]).map(
            lambda name: _damage(f"{name} instead", file, lambda path: _copied(path, name, others))
        )
        | st.sampled_from(others or [FORMAT_1 / "trained"]).map(
            lambda other: _damage(
                f"that of {other.parent.name}", file, lambda path: _copied(path, file, [other])
            )
        )
    )


def _copied(path: Path, name: str, others: list[Path]) -> None:
    """Replace a file by another of the same run, or by that of another run."""
    source = path.with_name(name) if name != path.name else next(iter(others), path)
    data = source.read_bytes() if source.is_file() else b""
    path.write_bytes(data)


def _edited(content: object, steps: list[float], value: object, how: str) -> object:
    """Return a nested value with one of its items replaced, removed, added or given another key."""
    if isinstance(content, dict) and content:
        key = sorted(content, key=str)[int(steps[0] * len(content))]
        inner = content[key]
        if len(steps) > 1 and isinstance(inner, dict | list) and inner:
            return {**content, key: _edited(inner, steps[1:], value, how)}
        kept = {k: v for k, v in content.items() if k != key or how == "added"}
        return kept if how == "removed" else kept | {key + "x" if how == "added" else key: value}
    if isinstance(content, list) and content:
        at = int(steps[0] * len(content))
        inner = content[at]
        if len(steps) > 1 and isinstance(inner, dict | list) and inner:
            return [*content[:at], _edited(inner, steps[1:], value, how), *content[at + 1 :]]
        return [*content[:at], *([] if how == "removed" else [value]), *content[at + (how != "added") :]]
    return value


@st.composite
def edits(draw: st.DrawFn, files: Sequence[str]) -> Damage:
    """Return an edit of a value, whose digest is wrong then, or is corrected."""
    file = draw(st.sampled_from(files))
    steps = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3))
    value, how, forged = (
        draw(JUNK),
        draw(st.sampled_from(["set", "set", "removed", "added"])),
        draw(st.booleans()),
    )

    def happens(run: Run) -> None:
        path, status = run.path / file, run.status()
        text = path.read_text(encoding="utf-8")
        if file == "metrics.csv":
            path.write_text(_cell(text, steps, value), encoding="utf-8", errors="replace")
        elif file == "config.yaml":
            edited = _edited(yaml.safe_load(text), steps, value, how)
            path.write_text(yaml.safe_dump(edited, allow_unicode=True), encoding="utf-8", errors="replace")
        else:
            edited = _edited(json.loads(text), steps, value, how)
            path.write_text(json.dumps(edited), encoding="utf-8")
        if forged and file != "status.json":
            run.write_status(status)
        elif forged:
            _forge(run, edited)

    return Damage(f"{file}: {how} {value!r} at {steps}{', forged' * forged}", happens, forged)


def _forge(run: Run, edited: object) -> None:
    """Correct the checksum of a status, where it can have any."""
    from cnnbench.run_store.reading import checksum

    if isinstance(edited, dict):
        (run.path / "status.json").write_text(json.dumps(edited | {"checksum": checksum(edited)}))


def _cell(text: str, steps: list[float], value: object) -> str:
    lines = [line.split(",") for line in text.splitlines()]
    line = lines[int(steps[0] * len(lines))]
    line[int(steps[-1] * len(line))] = str(value)
    return "\n".join(",".join(line) for line in lines) + "\n"


def accidents(files: Sequence[str] = FILES) -> st.SearchStrategy[Damage]:
    """Return what happens to files without anybody correcting digests."""
    return st.one_of(*map(_anything, files)) | edits(files).filter(lambda damage: not damage.forged)


def damages(files: Sequence[str] = FILES) -> st.SearchStrategy[Damage]:
    """Return all that can happen to files."""
    return st.one_of(*map(_anything, files)) | edits(files)
