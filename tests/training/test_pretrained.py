"""Pretrained weights: which parameters are loaded, keep their initial values, or stay frozen."""

import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from data_support import image_data
from running import TINY, the_run
from safetensors.torch import save_file

from cnnbench.data.datasets import IMAGENET
from cnnbench.run_store.run import Run
from cnnbench.training import weight_files

RUN = ["data.limit=100", "data.limit_test=20", "trainer.max_epochs=1", "logger=none"]
MOBILE = ["arch=mobilenet_v2", "arch.in_channels=3", *RUN]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Write a file in the layout of torchvision's published weights, with values unlike an initialisation."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.manual_seed(5)
    state = torchvision.models.mobilenet_v2().state_dict()
    state["features.0.1.running_mean"] += 0.25
    torch.save(state, path)
    return path


def trained(run: Path):
    """Return the weights of a run's best epoch."""
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return {key.removeprefix("model."): value for key, value in state.items()}


def test_matching_parameters_are_loaded_and_the_rest_listed(cli, published):
    code, _, err = cli("train", *MOBILE, f"arch.weights={published}")
    assert code == 0, err
    assert "156 of 158 tensors" in err
    assert "classifier.1.weight (1000x1280, here 10x1280), classifier.1.bias (1000, here 10)" in " ".join(
        err.split()
    )
    summary = Run(the_run()).summary()
    assert summary["weights/loaded"] == 156
    assert summary["weights/left"] == "classifier.1.weight classifier.1.bias"


@pytest.mark.parametrize("average", [[], ["trainer.max_epochs=3", "trainer.swa=0.3"]], ids=["none", "swa"])
def test_frozen_weights_and_statistics_stay(cli, published, average):
    overrides = [f"arch.weights={published}", "arch.freeze=true", "trainer.max_epochs=2", *average]
    assert cli("train", *MOBILE, *overrides)[0] == 0
    before, after = torch.load(published, weights_only=True), trained(the_run())
    for key, value in before.items():
        assert torch.equal(after[key], value) != key.startswith("classifier"), key


def test_without_freezing_all_is_trained(cli, published):
    assert cli("train", *MOBILE, f"arch.weights={published}")[0] == 0
    before, after = torch.load(published, weights_only=True), trained(the_run())
    assert not any(torch.equal(after[key], value) for key, value in before.items() if key.endswith("weight"))


def test_a_file_counts_by_its_content(cli, published, tmp_path):
    assert cli("train", *MOBILE, f"arch.weights={published}")[0] == 0
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes(published.read_bytes())
    _, _, err = cli("train", *MOBILE, f"arch.weights={moved}")
    assert "already finished" in err
    other = torch.load(moved, weights_only=True)
    other["features.0.0.weight"] += 1
    torch.save(other, moved)
    assert "already finished" not in cli("train", *MOBILE, f"arch.weights={moved}")[2]
    assert len(list(Path("outputs").rglob("summary.json"))) == 2


