"""Faults at every step of a command: at its n-th change of a file the disk fails, or the process dies."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

LEASE_S = "3"
"""A loss of power may leave an empty lease, whose end the same command has to wait for."""

ACTIONS = ["nothing", "fail once", "fail on", "kill before", "kill after", "tear"]
KINDS = {"w": "write", "s": "sync", "r": "rename", "l": "link", "u": "unlink", "o": "open", "m": "mkdir",
         "d": "rmdir", "t": "truncate"}  # fmt: skip
FAILING = {"ENOSPC": "wolmts", "EIO": "wsrluomdt", "EACCES": "rluomd"}
"""Calls that fail, by reason: a full disk still deletes and renames, and a read-only folder still lets
open files be written."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        n: number of the call at which it happens.
        action: of `ACTIONS`.
        error: name of the error for the two that fail.
        call: what the call does to which file, from a run without a fault.
    """

    n: int
    action: str
    error: str = ""
    call: str = ""

    def __str__(self):
        return f"{self.n} ({self.call}): {self.action} {self.error}".strip()


NO_FAULT = Fault(0, "nothing")


@dataclass(frozen=True)
class Ended:
    """The end of a command: exit code (None: it hung), what it printed, and the calls that were counted."""

    code: int | None
    out: str
    err: str
    calls: list[str]


class Server:
    """The process that runs the commands; see `fault_server`."""

    def __init__(self, folder: Path):
        self.folder = folder
        library = folder / "faults.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "faults.c"], check=True)
        env = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "CNNBENCH_LEASE_S": LEASE_S}
        command = [sys.executable, HERE / "fault_server.py", library]
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1]
        )

    def run(self, folder: Path, command: list[str], fault: Fault | None = None, durable: str = "") -> Ended:
        """Run a command in a folder, with a fault at a change of a file below that folder.

        Args:
            durable: folder for what would survive a loss of power; see `keep` in faults.c.
        """
        files = {name: self.folder / name for name in ("out", "err", "log")}
        for path in files.values():
            path.unlink(missing_ok=True)
        request = {"folder": str(folder), "command": command, "durable": str(durable)}
        request |= {name: str(path) for name, path in files.items()}
        request["fault"] = fault and {
            "action": ACTIONS.index(fault.action),
            "n": fault.n,
            "error": getattr(errno, fault.error, 0),
            "kinds": sum(1 << (ord(kind) - ord("a")) for kind in FAILING.get(fault.error, "")),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())["code"]
        out, err, log = (path.read_text() if path.exists() else "" for path in files.values())
        return Ended(code, out, err, [f"{KINDS[line[0]]}{line[1:]}" for line in log.splitlines()])

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def faults_at(calls: list[str]) -> list[Fault]:
    """Return every fault at every call of a command."""
    faults = []
    for n, call in enumerate(calls, 1):
        kind = next(letter for letter, word in KINDS.items() if call.startswith(word + " "))
        faults += [Fault(n, action, call=call) for action in ("kill before", "kill after")]
        if kind == "w":
            faults.append(Fault(n, "tear", call=call))
        for error, kinds in FAILING.items():
            if kind in kinds:
                faults += [Fault(n, action, error, call) for action in ("fail once", "fail on")]
    return faults


def keep(folder: Path, durable: Path):
    """Note that everything in a folder is on disk; `faults.c` notes what is synced later."""
    durable.mkdir()
    for path in (folder, *folder.rglob("*")):
        inode = path.stat().st_ino
        if path.is_dir():
            lines = [f"{e.inode()} {4 if e.is_dir() else 8} {e.name}\n" for e in os.scandir(path)]
            (durable / f"{inode}.d").write_text("".join(lines))
        else:
            shutil.copy(path, durable / str(inode))


def lose_power(folder: Path, durable: Path, to: Path, *, early: bool):
    """Build the worst folder that a loss of power may leave: of each file what was synced last, or nothing.

    Args:
        folder: as the process left it.
        durable: what was kept at each sync.
        to: the folder to build.
        early: folders hold what they held at the end, as if each rename and each deletion had reached the
            disk at once; else what they held when they were synced last.
    """

    def entries(inode: int, path: Path | None):
        if path:
            return [(e.inode(), e.is_dir(), e.name) for e in os.scandir(path)]
        kept = durable / f"{inode}.d"
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [(int(i), kind == "4", name) for i, kind, name in (line.split(" ", 2) for line in lines)]

    def build(inode: int, path: Path | None, to: Path):
        to.mkdir()
        for number, is_folder, name in entries(inode, path):
            if is_folder:
                build(number, path and path / name, to / name)
            elif (durable / str(number)).exists():
                shutil.copy(durable / str(number), to / name)
            else:
                (to / name).touch()

    build(folder.stat().st_ino, folder if early else None, to)
