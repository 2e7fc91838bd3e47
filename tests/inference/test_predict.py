"""`cnnbench predict`: files of every kind, readable or not, and the output about them."""

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import command

from cnnbench.inference import trained_model
from cnnbench.training.images import make_data

pytest_plugins = ["finished_fixtures"]


def predicted(cli, *arguments):
    code, out, err = cli("predict", *arguments, "--json", "-")
    return code, {entry["image"]: entry for entry in json.loads(out)["images"]} if out else None, err


def noise(*shape, most=255):
    return np.random.default_rng(0).integers(0, most, shape, dtype=np.uint8)


def test_the_probabilities_are_those_of_the_evaluation(photos, cli, monkeypatch):
    root = photos.config()["data"]["root"]
    monkeypatch.chdir(Path(root).parent)
    test = list(csv.DictReader(io.StringIO(cli("evaluate", photos.path, "--csv", "-")[1])))
    code, found, err = predicted(cli, photos.path, *(row["image"] for row in test))
    assert (code, err) == (0, "")
    for row in test:
        guesses = found[row["image"]]["guesses"]
        assert guesses[0]["class"] == row["predicted"]
        for guess in guesses:
            assert guess["probability"] == pytest.approx(float(row[f"p({guess['class']})"]), abs=1e-5)
        assert sum(guess["probability"] for guess in guesses) == pytest.approx(1, abs=1e-5)


def test_an_array_that_was_saved_as_a_file_is_the_same_image(digits, cli, tmp_path):
    model = trained_model.load(digits)
    test = make_data(model.settings.data, model.settings.arch, model.settings.seed).test
    expected = model.logits(test.pixels[:40]).softmax(1)
    for i, pixels in enumerate(test.pixels[:40]):
        Image.fromarray(pixels[0].numpy()).save(tmp_path / f"{i:02}.png")
    code, out, _ = cli("predict", digits.path, tmp_path, "--csv", "-", "--top", "10")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [Path(row["image"]).stem for row in rows] == [f"{i:02}" for i in range(40)]
    for row, p in zip(rows, expected, strict=True):
        assert row["class"] == str(int(p.argmax()))
        shares = {row["class"]: row["probability"]} | {
            row[f"class_{k}"]: row[f"probability_{k}"] for k in range(2, 11)
        }
        assert [float(shares[str(k)]) for k in range(10)] == pytest.approx(p.tolist(), abs=1e-5)


