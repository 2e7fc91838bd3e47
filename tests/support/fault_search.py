"""The faults of one command, tried one by one against its undisturbed result."""

import re
import shutil
import time
from collections import Counter
from pathlib import Path

from faults import NO_FAULT, Fault, Server, keep, lose_power
from resuming import final
from running import runs
from torch import equal

from cnnbench.run_store.lease import EMPTY_S
from cnnbench.run_store.run import Run

TINY = [
    *("train", "arch=mlp", "arch.hidden=[8]", "data=synthetic", "data.limit=60", "data.limit_test=20"),
    *("data.size=8", "data.batch_size=8", "data.num_classes=3", "trainer.max_epochs=3", "logger=none"),
    *("trainer.checkpoint_every_n_steps=4", "device.threads=1", "optimizer.lr=0.002"),
]
BEST_IS_NOT_LAST = ("optimizer.lr=1.0", "seed=1")
CASES = {
    "new": TINY,
    "averaged": [*TINY, "trainer.ema_decay=0.9", "trainer.mixup=0.4", *BEST_IS_NOT_LAST],
    "resumed": TINY,
    "forced": [*TINY, "force=true"],
    "sweep": [*TINY, "-m", "seed=0,1", "sweep.jobs=1"],
}


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
        done = {run for run in runs(folder) if Run(run).state == "finished"}
        again = self.server.run(folder, self.command)
        if again.code != 0:
            return f"again: exit code {again.code}: {last_line(again.err)}"
        return self.differences(folder, done)

    def differences(self, folder: Path, done: set[Path]) -> str:
        """Return how a finished run differs from the undisturbed one.

        Args:
            folder: of the run.
            done: runs that were finished before the command was given again, which then cleans up nothing.
        """
        names = [path.relative_to(self.reference) for path in runs(self.reference)]
        for name in names:
            run, reference = folder / name, self.reference / name
            if Run(run).state != "finished":
                return f"is {Run(run).state}"
            (rows, summary, weights), (rows_0, summary_0, weights_0) = final(run), final(reference)
            if rows != rows_0:
                return "other rows"
            if summary != summary_0:
                return "other summary"
            if weights.keys() != weights_0.keys() or not all(
                equal(weights[k], weights_0[k]) for k in weights
            ):
                return "other weights"
            if missing := files(reference) - files(run):
                return f"lacks {' '.join(sorted(missing))}"
            if (more := files(run) - files(reference)) and run not in done:
                return f"leaves {' '.join(sorted(more))}"
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


def files(run):
    """Return the names of all files and folders of a run but its earlier results."""
    paths = {path.relative_to(run) for path in run.rglob("*") if not is_harmless(path)}
    return {str(path) for path in paths if path.parts[0] != "repeats"}


def is_harmless(path):
    """Return whether a path is what stays if it was its removal that failed: no run and no lease needs it."""
    empty = path.name.startswith(".attempt-") and path.is_dir() and not any(path.iterdir())
    return empty or path.name.startswith("lease.break.")  # of filelock


def last_line(text):
    return (text.strip().splitlines() or ["nothing printed"])[-1][:300]


def wrong_at_once(command, fault, ended, folder):
    """Return what is wrong with how a disturbed command ended."""
    if ended.code is None:
        return "hangs"
    if len(ended.calls) < fault.n:
        return f"only {len(ended.calls)} calls: the fault was not reached"
    if fault.action in ("kill before", "kill after", "tear"):
        retried = "-m" in command and ended.code == 0  # the sweep has tried its run again
        return "" if ended.code == -9 or retried else f"exit code {ended.code}"
    if "Traceback" in ended.err:
        return f"traceback: {last_line(ended.err.partition('The above')[0].partition('During handling')[0])}"
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if "-m" in command:  # which prints its failures in the table of its runs
        errors += re.findall(r"^mlp-synthetic-s\d-\w+: .+", ended.out, re.MULTILINE)
    if ended.code != 0 and not 1 <= len(errors) <= 4:
        return f"exit code {ended.code} with {len(errors)} lines of errors"
    return "is still running" if is_held(folder) else ""


def is_held(folder):
    """Return whether a run stays held; on a full disk its process may leave an empty lease, for a while."""
    end = time.monotonic() + EMPTY_S + 1
    while any(Run(run).state == "running" for run in runs(folder)):
        if time.monotonic() > end:
            return True
        time.sleep(0.2)
    return False


def report(case, total, tried, wrong):
    """Print how many cases were tried, and what went wrong in the same way how often."""
    print(f"{case}: {total} cases, {len(tried)} tried, {len(wrong)} wrong")
    kinds = Counter(
        re.sub(r"mlp-synthetic-s(\d)-\w+", r"RUN\1", re.sub(r"\.\d{2,}", ".N", c)) for c in wrong.values()
    )
    for complaint, count in kinds.most_common():
        print(f"  {count:4} {complaint}")
    assert not wrong, "\n".join(f"{fault}: {complaint}" for fault, complaint in wrong.items())
