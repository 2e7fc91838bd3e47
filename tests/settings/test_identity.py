"""From settings to a run: identities are permanent, and other code is another run."""

import json
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from pydantic import BaseModel

from cnnbench.run_store import identity
from cnnbench.run_store.find import flat
from cnnbench.run_store.run import Run
from cnnbench.settings.base import FREE
from cnnbench.settings.compose import CONF
from cnnbench.settings.identity import describe, locate
from cnnbench.settings.parse import parse, plain
from cnnbench.settings.run import Settings

TABLE = Path(__file__).parent / "identities.json"
"""Frozen table: command -> name of its run. A changed hash orphans such a run of every user: mark a setting
that is added later with `added(…)`, or list it in `ADDED` (see `cnnbench/run_store/identity.py`)."""


@cache
def settings(*words):
    verb, *overrides = words
    GlobalHydra.instance().clear()
    with initialize_config_dir(CONF, version_base="1.3"):
        return parse(plain(compose(verb, overrides))).model_copy(update={"command": tuple(overrides)})


def located(line):
    return locate(settings(*line.split())).path.name


@pytest.mark.parametrize(("line", "name"), json.loads(TABLE.read_text()).items())
def test_identities_are_permanent(line, name):
    assert located(line) == name


def test_the_table_has_many_choices_of_every_group():
    """A choice that was added later need not be among them."""
    words = {word for line in json.loads(TABLE.read_text()) for word in line.split()}
    for group, least in {"arch": 38, "optimizer": 4, "scheduler": 5, "device": 6, "data": 13}.items():
        assert len({word for word in words if word.startswith(f"{group}=")}) >= least


@pytest.mark.parametrize(
    "change",
    ["output_dir=elsewhere", "name=other", "data.root=/x", "data.num_workers=3", "logger=none", "logger=csv",
     "sweep.jobs=1", "select=[optimizer.lr]", "force=true", "trainer.checkpoint_every_n_steps=5",
     "ops.norm=batch", "ops.init=native", "device.devices=1", "device.compile=false",
     "probes=[activations,shift] probes.activations.every=3"],
)  # fmt: skip
def test_settings_of_execution_and_display_do_not_count(change):
    assert located(f"train {change}") == located("train")


def added(kind):
    """Yield the settings of a section that came later with their first values, and its sections with some."""
    for name, info in kind.model_fields.items():
        if FREE in info.metadata:
            continue  # no part of a choice
        if info.exclude_if is not None:
            assert info.exclude_if(info.default)
            yield name, info.default
        elif (
            isinstance(info.annotation, type)
            and issubclass(info.annotation, BaseModel)
            and (inner := dict(added(info.annotation)))
        ):
            yield name, inner


def test_what_older_runs_lack_has_the_value_that_changes_nothing():
    sections = {key: value for key, value in identity.LATER.items() if ":" not in key}
    assert dict(added(Settings)) == sections
    completed = identity.complete(settings("train").choice())
    assert flat(completed).items() >= flat(sections).items()
    assert identity.complete({"verb": "bench", "data": {"size": 8}, "ops": {}}) == {
        "verb": "bench", "data": {"size": 8}, "ops": {},
    }  # fmt: skip


def test_an_argument_that_older_runs_lack_is_that_of_its_component():
    for name, monitor in (("plateau", "val/loss"), ("cosine", None)):
        choice = describe(settings("train", f"scheduler={name}"), {})
        assert "monitor" not in choice["scheduler"]
        assert identity.complete(choice)["scheduler"].get("monitor") == monitor


@pytest.mark.parametrize(
    "change",
    ["seed=1", "ops.norm=group", "ops.init=zero", "optimizer.lr=0.2", "scheduler=cosine",
     "data.split_seed=1", "device=cpu", "device.compile=true", "device.devices=2", "arch.width=2",
     "trainer.max_epochs=3"],
)  # fmt: skip
def test_settings_that_decide_the_result_count(change):
    assert located(f"train {change}") != located("train")


def test_a_setting_that_is_added_later_leaves_identities_unchanged(monkeypatch):
    """As if `kernel` of the basic CNN had been added after format 2, with 3 for the earlier behaviour."""
    monkeypatch.setattr(identity, "ADDED", {"arch.kernel": 3})
    choice = describe(settings("train"), {})
    assert "kernel" not in choice["arch"]
    assert describe(settings("train", "arch.kernel=5"), {})["arch"]["kernel"] == 5


def test_the_location_of_shipped_code_does_not_count():
    names = [identity.component_name(f"cnnbench.{room}.cosine") for room in ("schedule", "training.schedule")]
    assert names == ["cnnbench:cosine"] * 2
    assert "cnnbench." not in json.dumps(describe(settings("train"), {}))


def test_identity_json_gives_the_hash_of_the_folder():
    run = locate(settings("train", "arch=resnet20"))
    assert run.path.name.endswith(identity.identity(run.planned))


