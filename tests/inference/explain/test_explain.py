"""`cnnbench explain`: what it writes, for whom, and what it refuses."""

import base64
import re
from pathlib import Path

import pytest
import torch
from finished_runs import train
from PIL import Image
from sealing import of_before

from cnnbench.inference import trained_model

pytest.importorskip("captum")
pytest_plugins = ["finished_fixtures"]

LAYERS = ["features.block1.2", "features.block2.2"]
ALL = ["filters", "maps-1", "maps-2", "gradcam", *(f"top-{name}" for name in LAYERS), "mistakes"]


def explained(cli, *arguments):
    code, out, err = cli("explain", *arguments)
    assert code == 0, err
    files = [Path(line.split("  ")[0]) for line in out.splitlines()]
    for file in files:
        with Image.open(file) as image:
            assert len(image.convert("RGB").getcolors(2**24)) > 3, f"{file} is empty"
    return files


def test_pictures_lie_in_the_folder_of_the_run_and_on_one_page(digits, copied, cli):
    run = copied(digits)
    files = explained(cli, run.path, "--html", "page.html")
    assert [file.stem for file in files] == ALL
    assert {file.parent for file in files} == {run.path / "explain"}
    page = Path("page.html").read_text()
    drawn = re.findall(r"data:image/png;base64,([\w+/=]+)", page)
    assert [base64.b64decode(text) for text in drawn] == [file.read_bytes() for file in files]
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/\d+/\w+", "", page)
    assert cli("verify", run.path)[0] == 0


def test_one_layer_and_some_filters_of_a_file(photos, cli):
    image = next(Path(photos.config()["data"]["root"]).glob("*/*.png"))
    asked = ["--image", image, "--layer", "features.block1.0", "--output", "made/here"]
    files = explained(cli, photos.path, *asked, "--filters", "2,0")
    assert [file.name for file in files] == [
        *("filters.png", "maps.png", "gradcam.png", "top-features.block1.0.png"),
    ]
    assert files[0].parent == Path("made/here")
    assert [file.stem for file in explained(cli, photos.path, *asked, "--only", "gradcam,maps")] == [
        *("maps", "gradcam"),
    ]


def test_runs_side_by_side(digits, copied, cli):
    """A folder of runs; the same images, a row for each run."""
    copied(digits, "one"), copied(digits, "two")
    files = explained(cli, Path("copies"))
    assert [file.name for file in files] == ["filters.png", "maps.png", "gradcam.png"]
    assert files[0].parent.resolve() == Path("copies/explain").resolve()
    with Image.open(files[2]) as image, Image.open(files[0]) as filters:
        assert image.height > 1.3 * filters.height, "the images, and a row for each run"


