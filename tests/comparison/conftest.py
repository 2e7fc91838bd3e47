"""Fixtures of this folder."""

import pytest
from made_runs import make_run


@pytest.fixture
def run(tmp_path):
    """`run(val=…, test=…, …)`: a run's folder with these figures and settings."""
    return lambda **more: make_run(tmp_path, **more)
