"""The ranges of pyproject.toml, and the lock that .ci/run installs by hashes."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / ".ci" / "requirements.lock").read_text()
ENTRY = re.compile(
    r"^([a-z0-9][a-z0-9._-]*)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)(?:    #.*\n)*",
    re.MULTILINE,
)
LOCKED = {name: Version(version) for name, version, _ in ENTRY.findall(LOCK)}

REQUIREMENTS = [
    Requirement(text)
    for texts in (
        PROJECT["project"]["dependencies"],
        PROJECT["build-system"]["requires"],
        *PROJECT["project"]["optional-dependencies"].values(),
    )
    for text in texts
]


def test_the_lock_holds_nothing_but_versions_and_hashes():
    assert ENTRY.sub("", LOCK).strip() == ""
    assert len(LOCKED) == LOCK.count("==") > 150
    assert "://" not in LOCK
    assert "file:" not in LOCK


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_the_lock_is_within_the_ranges(requirement):
    name = canonicalize_name(requirement.name)
    if name != "cnnbench":  # `test` has the other extras
        assert LOCKED[name] in requirement.specifier


def needed(requirement: Requirement, seen: set[tuple[str, str]]) -> Iterator[Requirement]:
    """Return what a requirement needs in turn, as far as the locked version is installed here."""
    name = canonicalize_name(requirement.name)
    try:
        if name != "cnnbench" and Version(metadata.version(name)) != LOCKED[name]:
            return
    except metadata.PackageNotFoundError:
        return
    for extra in ("", *requirement.extras):
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or []:
            further = Requirement(text)
            if further.marker is None or further.marker.evaluate({"extra": extra}):
                yield further
                yield from needed(further, seen)


def test_the_lock_is_of_the_whole_environment():
    seen: set[tuple[str, str]] = set()
    for requirement in [further for one in REQUIREMENTS for further in needed(one, seen)]:
        name = canonicalize_name(requirement.name)
        assert name == "cnnbench" or LOCKED[name] in requirement.specifier, requirement
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("name", "version", "why"),
    [
        ("lightning", "2.6.2", "malware, GHSA-w37p-236h-pfx3"),
        ("lightning", "2.6.3", "malware, GHSA-w37p-236h-pfx3"),
        ("torch", "2.9.1", "code in a checkpoint, CVE-2026-24747"),
        ("pillow", "12.3.0", "overflow by a JPEG, GHSA-8g5g-8vmr-9782"),
        ("ray", "2.51.2", "code from a web page, CVE-2025-62593"),
    ],
)
def test_a_version_with_a_known_hole_is_not_installed(name, version, why):
    ranges = [one.specifier for one in REQUIREMENTS if one.name == name]
    assert ranges, name
    assert not any(version in one for one in ranges), why
    assert str(LOCKED[name]) != version


def test_torch_and_torchvision_are_of_one_release():
    """torch 2.14.1 and torchvision 0.29.1; others are installed beside each other, and break at import."""
    torch, torchvision = LOCKED["torch"], LOCKED["torchvision"]
    assert (torch.minor + 15, torch.micro) == (torchvision.minor, torchvision.micro)
