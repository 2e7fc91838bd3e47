"""Isolation: no test reads the user's home folder, and none reaches a network."""

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
    """Fail to resolve all host names at once, except that of this machine, whose servers tests use."""
    resolve = socket.getaddrinfo

    def refuse(host, *args, **kwargs):
        if host == "127.0.0.1":
            return resolve(host, *args, **kwargs)
        raise socket.gaierror(-3, "no internet in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def no_debian(monkeypatch, tmp_path):
    """Simulate a machine without Debian's package of Fashion-MNIST."""
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