def save_all(folder):
    """Save the same picture in every file format and mode, and some unusual pictures."""
    folder.mkdir()
    flat = Image.fromarray(np.kron(noise(4, 6, 3), np.ones((10, 10, 1), np.uint8)))
    flat.save(folder / "rgb.png")
    flat.save(folder / "rgb.bmp")
    flat.rotate(90, expand=True).save(folder / "turned.png", exif=exif(6))
    flat.convert("RGBA").save(folder / "alpha.png")
    flat.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", flat.size, "red")])
    flat.convert("P", palette=Image.Palette.ADAPTIVE, colors=24).save(folder / "palette.png")
    flat.convert("CMYK").save(folder / "cmyk.jpg", quality=100, subsampling=0)
    grey = flat.convert("L")
    grey.save(folder / "grey.png")
    grey.convert("LA").save(folder / "grey_alpha.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "grey16.png")
    Image.new("RGB", (1, 1), "red").save(folder / "one.png")
    Image.new("RGB", (20_000, 30), "red").save(folder / "wide.png")
    Image.new("RGB", (1, 20_000), "red").save(folder / "strip.png")


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def test_files_of_every_kind(photos, cli, tmp_path):
    save_all(tmp_path / "x")
    code, found, err = predicted(cli, photos.path, tmp_path / "x")
    assert (code, err) == (0, "")
    assert list(found) == sorted(found)
    shares = {
        Path(name).name: {g["class"]: g["probability"] for g in one["guesses"]} for name, one in found.items()
    }
    assert len(shares) == 13
    for name in ("rgb.bmp", "turned.png", "alpha.png", "palette.png"):
        assert shares[name] == pytest.approx(shares["rgb.png"], abs=1e-6), name
    for name in ("animated.gif", "cmyk.jpg"):  # of 256 colours; lossy
        assert shares[name] == pytest.approx(shares["rgb.png"], abs=0.05), name
    for name in ("grey_alpha.png", "grey16.png"):
        assert shares[name] == pytest.approx(shares["grey.png"], abs=1e-6), name
    for name in ("wide.png", "strip.png"):
        assert shares[name] == pytest.approx(shares["one.png"], abs=1e-4), name


def test_files_that_cannot_be_read_are_named_and_the_others_predicted(digits, cli, tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    Image.fromarray(noise(40, 40, 3)).save(folder / "good.jpg")
    data = (folder / "good.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "zero.png").touch()
    (folder / "text.png").write_text("hello")
    (folder / "notes.txt").write_text("not looked at in a folder")
    (folder / ".hidden.png").write_text("passed over")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    Image.fromarray(noise(8, 8).astype(np.float32)).save(folder / "float.tiff")
    (tmp_path / "empty").mkdir()
    code, found, err = predicted(
        cli, digits.path, folder, "empty", "nowhere.png", "none*.png", folder / "notes.txt"
    )
    assert code == 1
    for name, message in {
        folder / "cut.jpg": "truncated", folder / "zero.png": "empty file",
        folder / "text.png": "not an image", folder / "bomb.png": "178956970 pixels",
        folder / "float.tiff": "32 bits", folder / "notes.txt": "not an image",
        "empty": "no images in this folder",
        "nowhere.png": "No such file", "none*.png": "no file matches",
    }.items():  # fmt: skip
        (line,) = [line for line in err.splitlines() if line.startswith(f"error: {name}: ")]
        assert message in line
        assert message in found[str(name)]["error"]
    assert len(err.splitlines()) == 9
    assert [name for name, entry in found.items() if "guesses" in entry] == [str(folder / "good.jpg")]


@pytest.mark.timeout(60, method="thread")
def test_pipes_and_devices_are_no_images(digits, cli, tmp_path):
    """Opening a pipe would wait for a writer, and could not be interrupted."""
    (tmp_path / "x").mkdir()
    Image.new("L", (8, 8)).save("x/good.png")
    os.mkfifo("x/pipe.png")
    Path("x/link.png").symlink_to("good.png")
    for images in (["x"], ["x/*"], ["x/good.png", "x/link.png", "x/pipe.png"]):
        code, found, err = predicted(cli, digits.path, *images, "/dev/zero")
        assert code == 1
        assert sorted(err.splitlines()) == [
            f"error: {name}: a folder, a pipe or a device; allowed: a file"
            for name in ("/dev/zero", "x/pipe.png")
        ]
        assert [name for name, entry in found.items() if "guesses" in entry] == ["x/good.png", "x/link.png"]


def test_paths_that_cannot_be_asked_about(digits, cli, monkeypatch):
    Image.new("L", (8, 8)).save("good.png")
    before = os.stat

    def refused(path, *args, **kwargs):
        if str(path).startswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return before(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refused)
    bad = {
        "x" * 300: "File name too long",
        "closed/x.png": "Permission denied",
        "x" * 300 + "*": "no file matches",
    }
    code, found, err = predicted(cli, digits.path, *bad, "good.png")
    assert code == 1
    assert sorted(err.splitlines()) == sorted(f"error: {name}: {message}" for name, message in bad.items())
    assert "guesses" in found["good.png"]


def test_a_file_that_is_never_read_to_its_end_is_left_behind():
    """Neither closing the iterator nor exiting waits for a read that hangs, as on a dead network."""
    code = (
        "import threading\n"
        "from cnnbench.data import prefetch\n"
        "prefetch.PATIENCE_S = 0.1\n"
        "read = lambda path: path if path == 'a' else threading.Event().wait()\n"
        "found = prefetch._ahead(read, ['a', 'b', 'c', 'd'], 2)\n"
        "assert next(found) == ('a', 'a')\n"
        "found.close()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_paths_from_standard_input_folders_and_patterns(digits, cli, tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("z.png", "a/2.png", "a/10.png", "a/b/c.PNG"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    monkeypatch.setattr("sys.stdin", standard_input(b"z.png\n\na\r\n"))
    assert list(predicted(cli, digits.path, "-")[1]) == ["z.png", "a/10.png", "a/2.png", "a/b/c.PNG"]
    assert list(predicted(cli, digits.path, "**/*.png")[1]) == ["a/10.png", "a/2.png", "z.png"]
    assert list(predicted(cli, digits.path, "a/*")[1]) == ["a/10.png", "a/2.png", "a/b/c.PNG"]
    assert list(predicted(cli, digits.path, "a/**")[1]) == ["a/10.png", "a/2.png", "a/b/c.PNG"], "each once"


def standard_input(text):
    return io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")


def test_odd_lists_on_standard_input(digits, cli, monkeypatch):
    names = [os.fsdecode(b"\xff.png"), "a\x0cb\u2028c.png"]
    for name in names:
        Image.new("L", (8, 8)).save(name)
    monkeypatch.setattr("sys.stdin", standard_input("\n".join(names).encode("utf-8", "surrogateescape")))
    assert list(predicted(cli, digits.path, "-")[1]) == names
    for nothing in (standard_input(b"\n"), None):
        monkeypatch.setattr("sys.stdin", nothing)
        code, _, err = predicted(cli, digits.path, "-")
        assert code == 1
        assert "error: -: no paths on standard input" in err


def test_folders_that_cannot_be_looked_into(digits, cli, monkeypatch):
    for name in ("x/a/1.png", "x/locked/2.png"):
        Path(name).parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(name)
    scandir = os.scandir

    def locked(path="."):  # whoever is root may look everywhere
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", locked)
    code, found, err = predicted(cli, digits.path, "x")
    assert code == 1
    assert list(found) == ["x/locked", "x/a/1.png"]
    assert "error: x/locked: cannot be read (Permission denied)" in err
    code, _, err = cli("evaluate", digits.path, "data=imagefolder", "data.root=x")
    assert code == 2
    assert "data.root=x: x/locked cannot be read (Permission denied)" in err


def test_answers_come_in_the_order_of_the_files(digits, cli):
    for i in range(6):
        Image.new("L", (8, 8)).save(f"{i}.png")
    for i in (1, 4):
        Path(f"{i}.png").write_bytes(b"no image")
    code, found, _ = predicted(cli, digits.path, ".")
    assert code == 1
    assert list(found) == [f"{i}.png" for i in range(6)]


def test_what_is_read_is_not_replaced(digits, copied, cli):
    run = copied(digits)
    Image.new("L", (8, 8)).save("a.png")
    before = Path("a.png").read_bytes()
    for verb, *arguments in (
        ("predict", "a.png", "--csv", "./a.png"),
        ("predict", "a.png", "--json", run.path / "status.json"),
        ("evaluate", "--json", run.path / "summary.json"),
        ("export", "--output", run.checkpoints / "best.ckpt"),
    ):
        code, _, err = cli(verb, run.path, *arguments)
        assert code == 2
        assert "would replace a file that is read; allowed: another file" in err
    assert Path("a.png").read_bytes() == before
    assert run.state == "finished"
    code, _, err = cli("predict", run.path, "a.png", "--json", "out", "--csv", Path("out").absolute())
    assert code == 2
    assert "the same target as" in err


def test_what_a_run_has_logged_is_not_meant(digits, cli):
    for name in ("photo.png", "outputs/e/r/wandb/offline-run-20250101_000000-r/files/media/images/x_0.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(name)
    assert list(predicted(cli, digits.path, ".")[1]) == ["photo.png"]
    media = Path(name).parent
    assert list(predicted(cli, digits.path, media)[1]) == [name], "unless it is named"


def test_the_table(photos, cli, tmp_path):
    Image.new("RGB", (40, 40), "red").save("red [bold].png")
    code, out, err = cli("predict", photos.path, "red [bold].png", "--top", "2")
    assert (code, err) == (0, "")
    (row,) = [line for line in out.splitlines() if "red [bold].png" in line]
    assert row.count("%") == 2
    assert cli("predict", photos.path, "red [bold].png")[1].count("%") == 3, "there are three classes"


def test_a_name_that_is_no_text(digits, cli):
    name = os.fsdecode(b"\xff\x1b[31m.png")
    Image.new("L", (8, 8)).save(name)
    code, out, _ = cli("predict", digits.path, ".")
    assert code == 0
    assert "\x1b" not in out
    assert cli("predict", digits.path, ".", "--csv", "x.csv", "--json", "x.json")[0] == 0
    assert json.loads(Path("x.json").read_bytes())["images"][0]["image"] == name
    assert b"\xff" in Path("x.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top", "0"], "--top=0: allowed: 1 or more"),
        (["--json", "nowhere/x"], "its folder does not exist"),
        (["--device", "gpu"], "device.accelerator=gpu: not available here"),
    ],
)
def test_bad_input_is_one_line(digits, cli, arguments, message):
    code, out, err = cli("predict", digits.path, "x.png", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert message in line


def test_an_interruption_leaves_no_half_of_a_file(digits, tmp_path):
    Image.fromarray(noise(3000, 3000, 3)).save(tmp_path / "x.png", compress_level=1)
    paths = "x.png\n" * 2000
    process = subprocess.Popen(
        command("predict", digits.path, "-", "--csv", "x.csv"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(paths)
    process.stdin.close()
    deadline = time.monotonic() + 120
    while not list(Path().glob(".x.csv.*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read() == "interrupted\n"
    process.stderr.close()
    assert [path.name for path in Path().iterdir() if "x.csv" in path.name] == []