OWN = """
from torch import nn
def tiny(num_classes: int, in_channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, width, {kernel}), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, num_classes))
"""


def own(tmp_path, kernel):
    Path("mynet.py").write_text(OWN.format(kernel=kernel))
    Path("mine/arch").mkdir(parents=True, exist_ok=True)
    Path("mine/arch/tiny.yaml").write_text("name: tiny\n_target_: mynet.tiny\nwidth: 4\n")
    return ["train", "--config-dir", "mine", "arch=tiny", "trainer.max_epochs=1", "logger=none"]


def test_an_edited_network_is_another_run(cli, tmp_path):
    """While a network is developed, the same command must never show the result of other code."""
    command = own(tmp_path, 3)
    code, out, _ = cli(*command)
    assert (code, "90   (" in out) == (0, True)
    code, out, err = cli(*command)
    assert "already finished" in err
    own(tmp_path, 5)
    code, out, err = cli(*command)
    assert (code, "154   (" in out, "already" in err) == (0, True, False)
    runs = sorted(Path("outputs/default").iterdir())
    assert len(runs) == 2
    assert len({Run(path).choice()["arch"]["_code_"] for path in runs}) == 2
    own(tmp_path, 3)
    assert "already finished" in cli(*command)[2]
    code, out, _ = cli("compare", "outputs")
    assert (code, "2 configurations" in out, "code" in out) == (0, True, True)


def test_edited_code_is_mentioned_when_an_earlier_run_is_used(cli, tmp_path):
    """Its weights are loaded into the network as it is now."""
    assert cli(*own(tmp_path, 3))[0] == 0
    (run,) = Path("outputs/default").iterdir()
    code, _, err = cli("evaluate", run, "--trust-code")
    assert (code, "edited" in err) == (0, False)
    Path("mynet.py").write_text(
        Path("mynet.py").read_text().replace("nn.Flatten()", "nn.Flatten(), nn.ReLU()")
    )
    code, _, err = cli("evaluate", run, "--trust-code")
    assert "mynet.tiny was edited since this run was trained" in err


def test_a_setting_of_any_name_counts(tmp_path, monkeypatch):
    """Also one that is called like what an identity adds."""
    monkeypatch.chdir(tmp_path)
    own(tmp_path, 3)
    names = set()
    for value in (1, 2):
        for key in ("code", "content", "target_"):
            arch = {"name": "tiny", "_target_": "mynet.tiny", key: value}
            changed = settings("train").model_copy(update={"arch": type(settings("train").arch)(**arch)})
            names.add(locate(changed).path.name)
    assert len(names) == 6


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"choice": []}', '{"choice": {"arch": []}}', '{"choice"', "9" * 5_000_000]
)
def test_a_damaged_identity_is_named_and_nothing_ends_in_a_traceback(cli, tmp_path, text):
    """That the network's code was edited since would go unnoticed. The command that trained it mends it."""
    command = own(tmp_path, 3)
    assert cli(*command)[0] == 0
    (run,) = Path("outputs/default").iterdir()
    before = (run / "identity.json").read_bytes()
    (run / "identity.json").unlink() if text is None else (run / "identity.json").write_text(text)
    for verb, expected in ((["runs"], 0), (["compare"], 0), (["evaluate", run, "--trust-code"], 2)):
        code, out, err = cli(*verb)
        assert (code, "Traceback" in err) == (expected, False)
        assert f"{run / 'identity.json'}: " in " ".join((out + err).split())
    code, _, err = cli(*command)
    assert (code, "identity.json" in err) == (0, True)
    assert (run / "identity.json").read_bytes() == before
    assert Run(run).state == "finished"


def test_code_that_is_edited_while_a_run_waits_is_refused(tmp_path, cli, monkeypatch):
    """In a sweep the runs are planned long before the last one imports the user's module."""
    command = own(tmp_path, 3)
    import cnnbench.training.fit as fit

    check = fit.check_own_code

    def edited_meanwhile(settings, run):
        own(tmp_path, 5)
        check(settings, run)

    monkeypatch.setattr(fit, "check_own_code", edited_meanwhile)
    code, _, err = cli(*command)
    assert code == 2
    assert "mynet.tiny" in err
    assert "edited" in err
    assert not list(Path("outputs").rglob("status.json"))


def test_a_result_of_other_code_of_cnnbench_is_announced(cli):
    tiny = ["trainer.max_epochs=1", "logger=none", "arch.blocks=1", "arch.width=0.25"]
    assert cli("train", *tiny)[0] == 0
    (path,) = Path("outputs/default").iterdir()
    run = Run(path)
    run.write_status(run.status() | {"code": run.status()["code"] | {"training": "0" * 16}})
    _, _, err = cli("train", *tiny)
    assert "training" in err
    assert "other code" in err
    _, _, err = cli("train", "-m", *tiny, "seed=0,1")
    assert "1 of those done by other code" in err
    _, out, _ = cli("compare", "outputs")
    assert "mixed code" in out
