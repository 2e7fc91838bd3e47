"""`cnnbench export`: content of the files, for programs without cnnbench, and their outputs."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cells import VALUES, families, make
from PIL import Image
from sealing import configure

from cnnbench.cli import main
from cnnbench.data.preprocessing import Preparation
from cnnbench.errors import OpsError
from cnnbench.inference import trained_model
from cnnbench.inference.export import formats, graph, verify
from cnnbench.ops.values import INITS

pytest_plugins = ["finished_fixtures"]


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def answers(cli, run, *files):
    """Predict with `cnnbench predict`: probabilities (N, K) in the order of the classes."""
    code, out, err = cli("predict", run.path, *files, "--top", "99", "--json", "-")
    assert code == 0, err
    found = json.loads(out)
    shares = [{g["class"]: g["probability"] for g in image["guesses"]} for image in found["images"]]
    return np.array([[one[name] for name in found["classes"]] for one in shares])


def files(photos):
    return sorted(Path(photos.config()["data"]["root"]).glob("*/*"))[:9]


def opened(path, side, centre):
    """Follow the metadata's description of preprocessing with Pillow alone."""
    with Image.open(path) as image:
        width, height = image.size
        shorter = round(side / centre)
        scale = shorter / min(width, height)
        size = (int(width * scale), int(height * scale))
        image = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        left, top = (round((length - side) / 2) for length in size)
        return np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1)


@pytest.fixture(scope="session")
def exported(photos, digits, tmp_path_factory):
    """The photos run as ONNX, the digits run as an archive."""
    folder = tmp_path_factory.mktemp("exported")
    assert main(["export", str(photos.path), "--output", str(folder / "x.onnx")]) == 0
    assert main(["export", str(digits.path), "--to", "torch", "--output", str(folder / "x.pt2")]) == 0
    return folder


def test_a_program_needs_the_onnx_file_alone(photos, exported, cli):
    model = session(exported / "x.onnx")
    about = model.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["ape", "bee", "cow"]
    assert (about["colours"], about["input_layout"], about["input_shape"]) == ("RGB", "NCHW", "N,3,16,16")
    assert (about["run"], about["arch"], about["data"]) == (photos.path.name, "basic", "imagefolder")
    assert float(about["test_accuracy"]) == photos.summary()["test/acc"]
    assert about["resize"].startswith("JPEGs decoded at the smallest scale of ")
    assert "; rotated upright according to EXIF; " in about["resize"]
    assert "the shorter side resized to 18, bilinear with antialiasing" in about["resize"]
    (images,) = model.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 3, 16, 16])
    assert [output.name for output in model.get_outputs()] == ["logits", "probabilities"]
    paths = files(photos)
    pixels = np.stack([opened(path, 16, 0.875) for path in paths])
    expected = answers(cli, photos, *paths)
    for count in (1, 2, 9):
        logits, probabilities = model.run(None, {"images": pixels[:count]})
        assert probabilities.shape == (count, 3)
        # Pillow and torch round a resized pixel differently now and then.
        assert np.abs(probabilities - expected[:count]).max() < 0.02
        assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
        assert np.allclose(probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-5)


def test_normalised_input(photos, exported, cli):
    code, out, err = cli("export", photos.path, "--input", "normalised", "--output", "x.onnx")
    assert (code, err) == (0, "written: x.onnx\n")
    assert "test images of imagefolder" in out
    assert "batch 7: logits differ by" in out
    model, raw = session("x.onnx"), session(exported / "x.onnx")
    about = model.get_modelmeta().custom_metadata_map
    assert model.get_inputs()[0].type == "tensor(float)"
    mean, std = (np.array(json.loads(about[key]), np.float32)[:, None, None] for key in ("mean", "std"))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    (found,) = model.run(["logits"], {"images": ((pixels / 255 - mean) / std).astype(np.float32)})
    (expected,) = raw.run(["logits"], {"images": pixels})
    assert np.allclose(found, expected, atol=1e-4)
    assert np.allclose(expected, trained_model.load(photos).logits(torch.from_numpy(pixels)), atol=1e-4)


def test_an_archive_of_torch_export(digits, exported):
    extra = {"cnnbench.json": ""}
    program = torch.export.load(exported / "x.pt2", extra_files=extra)
    assert json.loads(json.loads(extra["cnnbench.json"])["classes"]) == [str(k) for k in range(10)]
    pixels = torch.randint(256, (11, 1, 8, 8), dtype=torch.uint8)
    for count in (1, 11):
        logits, _ = program.module()(pixels[:count])
        torch.testing.assert_close(
            logits, trained_model.load(digits).logits(pixels[:count]), atol=1e-4, rtol=1e-4
        )


def test_grey_pixels_for_a_model_of_three_channels():
    model = made("basic", colours=1)
    pixels = torch.randint(256, (4, 1, 32, 32), dtype=torch.uint8)
    for kind, channels in (("pixels", 1), ("normalised", 3)):
        images = graph.fed(model, kind, pixels)
        assert images.shape[1] == channels
        logits, _ = graph.Deployed(model, kind)(images)
        torch.testing.assert_close(logits, model.logits(pixels), atol=1e-5, rtol=1e-5)


def test_no_path_of_this_machine_is_in_a_file(exported):
    contents = (exported / "x.onnx").read_bytes()
    with zipfile.ZipFile(exported / "x.pt2") as archive:
        contents += b"".join(archive.read(name) for name in archive.namelist())
    assert b"basic" in contents
    for trace in ("site-packages", str(Path.home()), "/cnnbench/", ".py"):
        assert trace.encode() not in contents


