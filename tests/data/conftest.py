"""No test reads the home folder of whoever runs it, and none reaches a network."""

from __future__ import annotations

import socket

import pytest

from cnnbench.data import datasets


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder


@pytest.fixture(autouse=True)
def no_internet(monkeypatch):
    """Every name but this machine's is unknown, at once; what tests serve themselves can be reached."""
    resolve = socket.getaddrinfo

    def refuse(host, *args, **kwargs):
        if host == "127.0.0.1":
            return resolve(host, *args, **kwargs)
        raise socket.gaierror(-3, "no internet in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def no_debian(monkeypatch, tmp_path):
    """As on a machine without Debian's package of Fashion-MNIST."""
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
