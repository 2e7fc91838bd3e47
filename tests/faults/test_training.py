"""A fault at every change of a file during a training, then the same command again, as for SQLite.

Each case is a real training whose n-th write, sync, rename, link, unlink, open, mkdir or truncation fails,
once or for good (ENOSPC, EIO, EACCES), or at which the process dies: before it, after it, or with half
of the bytes written. Afterwards the same command must give the result of an undisturbed run, bit for bit; a
command that ended with an error must have said so in a line, without a traceback.
"""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from faults import NO_FAULT, Fault, Server, faults_at, keep, lose_power
from resuming import final
from running import runs
from search import sample
from torch import equal

from cnnbench.run_store.run import Run

TINY = [
    *("train", "arch=mlp", "arch.hidden=[8]", "data=synthetic", "data.limit=60", "data.limit_test=20"),
    *("data.size=8", "data.batch_size=8", "data.num_classes=3", "trainer.max_epochs=3", "logger=none"),
    *("trainer.checkpoint_every_n_steps=4", "device.threads=1", "optimizer.lr=0.002"),
]
CASES = {
    "new": TINY,
    "averaged": [*TINY, "trainer.ema_decay=0.9", "trainer.mixup=0.4", "optimizer.lr=0.02"],
    "resumed": TINY,
    "forced": [*TINY, "force=true"],
    "sweep": [*TINY, "-m", "seed=0,1", "sweep.jobs=1"],
}
SHARES = {"sweep": 0.02}
"""Of the faults of a case that are tried; 0.1 by default."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


class Search:
    """The faults of one command, tried one by one against its undisturbed result."""

    def __init__(self, server: Server, folder: Path, case: str):
        self.server, self.folder, self.case, self.command = server, folder, case, CASES[case]
        self.start = folder / "start"
        self.start.mkdir()
        self.prepare()
        self.reference = folder / "reference"
        shutil.copytree(self.start, self.reference)
        ended = server.run(self.reference, self.command, NO_FAULT)
        assert ended.code == 0, ended.err
        self.calls = ended.calls

    def prepare(self):
        """Train what the command finds: nothing, half a run, or a finished one."""
        if self.case == "resumed":
            undisturbed = self.server.run(self.folder / "start", self.command, NO_FAULT)
            shutil.rmtree(self.start / "outputs")
            fault = Fault(int(0.6 * len(undisturbed.calls)), "kill before")
            assert self.server.run(self.start, self.command, fault).code == -9
        elif self.case == "forced":
            assert self.server.run(self.start, TINY).code == 0

    def complaint(self, fault: Fault) -> str:
        """Try one fault; return what is wrong afterwards, or nothing."""
        folder = self.folder / "tried"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.start, folder)
        first = self.server.run(folder, self.command, fault)
        return wrong_at_once(self.command, fault, first, folder) or self.wrong_after(folder)

    def without_power(self, fault: Fault, *, early: bool) -> str:
        """Lose power at a call, or after the end; return what is wrong afterwards, or nothing."""
        folder, durable, left = (self.folder / name for name in ("tried", "durable", "left"))
        for path in (folder, durable, left):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.start, folder)
        keep(folder, durable)
        ended = self.server.run(folder, self.command, fault, durable)
        lose_power(folder, durable, left, early=early)
        if ended.code == 0 and not any(Run(run).state == "finished" for run in runs(left)):
            return "a finished run is gone"
        return self.wrong_after(left)

    def wrong_after(self, folder: Path) -> str:
        """Give the command again; return what is wrong with its result."""
        again = self.server.run(folder, self.command)
        if again.code != 0:
            return f"again: exit code {again.code}: {last_line(again.err)}"
        return self.differences(folder)

    def differences(self, folder: Path) -> str:
        """Return how a finished run differs from the undisturbed one."""
        names = [path.relative_to(self.reference) for path in runs(self.reference)]
        for name in names:
            run, reference = folder / name, self.reference / name
            if Run(run).state != "finished":
                return f"is {Run(run).state}"
            for kind, a, b in zip(("rows", "summary", "weights"), final(run), final(reference), strict=True):
                if kind != "weights" and a != b:
                    return f"other {kind}"
                if kind == "weights" and (
                    a.keys() != b.keys() or not all(equal(a[key], b[key]) for key in a)
                ):
                    return f"other {kind}"
            if left := [
                path.name for path in (*run.iterdir(), *Run(run).checkpoints.iterdir()) if is_left(path)
            ]:
                return f"leaves {' '.join(sorted(left))}"
            if self.case == "forced" and (trouble := self.lost_or_reused(run)):
                return trouble
        return ""

    def lost_or_reused(self, run: Path) -> str:
        """Return what is wrong with a forced repeat: the earlier result is lost, or is shown again."""
        (earlier,) = runs(self.start)
        kept = {path.relative_to(earlier): path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
        if not any(
            all((repeat / name).is_file() and (repeat / name).read_bytes() == kept[name] for name in kept)
            for repeat in (run / "repeats").glob("*")
        ):
            return "the earlier result is not in repeats/"
        times = [{row["time/epoch_s"] for row in Run(folder).rows()} for folder in (earlier, run)]
        return "epochs of the earlier result were not trained again" if times[0] & times[1] else ""


def is_left(path):
    return path.name.startswith(".") or path.name in ("lease", "stop", "previous.ckpt")


def last_line(text):
    return (text.strip().splitlines() or ["nothing printed"])[-1][:300]


def wrong_at_once(command, fault, ended, folder):
    """Return what is wrong with how a disturbed command ended."""
    if len(ended.calls) < fault.n:
        return f"only {len(ended.calls)} calls: the fault was not reached"
    if ended.code is None:
        return "hangs"
    if fault.action in ("kill before", "kill after", "tear"):
        retried = "-m" in command and ended.code == 0  # the sweep has tried its run again
        return "" if ended.code == -9 or retried else f"exit code {ended.code}"
    if "Traceback" in ended.err:
        return f"traceback: {last_line(ended.err.partition('The above')[0].partition('During handling')[0])}"
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if "-m" in command:  # which prints its failures in the table of its runs
        errors += [line for line in ended.out.splitlines() if "Error: " in line]
    if ended.code != 0 and not 1 <= len(errors) <= 4:
        return f"exit code {ended.code} with {len(errors)} lines of errors"
    if any(Run(run).state == "running" for run in runs(folder)):
        return "is still running"
    return ""


def report(case, total, tried, wrong):
    """Print how many cases were tried, and what went wrong in the same way how often."""
    print(f"{case}: {total} cases, {len(tried)} tried, {len(wrong)} wrong")
    kinds = Counter(
        re.sub(r"mlp-synthetic-s(\d)-\w+", r"RUN\1", re.sub(r"\.\d{2,}", ".N", c)) for c in wrong.values()
    )
    for complaint, count in kinds.most_common():
        print(f"  {count:4} {complaint}")
    assert not wrong, "\n".join(f"{fault}: {complaint}" for fault, complaint in wrong.items())


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", CASES)
def test_a_fault_at_every_step(case, server, tmp_path):
    search = Search(server, tmp_path, case)
    faults = faults_at(search.calls)
    tried = sample(faults, SHARES.get(case, 0.1))
    wrong = {fault: complaint for fault in tried if (complaint := search.complaint(fault))}
    report(f"{case}, {len(search.calls)} calls", len(faults), tried, wrong)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("early", [False, True], ids=["folders_late", "folders_early"])
@pytest.mark.parametrize("case", [case for case in CASES if case != "sweep"])
def test_a_loss_of_power_at_every_step(case, early, server, tmp_path):
    """What was not synced is lost; folders are as they were synced last, or as the process left them."""
    search = Search(server, tmp_path, case)
    faults = [Fault(n, "kill before", call=call) for n, call in enumerate(search.calls, 1)]
    tried = [*sample(faults), Fault(len(faults) + 1, "kill before", call="after the end")]
    wrong = {fault: complaint for fault in tried if (complaint := search.without_power(fault, early=early))}
    report(f"{case}, loss of power", len(faults) + 1, tried, wrong)
