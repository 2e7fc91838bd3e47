"""Images that are damaged, replaced or too large, and data workers that die, through the verbs."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from finished_runs import SMALL, write_photos
from hypothesis import given
from hypothesis import strategies as st
from image_bytes import damaged
from PIL import Image
from running import epochs, the_run
from sealing import configure
from search import examples

pytest_plugins = ["finished_fixtures"]

ENDLESS = ["data=imagefolder", "data.root=photos", "data.size=16", "data.batch_size=8", *SMALL]
ENDLESS += ["trainer.max_epochs=100000"]


def when_trained(act):
    """Do something once two epochs are complete, in a thread."""

    def wait():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if list(Path("outputs").rglob("metrics.csv")) and epochs(the_run()) >= 2:
                act()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def empty(path):
    path.write_bytes(b"")


def other(path):
    """Replace an image by another that is fine."""
    Image.new("RGB", (40, 40)).save(path.with_suffix(".new"), "PNG")
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("change", "workers", "said"),
    [
        (cut, 2, "image file is truncated"),
        pytest.param(Path.unlink, 0, "No such file or directory", marks=pytest.mark.slow),
        pytest.param(empty, 2, "empty file", marks=pytest.mark.slow),
        (other, 0, "the file has changed since the run began"),
    ],
)
def test_an_image_that_changes_during_a_training_is_named(cli, change, workers, said):
    write_photos(Path("photos"), ["ape", "bee"], 10)
    path = Path("photos/bee/03.png")
    thread = when_trained(lambda: change(path))
    code, _, err = cli("train", *ENDLESS, f"data.num_workers={workers}")
    thread.join()
    assert code == 1
    lines = [line for line in err.splitlines() if "epoch" not in line and not line.startswith("images: ")]
    assert lines == [f"error: {path}: {said}; see {the_run() / 'train.log'}"]


def test_a_data_worker_that_dies_is_one_line(cli):
    write_photos(Path("photos"), ["ape", "bee"], 10)
    thread = when_trained(lambda: os.kill(multiprocessing.active_children()[-1].pid, signal.SIGKILL))
    code, _, err = cli("train", *ENDLESS, "data.num_workers=2")
    thread.join()
    assert code == 1
    lines = [line for line in err.splitlines() if "epoch" not in line and not line.startswith("images: ")]
    assert lines[0].startswith("error: data.num_workers: a worker process died (out of memory?): (pid")
    assert lines[0].endswith(f"; see {the_run() / 'train.log'}")
    assert len(lines) == 1


@pytest.mark.slow
def test_a_training_that_was_ended_by_an_image_resumes_with_it(cli):
    write_photos(Path("photos"), ["ape", "bee"], 10)
    path = Path("photos/bee/03.png")
    thread = when_trained(lambda: path.rename("elsewhere"))
    asked = [*ENDLESS, "data.num_workers=0", "trainer.max_epochs=60"]
    assert cli("train", *asked)[0] == 1
    thread.join()
    done = epochs(the_run())
    Path("elsewhere").rename(path)
    assert 2 <= done < 60
    assert cli("train", *asked)[0] == 0
    assert epochs(the_run()) == 60


def test_an_image_beyond_the_limit(photos, cli):
    """One line with file, size and setting, from each verb; others are predicted."""
    write_photos(Path("photos"), ["ape", "bee", "cow"], 3)
    Image.new("1", (2000, 2000)).save("photos/bee/large.png")
    said = "2000 x 2000 pixels can take 62 MiB to decode; allowed: "
    code, out, err = cli("predict", photos.path, "photos", "--decode-mib", "61")
    assert code == 1
    assert err == f"error: photos/bee/large.png: {said}--decode-mib=61\n"
    assert out.count(".png") + out.count(".jpg") == 9
    for verb, images in (("train", "data.size=16"), ("evaluate", photos.path)):
        code, _, err = cli(verb, images, "data=imagefolder", "data.root=photos", "data.decode_mib=61")
        assert code == 2
        assert "1 of 10 files cannot be read as images: bee/large.png (" in err
        assert err.endswith(f"{said}data.decode_mib=61)\n")
        assert err.count("\n") == 1
    assert cli("predict", photos.path, "photos", "--decode-mib", "70")[0] == 0
    code, _, err = cli("predict", photos.path, "photos", "--decode-mib", "0")
    assert (code, err) == (2, "error: --decode-mib=0: allowed: 1 or more\n")


def test_a_run_does_not_say_how_much_memory_its_images_may_take(photos, cli, copied):
    """A stranger may have made it."""
    config = photos.config()
    assert config["data"]["decode_mib"] == 2048
    config["data"]["decode_mib"] = 2**20
    run = configure(copied(photos), config)
    Image.new("1", (13000, 13000)).save("large.png")
    for name in ("ape", "bee", "cow"):
        Path("large", name).mkdir(parents=True)
        Path("large", name, "x.png").hardlink_to("large.png")
    code, _, err = cli("evaluate", run.path, "data.root=large")
    assert (code, "allowed: data.decode_mib=2048" in err) == (2, True)


@examples(1)
@given(st.lists(st.tuples(damaged(), st.sampled_from(["png", "jpg", "gif", "tif", "webp"])), max_size=12))
def test_any_bytes_through_the_verbs(photos, cli, tmp_path_factory, files):
    """Training's check, evaluate and predict name what is no image, and read the rest."""
    folder = tmp_path_factory.mktemp("any")
    write_photos(folder, ["ape", "bee", "cow"], 2)
    for i, (data, suffix) in enumerate(files):
        (folder / "bee" / f"x{i:02}.{suffix}").write_bytes(data)
    code, _, err = cli("predict", photos.path, folder, "--decode-mib", "64", "--csv", folder / "out")
    broken = [line for line in err.splitlines() if line.startswith("error: ")]
    assert all(line.startswith(f"error: {folder}/bee/x") for line in broken)
    assert len(broken) + len((folder / "out").read_text().splitlines()) == 7 + len(files)
    assert code == bool(broken)
    asked = ["data=imagefolder", f"data.root={folder}", "data.decode_mib=64"]
    code, _, err = cli("evaluate", photos.path, *asked)
    assert code == (2 if broken else 0)
    assert not broken or f" {len(broken)} of {6 + len(files)} files cannot be read as images" in err
    if broken:
        code, _, again = cli("train", "data.size=16", *asked)
        assert (code, again) == (2, err), "the check of a training says the same"
    assert "Traceback" not in err
