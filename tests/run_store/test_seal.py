"""Seals: any damaged byte of a checkpoint is noticed, whoever wrote it."""

import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search import examples

from cnnbench.run_store.seal import LENGTH, Damaged, verify
from cnnbench.training.checkpoints import read_checkpoint, write_checkpoint

CONTENT = {
    "state_dict": {
        "weight": torch.arange(3000.0).reshape(30, 100),
        "bias": torch.ones(7, dtype=torch.float64),
    },
    "rows": [{"epoch": 0, "val/acc": 0.5}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A sealed checkpoint, and one as torch writes it."""
    folder = tmp_path_factory.mktemp("seals")
    write_checkpoint(CONTENT, folder / "sealed")
    torch.save(CONTENT, folder / "plain")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(content):
    tensors = CONTENT["state_dict"]
    return content["rows"] == CONTENT["rows"] and all(
        torch.equal(content["state_dict"][key], tensors[key]) for key in tensors
    )


def test_a_sealed_checkpoint_is_read_by_torch_and_by_zip_tools(files, tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(files["sealed"])
    assert verify(path)
    assert same(read_checkpoint(path))
    assert same(read_checkpoint(path, lazily=True))
    assert same(torch.load(path, weights_only=True))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.comment) == LENGTH
        assert archive.testzip() is None


@examples(150)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_of_a_sealed_checkpoint_is_noticed(files, tmp_path_factory, position, bit):
    content = bytearray(files["sealed"])
    content[int(position * len(content))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.ckpt"
    path.write_bytes(content)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever: it is not read
        read_checkpoint(path)
    assert isinstance(caught.value, Damaged) or int(position * len(content)) < 2, "no archive any more"


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("count", [1, 2, 22, LENGTH, LENGTH + 1, 1000])
def test_a_checkpoint_that_was_cut_or_has_zeros_is_noticed(files, tmp_path, where, count):
    path, content = tmp_path / "a.ckpt", files["sealed"]
    path.write_bytes(content[:-count] if where == "last" else bytes(count) + content[count:])
    with pytest.raises(Exception):  # noqa: B017, PT011
        read_checkpoint(path)


@examples(150)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_foreign_checkpoint_changes_no_number(files, tmp_path_factory, position, bit):
    """It has no seal, but CRCs of its contents; some bits, such as those of a date, mean nothing."""
    content = bytearray(files["plain"])
    content[int(position * len(content))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "foreign.pth"
    path.write_bytes(content)
    try:
        read = read_checkpoint(path)
    except Exception:
        return
    assert same(read)


def test_an_archive_that_expands_to_many_times_its_size_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(Damaged, match="expands"):
        verify(path)


def test_what_has_neither_checksum_nor_crc_cannot_be_checked(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    assert not verify(path)
    assert same(read_checkpoint(path))
