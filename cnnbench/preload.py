"""What the server process of `child` imports before it forks: everything that a run would import."""

import wandb  # noqa: F401

import cnnbench.fit
import cnnbench.sweep.check
import cnnbench.sweep.worker  # noqa: F401
from cnnbench import attempt

attempt.versions()
attempt.git_commit()
