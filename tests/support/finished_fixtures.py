"""Runs that were really trained, once for all tests; to be copied, not to be written to."""

import shutil

import pytest
from finished_runs import SMALL, train, write_photos

from cnnbench.run_store.run import Run


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Grey arrays: the basic CNN, which is right more often than not."""
    return train(tmp_path_factory.mktemp("digits"), "trainer.max_epochs=4", *SMALL)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Colour files of three classes in a folder `photos` beside `outputs`."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "photos", ["ape", "bee", "cow"], 12)
    asked = ["data=imagefolder", f"data.root={folder / 'photos'}", "data.size=16", "data.num_workers=0"]
    return train(folder, *asked, "trainer.max_epochs=2", "data.batch_size=8", *SMALL)


@pytest.fixture
def copied(tmp_path):
    """`copied(run)`: a copy of a run that a test may damage."""

    def copy(run, name="copied"):
        target = tmp_path / "copies" / name
        shutil.copytree(run.path, target)
        return Run(target)

    return copy
