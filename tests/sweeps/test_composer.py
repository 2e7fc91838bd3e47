"""The fast composer of a sweep gives the same configs as Hydra."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from cnnbench.errors import InputError
from cnnbench.settings.compose import CONF
from cnnbench.settings.parse import plain
from cnnbench.sweeps.composer import Composer


@pytest.fixture
def sweep():
    """Yield a config loader and a sweep's own config, as a launcher receives them, and add two configs."""
    extra = Path("extra/arch")
    extra.mkdir(parents=True)
    (extra / "refers.yaml").write_text("name: refers\n_target_: x.y\nwidth: ${optimizer.lr}\n")
    (extra / "asks.yaml").write_text("name: asks\n_target_: x.y\nwidth: ???\ndepth: ???\n")
    with initialize_config_dir(CONF, version_base="1.3"):
        loader: ConfigLoader = GlobalHydra.instance().config_loader()
        search = [f"hydra.searchpath=[{Path('extra').resolve()}]"]
        yield loader, loader.load_configuration("train", search, RunMode.MULTIRUN)


def by_hydra(sweep, overrides):
    loader, master = sweep
    config = loader.load_sweep_config(master, list(overrides))
    return plain(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


POINTS = [
    [],
    ["seed=1"],
    ["seed=1", "optimizer.lr=0.05", "arch=resnet18", "data=cifar10", "ops.norm=group"],
    ["optimizer.lr=1e-3", "optimizer=adamw"],
    ["optimizer=adamw", "optimizer.lr=1e-3", "optimizer.weight_decay=0"],
    ["arch=vgg11", "arch.width=0.5", "arch.dropout=0", "arch.weights=null"],
    ["name='with space'", 'data.root="~/a,b"', "logger.tags=[a,b]"],
    ["data.augment.resized_crop=[0.5,1]", "data.augment.flip=true"],
    ["data.augment={crop:4,flip:true}", "data.augment.crop=2"],
    ["data.augment.crop=2", "data.augment={crop:4,flip:true}"],
    ["+optimizer.extra=3", "seed=2"],
    ["+optimizer.extra=3", "optimizer.extra=4"],
    ["++seed=5", "seed=6"],
    ["seed=6", "++seed=5"],
    ["~ops.norm", "seed=1"],
    ["experiment=ablation_norm", "ops.norm=none", "seed=2"],
    ["budget=small", "arch.width=1", "seed=2"],
    ["arch=refers", "optimizer.lr=0.25"],
    ["arch=refers", "optimizer.lr=0.125", "seed=3"],
    ["optimizer.lr=${seed}", "seed=3"],
    ["arch=asks", "arch.width=1", "arch.depth=2"],
    ["logger=none", "seed=0"],
    ["output_dir=null", "select=[optimizer.lr]"],
    ["trainer.early_stopping.patience=3", "trainer.max_epochs=007"],
]


@pytest.mark.parametrize("overrides", POINTS, ids=" ".join)
def test_equal_to_hydra(sweep, overrides):
    compose = Composer(*sweep)
    for _ in range(2):  # the second time from the cache
        assert compose(overrides) == by_hydra(sweep, overrides)


def test_points_do_not_mix(sweep):
    """Sections that configs share are never changed."""
    compose = Composer(*sweep)
    configs = [compose(overrides) for overrides in POINTS]
    assert configs == [by_hydra(sweep, overrides) for overrides in POINTS]
    assert [compose(overrides) for overrides in reversed(POINTS)] == configs[::-1]


@pytest.mark.parametrize(
    "overrides",
    [
        ["sead=1"],
        ["seed.x=1"],
        ["optimizer.nothing=1"],
        ["arch=nothing"],
        ["arch=asks", "arch.width=1"],
        ["seed=[1"],
        ["~nothing"],
        ["seed=${nothing}"],
    ],
    ids=" ".join,
)
def test_refuses_what_hydra_refuses(sweep, overrides):
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - Hydra's and OmegaConf's, of many kinds
        by_hydra(sweep, overrides)
    compose = Composer(*sweep)
    for _ in range(2):
        with pytest.raises(type(theirs.value)) as ours:
            compose(overrides)
        assert str(ours.value) == str(theirs.value)


def test_groups_are_composed_once(sweep, monkeypatch):
    loader, master = sweep
    composed = []
    load = loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda *args: composed.append(args[1]) or load(*args))
    compose = Composer(loader, master)
    for arch in ("basic", "mlp"):
        for seed in range(200):
            assert compose([f"arch={arch}", f"seed={seed}", "optimizer.lr=0.1"])["seed"] == seed
    assert len(composed) == 2


def test_missing_is_named(sweep):
    with pytest.raises(InputError, match=r"arch\.depth: has no default and must be given"):
        Composer(*sweep)(["arch=asks", "arch.width=1"])
