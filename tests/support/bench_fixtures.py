"""A user's own architecture, for measurements."""

from pathlib import Path

import pytest


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
