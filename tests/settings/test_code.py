"""A user's own code counts by its content: after an edit, the run is another one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnbench.settings.code import changed, own_code, shipped_code

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(name, text)`: write a file to the working folder, which is searched for modules."""
    monkeypatch.chdir(tmp_path)

    def make(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


NET = '"""Doc."""\n\ndef net(width):\n    """Doc."""\n    return width + 1  # comment\n'


def test_comments_docstrings_and_layout_do_not_count(write):
    write("mynet.py", NET)
    before = own_code("mynet.net")
    write("mynet.py", "def net( width ):\n    'Another.'\n\n    return (width + 1)\n")
    assert own_code("mynet.net") == before
    assert own_code("mynet:net") == before


@pytest.mark.parametrize("edited", ["return width + 2", "return width - 1", "return -width"])
def test_computations_count(write, edited):
    write("mynet.py", NET)
    before = own_code("mynet.net")
    write("mynet.py", NET.replace("return width + 1", edited))
    assert own_code("mynet.net") not in (before, None)


@pytest.mark.parametrize(
    "statement",
    [
        "import blocks",
        "from blocks import block",
        "import pack.inner",
        "from pack import inner",
        "from pack.inner import block",
        "def late():\n    import blocks",
        "import importlib\nblocks = importlib.import_module('blocks')",
        "try:\n    import blocks\nexcept ImportError:\n    pass",
    ],
)
def test_imported_modules_count(write, statement):
    write("mynet.py", f"{statement}\n{NET}")
    for name in ("blocks.py", "pack/inner.py"):
        write(name, "def block():\n    return 1\n")
    write("pack/__init__.py", "")
    before = own_code("mynet.net")
    write("blocks.py" if "blocks" in statement else "pack/inner.py", "def block():\n    return 2\n")
    assert own_code("mynet.net") != before


def test_relative_imports_and_packages_above_count(write):
    write("mine/__init__.py", "SCALE = 1\n")
    write("mine/nets/__init__.py", "")
    write("mine/nets/net.py", "from .. import shared\nfrom .near import helper\n" + NET)
    write("mine/nets/near.py", "helper = 1\n")
    write("mine/shared.py", "x = 1\n")
    seen = [own_code("mine.nets.net.net")]
    for name in ("mine/__init__.py", "mine/nets/near.py", "mine/shared.py"):
        write(name, "SCALE = helper = x = 2\n")
        seen.append(own_code("mine.nets.net.net"))
    assert len(set(seen)) == 4


def test_installed_packages_count_by_name(write):
    """torch has some 2,000 files, and its version is recorded with the run, not in its identity."""
    assert own_code("torch.optim.SGD") is None
    assert own_code("json.loads") is None
    assert own_code("cnnbench.models.basic.basic") is None
    assert own_code("nowhere.to.be.found") is None
    write("mynet.py", "import torch, numpy.linalg\n" + NET)
    before = own_code("mynet.net")
    write(".venv/lib/python3.11/site-packages/other.py", "x = 1\n")
    assert own_code("mynet.net") == before


def test_an_editable_install_is_the_users_own(write, tmp_path, monkeypatch):
    """As pip installs it: a path file in site-packages points to the user's folder."""
    site = tmp_path / "venv" / "site-packages"
    write("venv/site-packages/editable.pth", str(tmp_path / "elsewhere"))
    write("elsewhere/lab/__init__.py", NET)
    monkeypatch.chdir(site)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "elsewhere")])
    before = own_code("lab.net")
    assert before is not None
    write("elsewhere/lab/__init__.py", NET.replace("+ 1", "+ 2"))
    assert own_code("lab.net") != before


def test_nothing_is_executed_and_nothing_heavy_is_imported(write):
    write("mynet.py", "open('executed', 'w')\nimport torch\n" + NET)
    script = (
        "import sys; from cnnbench.settings.code import own_code;"
        "print(own_code('mynet.net'), 'torch' in sys.modules, 'mynet' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split()[1:] == ["False", "False"]
    assert not (write("x", "").parent / "executed").exists()


def test_a_file_with_a_syntax_error_counts_by_its_bytes(write):
    write("mynet.py", "def net(:\n")
    before = own_code("mynet.net")
    write("mynet.py", "def net(::\n")
    assert own_code("mynet.net") not in (before, None)


def test_shipped_code_by_subpackage():
    digests = shipped_code("train", "cnnbench.models.resnet.resnet")
    assert set(digests) == {"ops", "data", "training", "models.resnet"}
    assert shipped_code("train", "mynet.net").keys() == {"ops", "data", "training"}
    assert shipped_code("bench", "cnnbench.models.vgg.vgg").keys() == {"ops", "bench", "models.vgg"}
    assert changed(digests, digests) == []
    assert changed(digests | {"ops": "other"}, digests) == ["ops"]
    assert changed(None, digests) == []


SOURCE = """
x = 1_000, 1e-3, 2j, b"x", None, True, ..., "\u00fc\u2028"
class Net:
    x: int = 1
def net(a, /, b=2, *c, d: int = 3, **e) -> int:
    "doc"
    with open(f"{a!r:>{b}}") as g, g:
        return [i for i in c if i] if d else (yield)
    match a:
        case {"k": [1, *rest]}:
            return lambda: rest[1:2]
"""


def test_the_digest_is_the_same_in_every_version_of_python(write):
    """Another interpreter, where there is one, must agree: identities last."""
    write("mynet.py", SOURCE)
    frozen = "0a658296fff6a454"
    assert own_code("mynet.net") == frozen
    script = "from cnnbench.settings.code import own_code; print(own_code('mynet.net'))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("python3.12", "python3.13", "python3.14"):
        if (python := shutil.which(name)) is not None:
            result = subprocess.run([python, "-c", script], capture_output=True, text=True, env=environment)
            assert result.returncode != 0 or result.stdout.strip() == frozen, name
