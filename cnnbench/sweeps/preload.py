"""What the server of `processes.forked` imports before it forks: everything that a run would import."""

import wandb  # noqa: F401

import cnnbench.sweeps.preflight
import cnnbench.sweeps.worker
import cnnbench.training.fit  # noqa: F401
from cnnbench.run_store import attempt

attempt.versions()
attempt.git_commit()