def test_imagenet_is_torchvisions_file(cli, published, monkeypatch, tmp_path):
    """It is read from torch's cache; without a cached file and a network, one line reports the error."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)  # urlopen keeps its first call's proxies
    code, _, err = cli("train", *MOBILE, "arch.weights=imagenet")
    assert code == 2
    assert "hub/checkpoints/mobilenet_v2-b0353104.pth" in err
    assert "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth" in err
    assert not Path("outputs").exists()
    cached = tmp_path / "hub" / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(published.read_bytes())
    code, _, err = cli("train", *MOBILE, "arch.weights=imagenet")
    assert code == 0, err
    assert "156 of 158 tensors from imagenet" in err


def test_imagenets_weights_get_imagenets_normalisation():
    for channels in (None, 3):
        own = image_data("digits", "unused", channels=channels)
        theirs = image_data("digits", "unused", channels=channels, imagenet_normalisation=True)
        assert (theirs.mean, theirs.std) == (IMAGENET if channels == 3 else (own.mean, own.std))
    images = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    pixel = theirs.transform(images, None)[0, :, 0, 0]
    expected = (1 - torch.tensor(IMAGENET[0])) / torch.tensor(IMAGENET[1])
    torch.testing.assert_close(pixel, expected)


def test_a_checkpoint_of_a_run_can_be_loaded(cli):
    assert cli("train", *TINY)[0] == 0
    best = the_run() / "checkpoints" / "best.ckpt"
    code, _, err = cli("train", *TINY, "name=again", f"arch.weights={best}", "seed=1")
    assert code == 0, err
    assert "10 of 10 tensors" in err


def wrapped(model):
    """Yield files in which others have kept the weights of a model, by what wrote them."""
    state, other = model.state_dict(), {k: v + 1 for k, v in model.state_dict().items()}
    yield "compiled", torch.compile(model).state_dict()
    yield "in parallel", {"state_dict": torch.nn.DataParallel(model).state_dict(), "best_prec1": 91.7}
    yield "kuangliu", {"net": torch.nn.DataParallel(model).state_dict(), "acc": 95.0, "epoch": 3}
    yield "averaged", torch.optim.swa_utils.AveragedModel(model).state_dict()
    yield "timm", {"arch": "x", "state_dict": other, "state_dict_ema": state, "optimizer": {"state": {}}}
    floats = {k: v for k, v in state.items() if v.is_floating_point()}
    yield "average of floats", {"model": other, "ema": floats}
    criterion = {"criterion.weight": torch.ones(10)}
    yield "Lightning", {"state_dict": {f"net.backbone.{k}": v for k, v in state.items()} | criterion}
    yield "twice wrapped", {f"module._orig_mod.{k}": v for k, v in state.items()}


def test_files_of_others_are_read(cli, tmp_path):
    assert cli("train", *TINY)[0] == 0
    best = torch.load(the_run() / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    model = torch.nn.Module()
    for key, value in best.items():
        module, (*path, name) = model, key.removeprefix("model.").split(".")
        for step in path:
            if step not in module._modules:
                module.add_module(step, torch.nn.Module())
            module = module._modules[step]
        module.register_buffer(name, value)
    for name, content in wrapped(model):
        torch.save(content, tmp_path / f"{name}.pth")
    for name in ("safe.safetensors", "a cache's.0f1e"):
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / name)
    for path in sorted(tmp_path.glob("*.*")):
        found = weight_files.read(str(path), model.state_dict().keys())
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                assert torch.equal(found.tensors[key], value), (path, key)
        several = {"timm": ("state_dict_ema", ["state_dict"]), "average of floats": ("ema", ["model"])}
        assert found[1:] == (*several.get(path.stem, (found.taken, [])), [])


def test_an_average_without_statistics_is_mentioned(tmp_path):
    names = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    state = {name: torch.ones(1) for name in names}
    torch.save({"model": state, "ema": {name: state[name] for name in names[:3]}}, tmp_path / "both.pth")
    found = weight_files.read(str(tmp_path / "both.pth"), names)
    assert (found.taken, found.others) == ("model", ["ema"])
    torch.save(state | {"bn.more": torch.ones(1), "other": {"x": torch.ones(1)}}, tmp_path / "more.pth")
    assert weight_files.read(str(tmp_path / "more.pth"), names).unused == ["bn.more"]


def test_a_sweep_reads_weights_before_it_starts(cli):
    Path("noise.pth").write_bytes(b"noise")
    torch.save({"other.weight": torch.ones(3)}, "other.pth")
    code, _, err = cli("train", "-m", *TINY, "arch.weights=null,noise.pth,other.pth")
    err = " ".join(err.split())
    assert code == 2, err
    assert "2 of 3 runs cannot be built" in err
    assert "arch.weights=noise.pth: is not a weight file" in err
    assert "arch.weights=other.pth: nothing in it fits basic" in err
    assert not list(Path("outputs").rglob("status.json"))


@pytest.mark.parametrize(
    ("theirs", "loaded", "note"),
    [({}, "10 of 10", ""),
     ({"head.5": "linear"}, "10 of 10", "; linear as head.5"),
     ({"head.5": "linear", "features.block1.0": "stem"}, "7 of 10", "; not loaded: ")],
    ids=["the same names", "another name of the last layer", "two other names"],
)  # fmt: skip
def test_a_layer_of_another_name(cli, theirs, loaded, note):
    assert cli("train", *TINY)[0] == 0
    state = torch.load(the_run() / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]

    def renamed(name):
        for own, other in theirs.items():
            name = name.replace(f"model.{own}.", f"model.{other}.")
        return name

    torch.save({renamed(key): value for key, value in state.items()}, "theirs.pth")
    code, _, err = cli("train", *TINY, "name=again", "seed=1", "arch.weights=theirs.pth")
    assert code == 0, err
    assert f"{loaded} tensors from theirs.pth{note}" in " ".join(err.split()), err


def test_a_file_with_several_sets_of_weights(cli, tmp_path):
    def trained(*overrides):
        code, _, err = cli("train", *TINY, *overrides)
        return code, " ".join(err.split())

    assert trained()[0] == 0
    state = torch.load(the_run() / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    torch.save({"state_dict": state, "state_dict_ema": {k: v + 1 for k, v in state.items()}}, "both.pth")
    save_file({k: v.contiguous() for k, v in state.items()}, "safe.safetensors")
    code, err = trained("name=ema", "arch.weights=both.pth")
    assert code == 0
    taken, other = "state_dict_ema.model", "state_dict.model"
    assert f"both.pth: {taken} (arch.weights_key chooses; it also holds {other})" in err
    code, err = trained("name=raw", "arch.weights=both.pth", "arch.weights_key=state_dict")
    assert (code, "it also holds" in err) == (0, False)
    assert len({path.name for path in Path("outputs").glob("[er]*/*")}) == 2
    code, err = trained("name=no", "arch.weights=both.pth", "arch.weights_key=module")
    assert code == 2
    assert "arch.weights_key=module: no weights of the model in both.pth; allowed: state_dict.model" in err
    code, err = trained("name=no", "arch.weights_key=module")
    assert code == 2
    assert "allowed with arch.weights=FILE alone" in err
    code, err = trained("name=safe", "arch.weights=safe.safetensors")
    assert (code, "10 of 10 tensors" in err) == (0, True)
    Path("cut.safetensors").write_bytes(Path("safe.safetensors").read_bytes()[:200])
    code, err = trained("name=no", "arch.weights=cut.safetensors")
    assert code == 2
    assert "is not a safetensors file, or is truncated" in err


def test_googlenet_takes_imagenets_inputs_with_its_weights():
    from cells import make

    for arch in ("googlenet", "inception_v3"):
        assert make(arch, weights="imagenet", width=0.125)[0].transform_input
        assert not make(arch, width=0.125)[0].transform_input
        assert not make(arch, channels=1, weights="imagenet", width=0.125)[0].transform_input


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_own_models_take_imagenets_inputs_with_its_weights(name):
    from cells import make

    arch = {"name": f"torchvision.{name}"}
    assert make("torchvision", size=96, weights="imagenet", **arch)[0].transform_input
    assert not make("torchvision", size=96, **arch)[0].transform_input


def test_weights_for_other_inputs_are_refused(cli):
    """Those of EfficientNetV2-L expect images normalised with mean and standard deviation 0.5."""
    code, _, err = cli("train", "arch=torchvision", "arch.name=efficientnet_v2_l", "arch.weights=imagenet")
    assert code == 2
    assert "expect images normalised with mean 0.5 and standard deviation 0.5, not ImageNet's" in err


def test_batch_norm_without_statistics_is_listed_and_never_frozen(cli):
    """Group norm has parameters with the same names, but no statistics."""
    assert cli("train", *TINY, "ops.norm=group")[0] == 0
    weights = f"arch.weights={the_run() / 'checkpoints' / 'best.ckpt'}"
    code, _, err = cli("train", *TINY, "name=again", weights)
    assert code == 0, err
    assert "10 of 10 tensors" in err
    err = " ".join(err.split())
    assert "not loaded: " in err
    assert ".running_mean" in err
    code, _, err = cli("train", *TINY, "name=frozen", weights, "arch.freeze=true", "data=synthetic")
    assert code == 2
    assert "running_mean, without which a frozen batch norm does nothing" in err


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


def _files(folder):
    (folder / "noise.pth").write_bytes(b"noise")
    (folder / "evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"epoch": 3}, folder / "empty.pth")
    torch.save([1, 2], folder / "list.pth")
    torch.save({"other.weight": torch.ones(3)}, folder / "other.pth")
    complete = torchvision.models.mobilenet_v2(num_classes=10).state_dict()
    torch.save(complete, folder / "complete.pth")
    (folder / "cut.pth").write_bytes((folder / "complete.pth").read_bytes()[:100_000])
    (folder / "nothing.pth").write_bytes(b"")
    key = "features.0.0.weight"
    for name, tensor in {
        "nan": complete[key] * torch.nan,
        "int": complete[key].to(torch.int64),
        "complex": complete[key] + 1j,
        "sparse": complete[key].to_sparse(),
    }.items():
        torch.save({key: tensor, 3: torch.ones(2)}, folder / f"{name}.pth")
    torch.save({key: torch.ones(3, 3)}, folder / "size.pth")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["arch.weights=nowhere.pth"], ["arch.weights=nowhere.pth", "No such file", "allowed: imagenet"]),
        (["arch.weights=noise.pth"], ["arch.weights=noise.pth", "not a weight file"]),
        (["arch.weights=evil.pth"], ["arch.weights=evil.pth", "objects other than tensors"]),
        (["arch.weights=empty.pth"], ["arch.weights=empty.pth", "no weights"]),
        (["arch.weights=list.pth"], ["arch.weights=list.pth", "no weights"]),
        (["arch.weights=other.pth"], ["arch.weights=other.pth", "nothing in it fits", "other.weight"]),
        (["arch.weights=complete.pth", "arch.freeze=true"], ["arch.freeze=true", "nothing is left"]),
        (["arch.freeze=true"], ["error: arch.freeze=true", "arch.weights"]),
        (["arch.weights=cut.pth"], ["arch.weights=cut.pth", "is damaged"]),
        (["arch.weights=nothing.pth"], ["arch.weights=nothing.pth", "not a weight file"]),
        (["arch.weights=nan.pth"], ["arch.weights=nan.pth", "features.0.0.weight", "not finite"]),
        (["arch.weights=int.pth"], ["arch.weights=int.pth", "features.0.0.weight", "torch.int64"]),
        (["arch.weights=complex.pth"], ["arch.weights=complex.pth", "torch.complex64"]),
        (["arch.weights=sparse.pth"], ["arch.weights=sparse.pth", "sparse"]),
        (["arch.weights=size.pth"], ["arch.weights=size.pth", "is 3x3, here 32x3x3x3"]),
        (["arch.weights=."], ["arch.weights=.", "Is a directory"]),
        (["arch.weights=imagenet", "arch=basic"], ["arch.weights=imagenet", "none for basic"]),
    ],
)
def test_wrong_weights(cli, tmp_path, overrides, expected):
    _files(tmp_path)
    code, _, err = cli("train", *MOBILE, *overrides)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert all(text in line for text in expected), line
    assert not Path("outputs").exists()
    assert not Path("owned").exists()
