"""Folders of runs as training and measuring leave them, with figures that a test chooses."""

import json
from pathlib import Path

import yaml

from cnnbench.comparison.records import record
from cnnbench.run_store.identity import deciding, identity
from cnnbench.run_store.run import Run


def make_run(
    folder: Path,
    *,
    arch="vgg11",
    norm="batch",
    act="relu",
    init=None,
    lr=0.1,
    seed=0,
    data="digits",
    val=0.9,
    test=0.8,
    state="finished",
    error="",
    curve=(0.5, 0.9),
    name="made",
    select=(),
    figures=None,
    status=None,
    trainer=None,
    **more,
):
    """A run; `more` are settings of the architecture, `figures` and `status` replace what is there.

    Without val (None) it has tested its last epoch.
    """
    about = "-".join(f"{key}={value}" for key, value in more.items())
    path = folder / f"{arch}-{norm}-{act}{init or ''}-{lr}-{data}-{about[:60]}-s{seed}".replace("/", "_")
    path.mkdir(parents=True)
    config = {
        "seed": seed,
        "arch": {"name": arch, "_target_": f"models.{arch}", **more},
        "ops": {"norm": norm, "act": act} | ({"init": init} if init else {}),
        "data": {"name": data, "root": "anywhere", "num_workers": 0},
        "optimizer": {"name": "sgd", "lr": lr},
        **({"trainer": trainer} if trainer else {}),
        "name": name,
        "select": list(select),
        "command": [f"arch={arch}", f"ops.norm={norm}", f"optimizer.lr={lr}", f"data={data}", f"seed={seed}"],
        "output_dir": "outputs",
        "logger": {"name": "none"},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    said = {"type": "RuntimeError", "message": error, "traceback": ""}
    about_it = {
        "format": 1,
        "state": state,
        "attempts": [],
        "device": {"accelerator": "cpu", "threads": 1},
        "versions": {"cnnbench": "0.1.0", "torch": "2.14.1"},
    } | ({"error": said} if error else {})
    (path / "status.json").write_text(json.dumps(about_it | (status or {})), encoding="utf-8")
    if state == "finished":
        chosen = {"last/epoch": 0} if val is None else {"best/val_acc": val}
        found = chosen | {"test/acc": test, "params": 1000, "macs": 5000, "data/test": 10_000}
        found |= {"time/wall_s": 12.0, "time/images_per_s": 800.0, "data/split": "abc"}
        (path / "summary.json").write_text(json.dumps(found | (figures or {})), encoding="utf-8")
    rows = [f"{epoch},{acc},{1 - float(acc)}" for epoch, acc in enumerate(curve)]
    (path / "metrics.csv").write_text("\n".join(["epoch,val/acc,val/loss", *rows, ""]), encoding="utf-8")
    return Run(path)


def edit(run, changes):
    """A run whose settings were others, where it has them: `{"arch.name": "x"}`; in the folder of these."""
    config, choice, status = run.config(), run.content().identity, run.status()
    for nested in (config, choice):
        for key, value in changes.items():
            *sections, name = key.split(".")
            section = nested
            for step in sections:
                section = section.get(step, {})
            if name in section:
                section[name] = value
    (run.path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if choice:
        (run.path / "identity.json").unlink()
        name = run.path.name.rpartition("-")[0] + "-" + identity(deciding(choice))
        run = Run(run.path.rename(run.path.with_name(name)), choice)
        run.write_identity()
    run.write_status(status)
    return run


def make_measurement(
    folder,
    *,
    arch="vgg11",
    backend="eager",
    threads=1,
    seed=0,
    ms=4.0,
    figures=None,
    asked=None,
    device_is=None,
    **more,
):
    """A run of `cnnbench bench`; `more` as in `make_run`.

    Args:
        folder: a folder of its own for each is made below it.
        ms: the latency of one image.
        asked, device_is: of config.yaml, and of the device in status.json, what is not as it is here.
    """
    place = folder / "-".join((backend, str(threads), *map(str, (asked or device_is or {}).values())))
    run = make_run(place, arch=arch, seed=seed, **{"data": "cifar10", "name": "bench"} | more)
    device = {"name": "auto", "accelerator": "auto", "threads": threads, "precision": "32-true"}
    config = run.config() | {"verb": "bench", "backend": backend, "batch_sizes": [1], "device": device}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config | (asked or {})))
    resolved = run.status()["device"] | {"threads": threads, "precision": "32-true", "model": "a CPU"}
    status = run.status() | {"verb": "bench", "device": resolved | (device_is or {})}
    found = {"time/latency_p50_ms": ms, "time/inference_images_per_s": 2e3 / ms, "time/load_s": 1.0}
    found |= {"params": 1000, "macs": 5000, "memory/activations_mb": 10.0, "memory/batch": 1}
    run.write_summary(found | (figures or {}))
    run.write_status(status)
    return record(run)
