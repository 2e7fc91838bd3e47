"""Imports of the server of `processes.forked`: all that a run imports, so that its forks start warm."""

import wandb  # noqa: F401

import cnnbench.sweeps.preflight
import cnnbench.sweeps.worker
import cnnbench.training.fit  # noqa: F401
from cnnbench.run_store import attempt

attempt.versions()
attempt.git_commit()
