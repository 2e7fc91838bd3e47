"""Image folders: their parts and classes, which files count as images, and what is left out."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from folder_support import GREY, checked, equals, make, names, refusal, rgb
from make_files import write, write_image
from PIL import Image
from running import the_run

from cnnbench.data.folder_scan import scan
from cnnbench.run_store.run import Run

# --- the files of a folder ----------------------------------------------------------------------


def test_class_folders(tmp_path):
    make(tmp_path, count=2)
    splits = scan(tmp_path)
    assert list(splits) == ["all"]
    assert splits["all"].classes == ["cat", "dog"]
    assert splits["all"].labels == [0, 0, 1, 1]
    assert names(tmp_path, splits["all"]) == ["cat/000.png", "cat/001.png", "dog/002.png", "dog/003.png"]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train"], {"all": "train"}),
        (["train", "test"], {"train": "train", "test": "test"}),
        (["train", "val"], {"train": "train", "test": "val"}),
        (["train", "val", "test"], {"train": "train", "val": "val", "test": "test"}),
    ],
)
def test_splits(folders, expected, tmp_path):
    for name in folders:
        make(tmp_path / name)
    splits = scan(tmp_path)
    assert {split: files.paths[0].parent.parent.name for split, files in splits.items()} == expected
    assert all(files.labels == [0, 0, 0, 1, 1, 1] for files in splits.values())


def test_labels_of_a_split_without_some_classes(tmp_path):
    make(tmp_path / "train", ["ant", "bee", "cat", "dog"])
    make(tmp_path / "test", ["bee", "dog"])
    (tmp_path / "test/ant").mkdir()
    test = scan(tmp_path)["test"]
    assert test.labels == [1, 1, 1, 3, 3, 3]
    assert test.classes == ["ant", "bee", "cat", "dog"]


def test_what_counts_as_an_image(tmp_path):
    make(tmp_path, count=1)
    for name in ("UPPER.JPG", "a.b.Jpeg", "deep/er/x.webp", "deep/y.tiff", "spaß ☃.bmp"):
        write_image(tmp_path / "cat" / name, GREY)
    for name in (".hidden.png", "._mac.jpg", ".ipynb_checkpoints/z.png", "deep/.thumbnails/t.png"):
        write_image(tmp_path / "cat" / name, GREY)
    write_image(tmp_path / ".git/x.png", GREY)
    write_image(tmp_path / "flat.png", GREY)
    write(tmp_path / "cat/notes.txt", b"no image")
    write(tmp_path / "cat/png", b"no suffix")
    (tmp_path / "no images").mkdir()
    files = scan(tmp_path)["all"]
    assert files.classes == ["cat", "dog"]
    expected = ["000.png", "UPPER.JPG", "a.b.Jpeg", "deep/er/x.webp", "deep/y.tiff", "spaß ☃.bmp"]
    assert names(tmp_path, files) == [f"cat/{name}" for name in expected] + ["dog/001.png"]
    checked(tmp_path, files.paths)


def test_links(tmp_path):
    make(tmp_path / "store")
    (tmp_path / "few").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "few" / name).symlink_to(tmp_path / "store" / name)
    assert len(scan(tmp_path / "few")["all"].paths) == 6


def test_no_such_folder(tmp_path):
    for root in (tmp_path / "gone", write(tmp_path / "file", b"")):
        assert refusal(scan, root) == f"data.root={root}: no such folder; expected {root}/<class>/<image>"


def test_no_images(tmp_path):
    assert "no images; expected" in refusal(scan, tmp_path)
    write_image(tmp_path / "flat.png", GREY)
    write(tmp_path / "cat/notes.txt", b"")
    message = refusal(scan, tmp_path)
    assert f"no images; expected {tmp_path}/<class>/<image>, an image ending in .avif .bmp .gif" in message
    make(tmp_path / "train")
    (tmp_path / "test").mkdir()
    assert f"data.root={tmp_path}/test: no images" in refusal(scan, tmp_path)


def test_one_class(tmp_path):
    make(tmp_path, ["cat"])
    (tmp_path / "dog").mkdir()
    assert "one class only (cat); expected two or more" in refusal(scan, tmp_path)


def test_classes_that_training_never_sees(tmp_path):
    make(tmp_path / "train")
    make(tmp_path / "val", ["dog", "cow"])
    assert refusal(scan, tmp_path).endswith("classes that the training folder does not have: cow")
    make(tmp_path / "val", [f"x{i:02}" for i in range(20)], count=1)
    assert refusal(scan, tmp_path).endswith("x00, x01, x02, x03, x04, x05, x06 and 13 more")


# --- parts, and what is left out ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["Training", "Testing"], {"train": "Training", "test": "Testing"}),
        (["TRAIN", "valid"], {"train": "TRAIN", "test": "valid"}),
        (["train", "Validation", "test"], {"train": "train", "val": "Validation", "test": "test"}),
        (["Train", "Val", "Testing"], {"train": "Train", "val": "Val", "test": "Testing"}),
        (["training"], {"all": "training"}),
    ],
)
def test_usual_names_of_parts(folders, expected, tmp_path):
    for name in folders:
        make(tmp_path / name)
    found = {part: files.paths[0].parent.parent.name for part, files in scan(tmp_path).items()}
    assert found == expected


def test_a_class_may_be_named_like_a_part(tmp_path):
    make(tmp_path, ["boat", "car", "train"])
    assert scan(tmp_path)["all"].classes == ["boat", "car", "train"]
    (tmp_path / "test").mkdir()  # without images
    files = scan(tmp_path)["all"]
    assert files.classes == ["boat", "car", "train"]
    assert files.left_out == {"folders without images (test)": 1}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train/cat", "train/dog", "boat"], "may be parts of a data set (train) or classes (boat)"),
        (["train/cat", "train/dog", "Training/cat"], "both Training and train may be train; allowed: one"),
        (["train/cat", "train/dog", "val/cat", "valid/cat"], "both val and valid may be val; allowed: one"),
        (["test/cat", "test/dog"], "has test, but no train; allowed: train, or class folders"),
        (["test", "val"], "has test, val, but no train"),
        (["train", "test"], "train: no images; expected"),
        (
            ["cat/train", "cat/test", "dog/train"],
            "parts inside of a class (cat/test, cat/train) would be mixed",
        ),
    ],
)
def test_what_may_be_meant_in_two_ways_is_refused(folders, expected, tmp_path):
    for name in folders:
        write_image(tmp_path / name / "x.png", GREY)
    assert expected in refusal(scan, tmp_path)


def test_a_subfolder_of_a_class_may_be_named_like_a_part(tmp_path):
    for name in ("cat/train", "dog/testing", "dog/valid"):
        write_image(tmp_path / name / "x.png", GREY)
    assert scan(tmp_path)["all"].labels == [0, 1, 1]


def test_images_beside_the_parts_are_counted(tmp_path):
    make(tmp_path / "train")
    make(tmp_path / "test")
    for name in ("a.png", "train/b.png", "test/c.png"):
        write_image(tmp_path / name, GREY)
    left_out = {part: dict(files.left_out) for part, files in scan(tmp_path).items()}
    assert left_out == {
        "train": {"images beside the class folders": 1, "images beside the parts": 1},
        "test": {"images beside the class folders": 1},
    }


def test_what_is_left_out_is_counted(tmp_path):
    make(tmp_path, count=1)
    for name in ("cat/a.txt", "cat/b.TXT", "dog/deep/c.heic", "dog/LICENSE", "bird/d.txt"):
        write(tmp_path / name, b"")
    write_image(tmp_path / "beside.png", GREY)
    assert scan(tmp_path)["all"].left_out == {
        "files ending in .txt": 3,
        "files ending in .heic": 1,
        "files without ending": 1,
        "folders without images (bird)": 1,
        "images beside the class folders": 1,
    }


def test_links_inside_a_class_are_followed(tmp_path):
    make(tmp_path / "store", count=4)
    make(tmp_path / "root", count=1)
    (tmp_path / "root/cat/more").symlink_to(tmp_path / "store/cat")
    (tmp_path / "root/cat/one.png").symlink_to(tmp_path / "store/cat/000.png")
    (tmp_path / "root/dog/back").symlink_to(tmp_path / "root/dog")
    (tmp_path / "root/dog/above").symlink_to(tmp_path / "root")
    counts = scan(tmp_path / "root")["all"].labels
    assert counts.count(0) == 1 + 4 + 1
    assert 1 <= counts.count(1) < 10  # a link upwards leads to each folder once


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".avif", ".pnm", ".pbm"])
def test_further_endings(suffix, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / f"x{suffix}"
        Image.new("RGB", (20, 10), GREY).save(path, format={".jfif": "JPEG", ".jpe": "JPEG"}.get(suffix))
    paths = scan(tmp_path)["all"].paths
    assert len(paths) == 2
    checked(tmp_path, paths)
    assert np.abs(np.asarray(rgb(paths[0], 20)).astype(int) - 90).max() <= 3


def test_equal_images(tmp_path, cli):
    make(tmp_path / "Train", count=6)
    make(tmp_path / "Test", count=4)
    for name in ("Train/dog/copy.png", "Test/cat/copy.png", "Test/cat/copy2.png"):
        shutil.copy(tmp_path / "Train/cat/000.png", tmp_path / name)
    for name in ("Train/cat/a.txt", "Test/dog/b.txt"):
        write(tmp_path / name, b"")
    (group,) = equals(tmp_path)
    expected = {"Train/cat/000.png", "Train/dog/copy.png", "Test/cat/copy.png", "Test/cat/copy2.png"}
    assert {path.relative_to(tmp_path).as_posix() for path in group} == expected
    assert equals(tmp_path) == [group]  # from the cache
    settings = ["data=imagefolder", f"data.root={tmp_path}", "data.size=16", "data.num_workers=0"]
    code, _, err = cli("train", *settings, "trainer.max_epochs=1", "logger=none", "data.val_fraction=0.2")
    assert code == 0
    line = next(line for line in err.splitlines() if "cat 5 train" in line or "cat 4 train" in line)
    assert "+ 6 test, dog " in line
    assert "equal images in several classes: 1, such as Train/cat/000.png = Train/dog/copy.png" in err
    facts = Run(the_run()).summary()
    assert facts["data/images"].count(" train + ") == 2
    assert facts["data/left_out"] == "files ending in .txt: 2"
    doubled = facts["data/doubled"]
    if "cat/000.png" not in doubled.partition("too: ")[2]:  # the one in train was drawn for val
        assert "Train/dog/copy.png" in doubled
    assert "images of test that stand in train, too: 2, such as " in doubled


def test_a_folder_without_equal_images(tmp_path):
    make(tmp_path)
    assert equals(tmp_path) == []
