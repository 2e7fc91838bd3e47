"""Downloads: archives, checksums, interrupted ones, and locks."""

from __future__ import annotations

import gzip
import http.server
import io
import tarfile
import threading
import zipfile
from contextlib import suppress
from functools import partial

import make_files
import pytest
from data_support import check, cut, refusal
from filelock import FileLock
from make_files import MAKERS
from torchvision import datasets as tv

from cnnbench.data.datasets import load
from cnnbench.errors import InputError

pytestmark = pytest.mark.usefixtures("no_debian")

# --- downloads ----------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        with suppress(ConnectionError):  # torchvision asks twice and reads one answer
            super().copyfile(source, outputfile)


@pytest.fixture
def server(tmp_path):
    """Serve a folder; return it and its address."""
    folder = tmp_path / "server"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def serve_mnist(server, monkeypatch):
    folder, url = server
    made = MAKERS["mnist"](folder)
    resources = []
    for path in (folder / "MNIST/raw").iterdir():
        packed = make_files.write(folder / f"{path.name}.gz", gzip.compress(path.read_bytes()))
        resources.append((packed.name, make_files.md5(packed)))
    monkeypatch.setattr(tv.MNIST, "mirrors", [url])
    monkeypatch.setattr(tv.MNIST, "resources", resources)
    return made


def test_download(server, tmp_path, monkeypatch, capfd):
    made = serve_mnist(server, monkeypatch)
    check(load("mnist", tmp_path / "root"), made)
    assert "100%" in capfd.readouterr().err  # the progress bar
    assert not list((tmp_path / "root").glob(".*"))


def test_download_that_is_not_what_its_checksum_says(server, tmp_path, monkeypatch):
    serve_mnist(server, monkeypatch)
    cut(server[0] / "train-images-idx3-ubyte.gz")
    assert "cannot be downloaded" in refusal("mnist", tmp_path / "root")


def test_a_download_that_fails_leaves_no_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(tv.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(InputError, match="cannot be downloaded"):
        load("mnist", tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_broken_archive(server, tmp_path, monkeypatch):
    folder, url = server
    for content in (b"", b"no zip at all"):
        archive = make_files.write(folder / "gzip.zip", content)
        monkeypatch.setattr(tv.EMNIST, "url", url + "gzip.zip")
        monkeypatch.setattr(tv.EMNIST, "md5", make_files.md5(archive))
        assert "cannot be downloaded" in refusal("emnist", tmp_path / "root")


def test_download_of_a_zip(server, tmp_path, monkeypatch):
    folder, url = server
    made = MAKERS["emnist"](folder)
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for path in (folder / "EMNIST/raw").iterdir():
            archive.writestr(f"gzip/{path.name}.gz", gzip.compress(path.read_bytes()))
    monkeypatch.setattr(tv.EMNIST, "url", url + "gzip.zip")
    monkeypatch.setattr(tv.EMNIST, "md5", make_files.md5(folder / "gzip.zip"))
    check(load("emnist", tmp_path / "root"), made)


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")  # torchvision names no tar filter
def test_imagenette_whose_unpacking_broke_off(server, tmp_path, monkeypatch):
    """A partly unpacked archive is never taken for complete."""
    folder, url = server
    made = MAKERS["imagenette"](folder)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=0) as archive:
        archive.add(folder / "imagenette2-160", "imagenette2-160")
    root = tmp_path / "root"
    for data, works in ((packed.getvalue()[:100_000], False), (packed.getvalue(), True)):
        archive = make_files.write(folder / "imagenette2-160.tgz", data)
        listed = {"160px": (url + archive.name, make_files.md5(archive))}
        monkeypatch.setattr(tv.Imagenette, "_ARCHIVES", listed)
        if works:
            check(load("imagenette", root), made)
        else:
            assert "cannot be downloaded" in refusal("imagenette", root)
            assert list(root.glob(".imagenette.partial/imagenette2-160/*"))
            assert not (root / "imagenette2-160").exists()
    assert sorted(path.name for path in root.iterdir()) == ["imagenette2-160", "imagenette2-160.tgz"]


def test_waits_while_another_process_unpacks(tmp_path):
    made = MAKERS["mnist"](tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    content = path.read_bytes()
    cut(path)
    results = []
    with FileLock(tmp_path / ".MNIST.lock"):
        thread = threading.Thread(target=lambda: results.append(load("mnist", tmp_path)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        path.write_bytes(content)
    thread.join(10)
    check(results[0], made)


def test_lock_that_a_killed_process_left(tmp_path):
    made = MAKERS["mnist"](tmp_path)
    (tmp_path / ".MNIST.lock").touch()
    check(load("mnist", tmp_path), made)
