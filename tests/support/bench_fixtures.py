"""A user's own architecture, for measurements, and a process that allocates too much."""

from pathlib import Path

import pytest
import torch

from cnnbench.bench import memory


@pytest.fixture
def own(cli, monkeypatch, tmp_path):
    """`own(source, name)`: a group `arch` beside cnnbench's, with a choice of that name."""

    def make(source, name):
        Path(f"{name}.py").write_text(source)
        Path("groups/arch").mkdir(parents=True, exist_ok=True)
        Path(f"groups/arch/{name}.yaml").write_text(f"name: {name}\n_target_: {name}:{name}\n")
        return ["--config-dir", "groups", f"arch={name}"]

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return make


def allocate_too_much():
    """Allocate more than the limit of this process: (recognised as out of memory, earlier tensor intact)."""
    memory.confine(200_000_000)
    small = torch.zeros(10_000_000)
    try:
        torch.zeros(1_000_000_000)
    except RuntimeError as error:
        return memory.exhausted(error), bool((small == 0).all())
    return False, False
