"""Runs that somebody else may have made: what their config.yaml can name, and every verb that reads them."""

import hashlib
from pathlib import Path

from sealing import configure

from cnnbench.run_store.run import Run

STRANGE = "strangers"
"""Module in the working folder whose import writes a file."""

MODULE = """
from pathlib import Path
Path({file!r}).touch()
def net(**more):
    from cnnbench.models.basic import basic
    return basic(**more)
"""

SHIPPED = "cnnbench.models.basic.basic"

TARGETS = {
    # Calls that run a command, write, remove or load something.
    "os.system": {"command": "id > {file}"},
    "os:system": {"command": "id > {file}"},
    "posix.system": {"command": "id > {file}"},
    "os.popen": {"cmd": "id > {file}"},
    "os.makedirs": {"name": "{file}"},
    "subprocess.run": {"args": "id > {file}", "shell": True},
    "subprocess.check_output": {"args": "id > {file}", "shell": True},
    "subprocess.Popen": {"args": "id > {file}", "shell": True},
    "shutil.rmtree": {"path": "{folder}"},
    "shutil.copytree": {"src": "{folder}", "dst": "{file}"},
    "builtins.open": {"file": "{file}", "mode": "w"},
    "builtins.exec": {"source": "open('{file}', 'w')"},
    "builtins.eval": {"source": "open('{file}', 'w')"},
    "runpy.run_module": {"mod_name": STRANGE},
    "runpy.run_path": {"path_name": f"{STRANGE}.py"},
    "importlib.import_module": {"name": STRANGE},
    "pkgutil.resolve_name": {"name": f"{STRANGE}:net"},
    "torch.utils.collect_env.run": {"command": "id > {file}"},
    "torch.save": {"obj": "x", "f": "{file}"},
    "torch.hub.load": {"repo_or_dir": "{folder}", "source": "local", "model": "net"},
    "hydra.utils.instantiate": {"config": {"_target_": "os.system", "command": "id > {file}"}},
    # Names of cnnbench that are not architectures.
    "cnnbench.cli:main": {"argv": ["train", "trainer.max_epochs=1", "logger=none"]},
    "cnnbench.cli.main": {"argv": ["train", "trainer.max_epochs=1", "logger=none"]},
    "cnnbench.run_store.files.write_atomic": {"path": "{file}", "content": "x"},
    "cnnbench.data.download.shutil.rmtree": {"path": "{folder}"},
    "cnnbench.settings.code.importlib.import_module": {"name": STRANGE},
    # A module whose import is enough.
    f"{STRANGE}.net": {},
    f"{STRANGE}:net": {},
    STRANGE: {},
    f"{STRANGE}_package.inner.net": {},
    f"{STRANGE}_package.inner:net.__call__": {},
    # Almost the name of an architecture.
    "cnnbench.models.basic:basic": {},
    f" {SHIPPED}": {},
    f"{SHIPPED}.__globals__": {},
    f"{SHIPPED}\0": {},
    "cnnbench..models.basic.basic": {},
    "": {},
    "..": {},
    ":": {},
}
"""Values of `arch._target_`, with the arguments that would leave a trace."""

SECTIONS = {
    "no target": {"_target_": None},
    "a list": {"_target_": ["os.system"], "command": "id > {file}"},
    "a number": {"_target_": 7},
    "a section": {"_target_": {"_target_": "os.system", "command": "id > {file}"}},
    "another key": {"target": "os.system", "command": "id > {file}"},
    "marked as trusted": {
        "_target_": "os.system",
        "trusted": True,
        "_trusted": True,
        "command": "id > {file}",
    },
    "nested": {"_target_": SHIPPED, "head": {"_target_": "os.system", "command": "id > {file}"}},
    "nested in an unknown argument": {"_target_": SHIPPED, "net": {"_target_": f"{STRANGE}.net"}},
    "ops": {"_target_": SHIPPED, "ops": {"_target_": "os.system", "command": "id > {file}"}},
    "name of a hub": {"name": "hf-hub:them/net", "_target_": "cnnbench.models.adapters.timm"},
    "attribute of a library": {"name": "_utils", "_target_": "cnnbench.models.adapters.torchvision"},
    "weights of a stranger": {"_target_": f"{STRANGE}.net", "weights": "{folder}/weights.pt"},
} | {f"_target_={target}": {"_target_": target, **more} for target, more in TARGETS.items()}
"""Sections `arch`, none of which may be called."""

QUICK = ["rounds=1", "round_s=0.01", "batch_sizes=[1]", "device.threads=1"]

CALLING = {
    "evaluate": ["evaluate", "{run}"],
    "evaluate a checkpoint": ["evaluate", "{run}/checkpoints/best.ckpt"],
    "evaluate the only run below": ["evaluate", "{above}", "--json", "-"],
    "evaluate other images": ["evaluate", "{run}", "data=digits"],
    "predict": ["predict", "{run}", "{image}"],
    "explain": ["explain", "{run}"],
    "explain several": ["explain", "{run}", "{other}"],
    "lesson": ["lesson", "{run}"],
    "export": ["export", "{run}", "--output", "net.onnx"],
    "export to torch.export": ["export", "{run}", "--output", "net.pt2", "--to", "torch"],
    "inspect": ["inspect", "{run}"],
    "inspect compared": ["inspect", "arch=basic", "--vs", "{run}"],
    "bench": ["bench", "of={run}", *QUICK],
    "bench parity": ["bench", "of={run}", "parity=true", *QUICK],
    "bench tune": ["bench", "of={run}", "tune=true", *QUICK],
    "bench onnxruntime": ["bench", "of={run}", "backend=onnxruntime", *QUICK],
}
"""Verbs that build the model of a run; every one of them must refuse."""

SWEEPS = {
    "bench of several": ["bench", "-m", "of={run},{other}", *QUICK],
    "bench with several seeds": ["bench", "-m", "of={run}", "seed=0,1", *QUICK],
}

READING = {
    "runs": ["runs", "{run}"],
    "runs below": ["runs", "{above}", "arch.name=basic"],
    "compare": ["compare", "{above}"],
    "sync": ["sync", "{above}"],
    "verify": ["verify", "{above}"],
}
"""Verbs that show or send a run; they call nothing."""


def spell(value, **places):
    """Fill in `{run}`, `{file}` and the like in all texts of a value."""
    if isinstance(value, dict):
        return {key: spell(item, **places) for key, item in value.items()}
    if isinstance(value, list):
        return [spell(item, **places) for item in value]
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace(f"{{{name}}}", str(place))
    return value


def lay_traps(folder: Path) -> None:
    """Write what a hostile run may bring along: modules that a trace shows to have been imported."""
    text = MODULE.format(file=str(folder / "trace"))
    (folder / f"{STRANGE}.py").write_text(text)
    package = folder / f"{STRANGE}_package"
    package.mkdir()
    (package / "__init__.py").write_text(text)
    (package / "inner.py").write_text(text)
    (folder / "kept").mkdir()
    (folder / "kept" / "hubconf.py").write_text(text)


def places(run: Run, folder: Path) -> dict[str, Path]:
    """Where the texts of sections and commands point."""
    return {"file": folder / "trace", "folder": folder / "kept", "run": run.path, "above": run.path.parent}


def rewrite(run: Run, config: object) -> None:
    """Replace the config.yaml of a run, and its digest."""
    configure(run, config)


def content(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with a digest of its content; without the caches of libraries."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] != "cache"
    }
