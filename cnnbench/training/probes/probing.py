"""The probes of one training: from its start or its checkpoint to the files in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from cnnbench.console import console
from cnnbench.errors import Diverged
from cnnbench.run_store.probes import Table
from cnnbench.run_store.run import Run
from cnnbench.settings.probes import Probes
from cnnbench.training.build import Built
from cnnbench.training.checkpoints import read_checkpoint
from cnnbench.training.probes.build import Probe, build_probes
from cnnbench.training.probes.series import PROBES, Series


class Probing:
    """The probes of one training; by default none.

    Args:
        settings: of the probes.
        built: what they look at, with initial weights.

    Raises:
        InputError: see `build_probes`.
    """

    def __init__(self, settings: Probes | None = None, built: Built | None = None) -> None:
        self.probes: list[Probe] = [] if settings is None or built is None else build_probes(settings, built)

    @property
    def callbacks(self) -> Sequence[pl.Callback]:
        """The probes as Lightning calls them."""
        return self.probes

    @property
    def figures(self) -> dict[str, Any]:
        """What they add to summary.json."""
        return {key: value for probe in self.probes for key, value in probe.figures().items()}

    @property
    def tables(self) -> dict[str, Table]:
        """What they measured, by name."""
        return {probe.name: probe.table() for probe in self.probes}

    def resume(self, checkpoint: Path | None) -> None:
        """Go on from a checkpoint, without probes that it does not have: they would lack what came before."""
        if checkpoint is None or not self.probes:
            return
        states, late = read_checkpoint(checkpoint, lazily=True).get(PROBES, {}), []
        for probe in self.probes:
            if isinstance(probe, Series):
                if probe.name in states:
                    probe.restore(states[probe.name])
                else:
                    late.append(probe.name)
        self.probes = [probe for probe in self.probes if probe.name not in late]
        if late:
            names = ",".join(late)
            console.print(f"probes={names}: the run began without; it is trained once more", style="dim")

    @contextmanager
    def recorded(self, run: Run) -> Iterator[None]:
        """Write what was measured in the block to the run's folder, also of a training that diverged."""
        try:
            yield
        except Diverged:  # there is no finished network
            self.probes = [probe for probe in self.probes if isinstance(probe, Series)]
            self._write(run)
            raise
        self._write(run)

    def _write(self, run: Run) -> None:
        for name, table in self.tables.items():
            run.write_probe(name, table)
