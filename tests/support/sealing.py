"""Runs whose files are changed by somebody who also corrects their digests and checksum."""

import json

import yaml

from cnnbench.run_store.run import Run


def configure(run: Run, config: object) -> Run:
    """A run with another config.yaml."""
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    return seal(run)


def seal(run: Run, **changes: object) -> Run:
    """A run whose status has the digests of its files as they are now, and other changes."""
    run.write_status(run.status() | changes)
    return run


def of_before(run: Run) -> Run:
    """A run that was made before there were digests and checksums: any checkpoint may be its own."""
    status = run.status()
    for name in ("checksum", "files", "checkpoints"):
        status.pop(name, None)
    (run.path / "status.json").write_text(json.dumps(status))
    return run