def test_without_its_data_set_the_images_are_said_to_be_random(photos, copied, cli):
    run = copied(photos)
    config = run.config()
    config["data"]["root"] = "/nowhere/at/all"
    configure(run, config)
    code, out, _ = cli("export", run.path, "--output", "x.onnx")
    assert code == 0
    assert "RANDOM images" in out
    assert Path("x.onnx").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_file_that_computes_something_else_is_not_written(kind, digits, cli, monkeypatch):
    """The mean is off by a hundredth of a pixel's range."""
    Path("x").write_text("before")
    honest = graph.Deployed.__init__

    def shifted(self, *arguments):
        honest(self, *arguments)
        self.mean += 2.55

    monkeypatch.setattr(graph.Deployed, "__init__", shifted)
    code, out, err = cli("export", digits.path, "--to", kind, "--output", "x")
    assert (code, out) == (1, "")
    assert "the exported model differs: batch 1: logits differ by" in err
    assert "nothing is written" in err
    assert Path("x").read_text() == "before"
    assert not list(Path().glob(".x*"))


def test_what_is_not_a_number_is_not_fine():
    assert not verify.Difference(1, float("nan"), 0.0, 1.0).fine
    assert not verify.Difference(1, 0.0, float("nan"), 1.0).fine
    assert verify.Difference(1, 1.9e-4, 0.0, 1.0).fine
    assert not verify.Difference(1, 2.1e-4, 0.0, 1.0).fine


def test_what_is_not_installed_is_named(digits, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = cli("export", digits.path)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert "pip install 'cnnbench[export]'" in line
    assert cli("export", digits.path, "--to", "torch")[0] == 0
    assert Path(f"{digits.path.name}.pt2").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "nowhere/x.onnx"], "--output nowhere/x.onnx: its folder does not exist"),
        (["--output", "."], "--output .: is a folder"),
        (
            ["--to", "torch", "--output", "x.onnx"],
            "--output x.onnx: has the suffix of another format; allowed with",
        ),
        (["--output", "-"], "--output -: not a file name"),
        (["--output", "/dev/full"], "/dev/full: cannot be written (No space left on device)"),
    ],
)
def test_bad_input_is_one_line(digits, cli, arguments, message):
    code, out, err = cli("export", digits.path, *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert message in line
    assert list(Path().iterdir()) == []


def test_what_an_exporter_does_not_know_is_one_line(digits, copied, cli, tmp_path):
    """A user's own model whose control flow depends on its input."""
    (tmp_path / "mynet.py").write_text(
        "from cnnbench.models.basic import basic as original\n"
        "def basic(*, ops, in_channels: int, num_classes: int, image_size: int, width: float = 1.0,\n"
        "          blocks: int = 3):\n"
        "    model = original(ops=ops, in_channels=in_channels, num_classes=num_classes,\n"
        "                     image_size=image_size, width=width, blocks=blocks)\n"
        "    forward = model.forward\n"
        "    model.forward = lambda x: forward(x) if x.sum() > 0 else forward(-x)\n"
        "    return model\n"
    )
    run = copied(digits)
    config = run.config()
    config["arch"] = {key: config["arch"][key] for key in ("name", "width", "blocks")} | {
        "_target_": "mynet.basic"
    }
    configure(run, config)
    code, out, err = cli("export", run.path, "--trust-code", "--output", "x.onnx")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert "basic --to onnx: cannot be exported" in err
    assert not Path("x.onnx").exists()


# --- every family, every value of every axis -------------------------------------------------------


def made(arch, ops=None, size=32, colours=3):
    """Return a run's model with the batch statistics of random images, without training it."""
    model, _ = make(arch, size=size, ops=ops, width=0.125)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(16, 3, size, size))
    seen = Preparation(
        classes=[str(k) for k in range(10)], size=size, colours=colours, channels=3, mean=[0.5] * colours,
        std=[0.3] * colours, centre=None,
    )  # fmt: skip
    device = trained_model.CPU | {"threads": torch.get_num_threads()}
    ready = model.eval().requires_grad_(False)
    return trained_model.Trained(run=None, settings=None, model=ready, preparation=seen, device=device)


def far(model, make_file):
    pixels = torch.randint(256, (32, 3, 32, 32), dtype=torch.uint8)
    module = graph.Deployed(model, "pixels").eval()
    about = {"arch": "x", "data": "x", "cnnbench": "x"}
    written = make_file(module, pixels[:2], about)
    if make_file is formats.to_onnx:
        assert {entry.version for entry in onnx.load_from_string(written.data).opset_import} == {18}
    found = verify.differences(model, written.forward, "pixels", pixels)
    assert [one.batch for one in found] == [1, 7, 24]
    return [one for one in found if not one.fine]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_op():
    done = 0
    for axis, value in VALUES:
        try:
            model = made("basic", {axis: value})
        except OpsError:
            continue
        done += 1
        assert far(model, formats.to_onnx) == [], (axis, value)
    assert done >= 10


@pytest.mark.slow
@pytest.mark.parametrize("arch", families())
def test_every_family(arch):
    assert far(made(arch), formats.to_onnx) == []


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["googlenet", "mobilenet_v2"])
def test_archives(arch):
    """One network that concatenates, one that adds."""
    assert far(made(arch), formats.to_torch) == []


@pytest.mark.slow
@pytest.mark.parametrize("init", INITS)
def test_learned_scalars_of_residual_branches(init):
    model = made("resnet20", {"norm": "none", "init": init})
    for name, parameter in model.model.named_parameters():  # none of the zeros of the start
        parameter += 0.1 * torch.randn_like(parameter) if "weight" in name else 0.5
    assert far(model, formats.to_onnx) == []
    assert far(model, formats.to_torch) == []