@pytest.mark.slow
def test_an_mlp_has_filters_and_mistakes_alone(cli, tmp_path):
    run = train(tmp_path, "arch=mlp", "trainer.max_epochs=1", "logger=none")
    code, out, _ = cli("explain", run.path, "--html", "-")
    assert code == 0
    assert "mlp has no feature maps: no maps, Grad-CAM or top images" in out
    assert {file.stem for file in (run.path / "explain").iterdir()} == {"filters", "mistakes"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "features.block1.9"], "--layer features.block1.9: no map, or several; did"),
        (["--layer", "head.3"], "--layer head.3: no map"),
        (["--image", "broken.png"], "--image broken.png: not an image; allowed: image files"),
        (["--image", "nowhere.png"], "--image nowhere.png: No such file or directory"),
        (["--only", "filtres"], "--only filtres: no such kind of picture; did you mean filters?"),
        (["--filters", "900"], "--filters 900: features.block1.2 has 8; allowed: 0 to 7"),
        (["--filters", "a"], "--filters a: allowed: numbers from 0"),
        (["--output", "broken.png"], "broken.png is not a folder"),
        (["--output", ""], "--output: the name is empty"),
        (["--html", "nowhere/x.html"], "--html nowhere/x.html: its folder does not exist"),
        (["--mode", "online"], "--mode: allowed with --wandb only"),
        (["data.limit_test=0"], "data.limit_test=0"),
        (["device=gpu"], "device.accelerator=gpu: not available here"),
        (["nowhere"], "nowhere: no such folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(digits, cli, arguments, message):
    if arguments == ["device=gpu"] and torch.cuda.is_available():
        pytest.skip("there is one")
    Path("broken.png").write_text("no image")
    output = [] if "--output" in arguments else ["--output", "made"]
    code, out, err = cli("explain", digits.path, *arguments, *output)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert message in line
    assert [path.name for path in Path().iterdir()] == ["broken.png"]


def test_a_run_that_cannot_be_explained(digits, photos, copied, cli):
    lost = copied(digits, "lost")
    (lost.checkpoints / "best.ckpt").unlink()
    unfinished = of_before(copied(digits, "unfinished"))
    unfinished.write_status(unfinished.status() | {"state": "interrupted"})
    linked = copied(digits, "linked")
    (linked.path / "explain").symlink_to(Path.cwd())
    for words, message in (
        ([lost.path], "best.ckpt"),
        ([unfinished.path], "allowed: a finished run"),
        ([linked.path], "is a link, and would be followed; allowed: --output FOLDER"),
        ([digits.path, photos.path, "--output", "x"], "has other classes than"),
        ([digits.path, copied(digits, "b").path, "--layer", "x"], "--layer x: allowed with one run"),
        ([digits.path, Path("copies/b"), "--only", "mistakes"], "of one run alone"),
    ):
        code, out, err = cli("explain", *words)
        assert (code, out) == (2, ""), words
        (line,) = [line for line in err.splitlines() if line.strip()]
        assert message in line
        assert not Path("x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "arch=alexnet", "arch=vgg11 arch.width=0.25", "arch=googlenet arch.width=0.25",
        "arch=resnet18 arch.width=0.25", "arch=efficientnet_b0 arch.width=0.25",
        "arch=mobilenet_v2 arch.width=0.25", "arch=resnet20 ops.norm=group", "arch=resnet20 data=digits",
        "arch=torchvision arch.name=resnet18", "arch=timm arch.name=test_resnet",
        "arch=basic ops.act=silu ops.pool=none",
    ],
)  # fmt: skip
def test_every_family(cli, tmp_path, words):
    """Pictures of all kinds, and of each stage's filters."""
    words = words.split()
    data = [] if any(word.startswith("data=") for word in words) else ["data=synthetic", "data.size=32"]
    few = ["data.limit=200", "data.limit_test=40", "trainer.max_epochs=1", "logger=none"]
    run = train(tmp_path, *words, *data, *few)
    names = [file.stem for file in explained(cli, run.path, "--html", "page.html")]
    trained = trained_model.load(run)
    assert {"filters", "maps-1", "gradcam"} <= {*names}
    assert len([name for name in names if name.startswith("top-")]) >= 2 or "pool=none" in words[-1]
    assert not [module for module in trained.model.modules() if module._forward_hooks]


@pytest.mark.slow
def test_wandb_gets_the_pictures(digits, copied, cli, monkeypatch, tmp_path):
    import wandb_file
    from wandb_logged import folder_of

    run = copied(digits)
    code, _, err = cli("explain", run.path, "--wandb", "--output", "made")
    assert code == 0
    assert err.splitlines()[-1] == "logged: copies/wandb; cnnbench sync copies uploads it"
    logged = wandb_file.read(folder_of(Path("copies")))
    assert (logged.group, logged.job_type, logged.exit_code) == ("copies", "explain", 0)
    assert {*(f"explain/{name}" for name in ALL), "page"} <= logged.summary.keys()
    assert logged.config["runs"] == [run.path.name]
    from cnnbench.wandb_sync.search import search

    assert [log.id.partition("-")[0] for log in search([Path("copies")], []).logs] == ["explain"]
