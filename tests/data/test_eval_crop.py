"""`data.eval_crop`: the share of an image file that evaluation keeps, from the folder to a model's use."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from data_support import image_data
from finished_runs import SMALL, train
from folder_support import fingerprint, make
from hydra import compose, initialize_config_dir
from make_files import write_image
from PIL import Image
from sealing import of_before

from cnnbench.data.options import EVAL_CROP
from cnnbench.data.transforms import decode, eval_transform
from cnnbench.errors import InputError
from cnnbench.inference import trained_model
from cnnbench.inference.export.graph import metadata
from cnnbench.run_store.identity import identity
from cnnbench.settings.compose import CONF
from cnnbench.settings.identity import describe, locate
from cnnbench.settings.parse import parse, plain


@pytest.fixture
def icons(tmp_path):
    """24 images of 16 x 16 noise in two classes."""
    for i in range(24):
        path = tmp_path / "icons" / ("sun" if i % 2 else "rain") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "icons"


def folder(root, in_memory=False, **options):
    return image_data("imagefolder", root, in_memory=in_memory, **({"size": 16} | options))


def stored(paths):
    return torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])


def evaluated(data, split="test"):
    return torch.cat([batch[0] for batch in getattr(data, f"{split}_dataloader")()])


# --- what is decided ------------------------------------------------------------------------------


def test_images_of_the_wanted_size_stay_as_they_are(icons):
    files, memory = folder(icons), folder(icons, in_memory=True)
    assert files.preparation.centre == files.facts["data/eval_crop"] == 1
    for split in ("val", "test"):
        expected = stored(getattr(files, split).pixels)
        assert torch.equal(evaluated(files, split), expected)
        assert torch.equal(evaluated(memory, split), expected)
    assert torch.equal(memory.train.pixels, stored(files.train.pixels))


@pytest.mark.parametrize(("place", "size"), [("train", (16, 17)), ("test", (17, 17)), ("test", (8, 8))])
def test_it_is_decided_once_for_the_whole_set(place, size, tmp_path):
    """One image that must be resized, in any part and left out by `data.limit` or not, decides for all."""
    for part in ("train", "test"):
        make(tmp_path / part, count=8, size=(16, 16))
    assert folder(tmp_path).preparation.centre == 1
    write_image(tmp_path / place / "dog/zz.png", (1, 2, 3), size)
    data = folder(tmp_path, limit=8, val_fraction=0.5)
    assert data.preparation.centre == data.facts["data/eval_crop"] == EVAL_CROP
    cut = eval_transform(16, EVAL_CROP)
    assert torch.equal(evaluated(data), torch.stack([cut(decode(path, 16)) for path in data.test.pixels]))


def test_another_size_than_that_of_the_images_is_cut(icons):
    assert folder(icons, size=32).preparation.centre == EVAL_CROP
    assert folder(icons, size=8).preparation.centre == EVAL_CROP


def test_a_given_value(icons):
    data = folder(icons, size=8, eval_crop=0.5)
    assert torch.equal(evaluated(data), stored(data.test.pixels)[:, :, 4:12, 4:12])
    assert folder(icons, eval_crop=EVAL_CROP).preparation.centre == EVAL_CROP


def test_arrays_have_no_such_setting():
    assert "data/eval_crop" not in image_data("digits", "").facts
    with pytest.raises(InputError) as caught:
        image_data("digits", "", eval_crop=0.9)
    assert str(caught.value) == "data.eval_crop=0.9: only image files are cut; allowed for digits: null"


# --- identity -------------------------------------------------------------------------------------


def settings(root, *words):
    asked = ["data=imagefolder", f"data.root={root}", "logger=none", *words]
    with initialize_config_dir(CONF, version_base="1.3"):
        return parse(plain(compose("train", asked)))


def test_a_run_that_keeps_all_is_another_run_than_one_of_before(icons):
    """Before there was this setting, the same settings and images were evaluated on the middle 87.5 %."""
    whole, cut = (describe(settings(icons, f"data.size={size}"), {}) for size in (16, 32))
    assert whole["data"].pop("eval_crop") == 1
    assert "eval_crop" not in cut["data"]
    assert whole["data"]["content"] == cut["data"]["content"] == fingerprint(icons)
    now = locate(settings(icons, "data.size=16"))
    assert not now.path.name.endswith(identity(whole))
    assert locate(settings(icons, "data.size=32")).path.name.endswith(identity(cut))
    assert locate(settings(icons, "data.size=16", "data.eval_crop=1")).path == now.path


def test_a_given_value_is_part_of_the_identity(icons):
    found = {locate(settings(icons, "data.size=16", f"data.eval_crop={v}")).path for v in (0.5, 0.875, 1)}
    assert len(found) == 3


@pytest.mark.parametrize("value", ["0", "1.1", "-1", "nan", "true", "'0.9'"])
def test_values_out_of_range(value, icons):
    with pytest.raises(InputError, match=r"^data\.eval_crop="):
        settings(icons, f"data.eval_crop={value}")


# --- use of a run ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "kept"), [([], 1.0), (["data.eval_crop=0.75"], 0.75)])
def test_a_model_is_used_as_it_was_trained(words, kept, icons, tmp_path, cli):
    asked = ["data=imagefolder", f"data.root={icons}", "data.size=16", "data.num_workers=0", *words]
    run = train(tmp_path, *asked, "trainer.max_epochs=1", "data.batch_size=8", *SMALL)
    assert run.summary()["data/eval_crop"] == kept
    saved = torch.load(run.checkpoints / "best.ckpt", weights_only=True)
    assert saved["ImageData"]["centre"] == kept
    model = trained_model.load(run)
    paths = sorted(icons.rglob("*.png"))
    whole = torch.stack([model.preparation.open(path) for path in paths])
    assert torch.equal(whole, torch.stack([eval_transform(16, kept)(image) for image in stored(paths)]))
    code, out, err = cli("evaluate", run.path, "--json", "-")
    assert code == 0, err
    assert json.loads(out)["training"]["same"] is True
    code, out, _ = cli("predict", run.path, "--json", "-", *paths[:3])
    assert code == 0
    expected = model.logits(whole[:3]).softmax(1).max(1).values.tolist()
    found = [item["guesses"][0]["probability"] for item in json.loads(out)["images"]]
    assert found == pytest.approx(expected, abs=1e-4)
    about = metadata(model, "pixels")["resize"]  # of an exported file
    assert f"the shorter side resized to {round(16 / kept)}, " in about


def test_a_model_of_before_keeps_its_cut(icons, tmp_path):
    """Also where its checkpoint does not say so, and its images would be kept whole now."""
    asked = ["data=imagefolder", f"data.root={icons}", "data.size=16", "data.num_workers=0"]
    run = train(tmp_path, *asked, "trainer.max_epochs=1", "data.batch_size=8", *SMALL)
    path = run.checkpoints / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["ImageData"]["centre"] = EVAL_CROP  # as it was written then
    torch.save(saved, path)
    assert trained_model.load(of_before(run)).preparation.centre == EVAL_CROP
    del saved["ImageData"]
    torch.save(saved, path)
    assert trained_model.load(of_before(run)).preparation.centre == EVAL_CROP
