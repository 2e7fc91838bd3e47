"""Data sets are read in their published formats; errors in their files are reported in one line."""

from __future__ import annotations

import gzip
import pickle
import re
import time
from pathlib import Path

import make_files
import numpy as np
import pytest
import torch
from data_support import check, cut, refusal
from make_files import MAKERS
from torchvision import datasets as tv

from cnnbench.data import datasets
from cnnbench.data.datasets import DATASETS, load
from cnnbench.errors import InputError

pytestmark = pytest.mark.usefixtures("no_debian")

DOWNLOADED = sorted(set(MAKERS) - {"imagefolder"})
IN_MEMORY = ["mnist", "fashion_mnist", "kmnist", "emnist", "cifar10", "cifar100", "svhn", "stl10"]


def test_every_row_is_tested():
    """One that a user adds may do without a maker of its files; `test_a_row_is_complete` looks at it, too."""
    shipped = {"cifar10", "cifar100", "emnist", "fashion_mnist", "flowers102", "imagefolder", "imagenette",
               "kmnist", "mnist", "pets", "stl10", "svhn"}  # fmt: skip
    assert shipped <= set(MAKERS)
    assert {*shipped, "digits", "synthetic"} <= set(DATASETS)
    choices = {path.stem for path in Path(__file__).parents[2].glob("conf/data/*.yaml")}
    assert choices == {*DATASETS}


@pytest.mark.parametrize("name", DATASETS)
def test_a_row_is_complete(name):
    row = DATASETS[name]
    assert len(row.mean) == len(row.std) in (1, 3)
    assert all(0 <= mean <= 1 and 0 < std <= 1 for mean, std in zip(row.mean, row.std, strict=True))
    assert row.size is None or row.size >= 4
    assert row.classes is None or row.classes >= 2


@pytest.mark.parametrize("name", MAKERS)
def test_reads_the_published_format(name, tmp_path, monkeypatch):
    made = MAKERS[name](tmp_path, monkeypatch)
    splits = load(name, tmp_path)
    check(splits, made)
    assert isinstance(splits[next(iter(splits))].pixels, torch.Tensor) == (name in IN_MEMORY)
    row = DATASETS[name]
    channels = made.splits[next(iter(splits))][0].shape[1]
    assert len(row.mean) == len(row.std) == channels
    assert not list(tmp_path.glob(".*")), "reading leaves nothing behind"


def test_emnist_is_turned_upright(tmp_path, monkeypatch):
    made = MAKERS["emnist"](tmp_path)
    stored = (tmp_path / "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte").read_bytes()[16:]
    pixels = load("emnist", tmp_path)["train"].pixels
    first = np.frombuffer(stored, np.uint8)[: 28 * 28].reshape(28, 28)
    np.testing.assert_array_equal(pixels[0, 0].numpy(), first.T)
    assert len(made.classes) == 47


def test_official_val_of_flowers_is_training_data(tmp_path, monkeypatch):
    MAKERS["flowers102"](tmp_path, monkeypatch)
    splits = load("flowers102", tmp_path)
    assert [len(splits[split].labels) for split in ("train", "test")] == [14, 10]


def test_digits_are_embedded():
    from sklearn.datasets import load_digits

    digits = load("digits", Path("/nonexistent"))["all"]
    assert digits.pixels.shape == (1797, 1, 8, 8)
    assert digits.classes == [str(i) for i in range(10)]
    np.testing.assert_array_equal(digits.labels, load_digits().target)
    expected = torch.from_numpy(load_digits().images)[:, None] / 16 * 255
    assert (digits.pixels - expected).abs().max() <= 0.5
    for value, measured in (
        (DATASETS["digits"].mean, expected.mean()),
        (DATASETS["digits"].std, expected.std()),
    ):
        assert value[0] == pytest.approx(float(measured) / 255, abs=1e-3)


def test_unknown_name(tmp_path):
    with pytest.raises(InputError, match=r"data\.name=cifar11: no such data set; .*cifar10, "):
        load("cifar11", tmp_path)


# --- Fashion-MNIST from Debian's package --------------------------------------------------------


def test_debian_package_is_found(tmp_path):
    made = make_files.debian(tmp_path / "debian")
    check(load("fashion_mnist", tmp_path / "root"), made)
    assert not (tmp_path / "root").exists()


def test_debian_package_serves_after_a_download_that_failed(tmp_path):
    """torchvision creates its folder before the download fails."""
    refusal("fashion_mnist", tmp_path / "root")
    (tmp_path / "root/FashionMNIST/raw").mkdir(parents=True)
    made = make_files.debian(tmp_path / "debian")
    check(load("fashion_mnist", tmp_path / "root"), made)


def test_own_files_come_before_debian_s(tmp_path):
    make_files.debian(tmp_path / "debian")
    made = MAKERS["fashion_mnist"](tmp_path / "root")
    check(load("fashion_mnist", tmp_path / "root"), made)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no gzip",
        gzip.compress(make_files.idx(make_files.noise(60, 28, 28)))[:5000],
        gzip.compress(make_files.idx(make_files.noise(60, 28, 28))[:-1]),
        gzip.compress(b"ab"),
        gzip.compress(bytes(200))[:10] + b"not deflated",
    ],
    ids=["empty", "no gzip", "truncated", "a byte short", "no header", "not deflated"],
)
def test_broken_file_of_debian_s_package(broken, tmp_path):
    make_files.debian(tmp_path / "debian")
    (tmp_path / "debian/train-images-idx3-ubyte.gz").write_bytes(broken)
    assert "debian/train-images-idx3-ubyte.gz" in refusal("fashion_mnist", tmp_path)


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="Debian's dataset-fashion-mnist is not here",
)
def test_real_debian_package(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", Path("/usr/share/datasets/fashion-mnist"))
    splits = load("fashion_mnist", tmp_path)
    assert [images.pixels.shape for images in splits.values()] == [(60000, 1, 28, 28), (10000, 1, 28, 28)]
    for images in splits.values():
        assert len(set(np.bincount(images.labels))) == 1
    pixels = splits["train"].pixels.float() / 255
    assert float(pixels.mean()) == pytest.approx(DATASETS["fashion_mnist"].mean[0], abs=1e-4)
    assert float(pixels.std()) == pytest.approx(DATASETS["fashion_mnist"].std[0], abs=1e-4)


# --- missing, no internet -----------------------------------------------------------------------


@pytest.mark.parametrize("name", DOWNLOADED)
def test_missing_without_internet(name, tmp_path):
    root = tmp_path / "not" / "there"
    start = time.perf_counter()
    message = refusal(name, root)
    assert time.perf_counter() - start < 5
    assert f"data={name}: not in data.root" in message
    assert "cannot be downloaded" in message
    assert "no internet in tests" in message
    assert f"expected {root}/{DATASETS[name].files}" in message
    assert not list(root.rglob("*.lock"))


@pytest.mark.parametrize("name", DOWNLOADED)
def test_expected_files_are_those_that_are_read(name, tmp_path, monkeypatch):
    """The message names the files that the maker writes; {a,b} and {1..5} are expanded as in a shell."""
    MAKERS[name](tmp_path, monkeypatch)
    for pattern in expand(DATASETS[name].files.replace("<class>", "*")):
        assert list(tmp_path.glob(pattern)), pattern


def expand(text: str) -> list[str]:
    """Expand `a{b1..2,c{d,e}}` to [ab1, ab2, acd, ace]."""
    if span := re.search(r"(\w+)1\.\.(\d)", text):
        several = ",".join(f"{span[1]}{i}" for i in range(1, int(span[2]) + 1))
        return expand(text.replace(span[0], several))
    if not (braces := re.search(r"\{([^{}]*)\}", text)):
        return [text]
    return [path for choice in braces[1].split(",") for path in expand(text.replace(braces[0], choice, 1))]


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be downloaded" in refusal("mnist", tmp_path / "file")


def test_one_file_missing(tmp_path):
    MAKERS["mnist"](tmp_path)
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    assert "cannot be downloaded" in refusal("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "emnist"])
@pytest.mark.parametrize("keep", [0, 3, 10, 5000])
def test_truncated_idx(name, keep, tmp_path):
    MAKERS[name](tmp_path)
    for path in tmp_path.rglob("*train*images*"):
        cut(path, keep)
    message = refusal(name, tmp_path)
    assert "cannot be read" in message
    assert "delete them" in message


def test_more_labels_than_images(tmp_path):
    MAKERS["mnist"](tmp_path)
    make_files.write(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", make_files.idx(np.zeros(31, np.uint8)))
    assert "holds 30 test images with 31 labels" in refusal("mnist", tmp_path)


def test_no_images(tmp_path):
    MAKERS["mnist"](tmp_path)
    for kind, shape in (("images-idx3", (0, 28, 28)), ("labels-idx1", (0,))):
        path = tmp_path / f"MNIST/raw/train-{kind}-ubyte"
        path.write_bytes(make_files.idx(np.zeros(shape, np.uint8)))
    refusal("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"), [("cifar10", "data_batch_3"), ("cifar100", "test"), ("cifar10", "test_batch")]
)
def test_cifar_that_is_not_what_its_checksum_says(name, file, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    cut(next(tmp_path.rglob(file)))
    assert "or not intact, and cannot be downloaded" in refusal(name, tmp_path)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", None, pickle.dumps({"what": 1}), pickle.dumps([1])],
    ids=["empty", "garbage", "truncated", "other keys", "a list"],
)
def test_cifar_that_cannot_be_read(file, content, tmp_path, monkeypatch):
    MAKERS["cifar10"](tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / file
    cut(path) if content is None else path.write_bytes(content)
    make_files.cifar_checksums(tv.CIFAR10, tmp_path, monkeypatch)
    assert "cannot be read" in refusal("cifar10", tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None], ids=["empty", "garbage", "truncated"])
def test_broken_mat_files(content, tmp_path, monkeypatch):
    for name, file, checksums in (
        ("svhn", "test_32x32.mat", make_files.svhn_checksums),
        ("flowers102", "flowers-102/setid.mat", make_files.flowers_checksums),
    ):
        root = tmp_path / name
        MAKERS[name](root, monkeypatch)
        cut(root / file) if content is None else (root / file).write_bytes(content)
        assert "or not intact, and cannot be downloaded" in refusal(name, root)
        checksums(root, monkeypatch)
        assert "cannot be read" in refusal(name, root)


def test_broken_stl10(tmp_path, monkeypatch):
    MAKERS["stl10"](tmp_path, monkeypatch)
    (tmp_path / "stl10_binary/class_names.txt").rename(tmp_path / "away")
    assert "cannot be read" in refusal("stl10", tmp_path)
    (tmp_path / "away").rename(tmp_path / "stl10_binary/class_names.txt")
    cut(tmp_path / "stl10_binary/test_X.bin", 5000)
    assert "or not intact, and cannot be downloaded" in refusal("stl10", tmp_path)
    make_files.stl10_checksums(tmp_path, monkeypatch)
    assert "cannot be read" in refusal("stl10", tmp_path)


@pytest.mark.parametrize("name", ["imagenette", "flowers102", "pets"])
def test_broken_and_missing_images_are_named_and_counted(name, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    images = sorted(path for path in tmp_path.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    cut(images[0])
    images[1].write_bytes(b"")
    images[2].write_text("<html>404</html>")
    with pytest.raises(InputError) as caught:
        load(name, tmp_path)
    assert f" 3 of {len(images)} files cannot be read as images: " in str(caught.value)
    assert re.search(rf"{images[0].name} \([^)]*[Tt]runcated", str(caught.value))
    assert f"{images[1].name} (empty file)" in str(caught.value)
    assert f"{images[2].name} (not an image)" in str(caught.value)
    if name != "imagenette":  # which has no list of its files
        images[3].unlink()
        with pytest.raises(InputError, match=rf"4 of .*{images[3].name} \(No such file or directory\)"):
            load(name, tmp_path)


def test_broken_imagenette_folders(tmp_path):
    MAKERS["imagenette"](tmp_path)
    val = tmp_path / "imagenette2-160/val"
    (val / "n02979186").rename(tmp_path / "away")
    message = refusal("imagenette", tmp_path)  # or all later labels would be wrong
    assert "test images of 9 classes" in message
    val.rename(tmp_path / "too")
    assert "cannot be read" in refusal("imagenette", tmp_path)


def test_broken_lists_of_pets(tmp_path):
    MAKERS["pets"](tmp_path)
    path = tmp_path / "oxford-iiit-pet/annotations/test.txt"
    path.write_text(path.read_text() + "Abyssinian_1 1\n")
    assert "cannot be read" in refusal("pets", tmp_path)
    path.unlink()
    assert "test.txt" in refusal("pets", tmp_path)


def test_labels_out_of_range(tmp_path, monkeypatch):
    def change(path, old, new, header=0):
        data = path.read_bytes()
        path.write_bytes(data[:header] + data[header:].replace(bytes([old]), bytes([new])))

    for name, file, most in (
        ("mnist", "MNIST/raw/train-labels-idx1-ubyte", 9),
        ("fashion_mnist", "FashionMNIST/raw/train-labels-idx1-ubyte", 9),
        ("kmnist", "KMNIST/raw/train-labels-idx1-ubyte", 9),
        ("emnist", "EMNIST/raw/emnist-balanced-train-labels-idx1-ubyte", 46),
    ):
        MAKERS[name](tmp_path)
        load(name, tmp_path)
        change(tmp_path / file, most, most + 1, header=8)
        expected = f"train labels from 0 to {most + 1}; allowed: 0 to {most}"
        assert expected in refusal(name, tmp_path)

    MAKERS["stl10"](tmp_path, monkeypatch)
    change(tmp_path / "stl10_binary/test_y.bin", 1, 0)  # labels in its files start at 1
    make_files.stl10_checksums(tmp_path, monkeypatch)
    assert "to 255; allowed: 0 to 9" in refusal("stl10", tmp_path)

    MAKERS["cifar10"](tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    entry = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(entry | {"labels": [-1, *entry["labels"][1:]]}))
    make_files.cifar_checksums(tv.CIFAR10, tmp_path, monkeypatch)
    assert "test labels from -1 to 9; allowed: 0 to 9" in refusal("cifar10", tmp_path)


# --- synthetic ----------------------------------------------------------------------------------


def test_synthetic():
    splits = datasets.synthetic(8, 3, 30, 6, seed=1)
    assert splits["train"].pixels.shape == (30, 3, 8, 8)
    assert np.bincount(splits["train"].labels).tolist() == [10, 10, 10]
    assert np.bincount(splits["test"].labels).tolist() == [2, 2, 2]
    again, other = datasets.synthetic(8, 3, 30, 6, seed=1), datasets.synthetic(8, 3, 30, 6, seed=2)
    assert torch.equal(splits["test"].pixels, again["test"].pixels)
    assert not torch.equal(splits["test"].pixels, other["test"].pixels)
    # A class is a pattern: its images are nearer to the mean of their class than to that of another
    train, test = splits["train"], splits["test"]
    means = torch.stack([train.pixels[torch.from_numpy(train.labels == k)].float().mean(0) for k in range(3)])
    nearest = (test.pixels[:, None].float() - means).pow(2).mean((2, 3, 4)).argmin(1)
    assert nearest.tolist() == test.labels.tolist()
