"""Code as a part of a run's identity: digests of syntax trees, without comments and docstrings.

A user's own architecture is developed by changing its file, and the result of an earlier version must never
pass for that of the present one. Modules are located without being imported: nothing is executed, and torch
stays unloaded.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

import cnnbench
from cnnbench.run_store.identity import is_ours

PACKAGE = Path(cnnbench.__file__).parent

SHIPPED = {"train": ("ops", "data", "training"), "bench": ("ops", "bench")}
"""The rooms of cnnbench whose code a run uses, by verb, besides its model."""

INSTALLED = {"site-packages", "dist-packages"}
"""Names of folders that hold installed packages."""


def own_code(target: str) -> str | None:
    """Return the digest of a user's own code behind a dotted name: its module and what that imports.

    Imports from the user's own folders are followed, those of editable installs included; installed packages,
    the standard library and cnnbench count by name alone. Imports within functions are seen,
    `importlib.import_module` of a computed name is not.

    Args:
        target: `package.module.name` or `package.module:name`.

    Returns:
        16 hex digits; None for a name that leads to no module of the user's own.
    """
    if is_ours(target):
        return None
    _search_working_folder()
    module = _module_of(target)
    files = _closure(module) if module else {}
    return _digest(files) if files else None


def forget_stale(target: str) -> None:
    """Drop a user's own modules that this process has loaded from earlier content, so that they load anew.

    A sweep or a notebook may train one architecture several times, and edit it in between.
    """
    if is_ours(target):
        return
    _search_working_folder()
    module = _module_of(target)
    files = _closure(module) if module else {}
    present = {name: _content(file) for name, file in files.items()}
    if any(_is_stale(name, files[name], content) for name, content in present.items()):
        for name in files:
            sys.modules.pop(name, None)
    _loaded.update(present)


_loaded: dict[str, str] = {}
"""By module, the content that this process has loaded, or is about to."""


def _is_stale(name: str, file: Path, content: str) -> bool:
    if name not in sys.modules:
        return False
    if name in _loaded:
        return _loaded[name] != content
    import psutil  # it was imported by somebody else: perhaps before it was edited

    return bool(file.stat().st_mtime > psutil.Process().create_time())


def shipped_code(verb: str, arch_target: str | None) -> dict[str, str]:
    """Return digests of cnnbench's own code that a run uses, by room; of `models` the file of its model.

    Args:
        verb: `train` or `bench`.
        arch_target: `_target_` of its architecture.
    """
    digests = {room: _room(room) for room in SHIPPED[verb]}
    if arch_target is not None and arch_target.startswith("cnnbench.models."):
        module = arch_target.replace(":", ".").rpartition(".")[0]
        digests[module.removeprefix("cnnbench.")] = _model(module)
    return digests


@cache
def _room(room: str) -> str:
    folder = PACKAGE / room
    return _digest({str(file.relative_to(folder)): file for file in folder.rglob("*.py")})


@cache
def _model(module: str) -> str:
    """Return the digest of a file of `cnnbench.models` and of those of its neighbours that it imports."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = PACKAGE / "models" / f"{name.removeprefix('cnnbench.models.').replace('.', '/')}.py"
        if name not in found and file.is_file():
            found[name] = file
            waiting += [word for word in _imports(name, file) if word.startswith("cnnbench.models.")]
    return _digest(found)


def _search_working_folder() -> None:
    """Look for modules in the working folder too, as `python -m cnnbench` does: a user's own mynet.py."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()


def _module_of(target: str) -> str | None:
    """Return the longest leading part of a dotted name that is a module."""
    words = target.partition(":")[0].split(".")
    for length in range(len(words), 0, -1):
        name = ".".join(words[:length])
        if _spec(name) is not None:
            return name
    return None


def _spec(name: str) -> ModuleSpec | None:
    """Locate a module without importing it or the packages above it."""
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    words = name.split(".")
    for depth in range(1, len(words) + 1):
        spec = _find(".".join(words[:depth]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
        if depth < len(words) and not path:
            return None
    return spec


def _find(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:  # those of editable installs among them
        find = getattr(finder, "find_spec", None)
        spec = find(name, path) if find is not None else None
        if isinstance(spec, ModuleSpec):
            return spec
    return None


@cache
def _standard_library() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})


def _is_own(file: Path) -> bool:
    """Return whether a file is the user's own and belongs to no installed package."""
    resolved = file.resolve()
    if INSTALLED & {*file.parts, *resolved.parts} or resolved.is_relative_to(PACKAGE.resolve()):
        return False
    return not any(resolved.is_relative_to(folder) for folder in _standard_library())


def _closure(module: str) -> dict[str, Path]:
    """Return the user's own files that importing a module executes, by module."""
    files: dict[str, Path] = {}
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if (parent := name.rpartition(".")[0]) != "":
            waiting.append(parent)
        spec = _spec(name)
        if spec is None or not spec.origin or not spec.has_location or not _is_own(Path(spec.origin)):
            continue
        file = Path(spec.origin)
        files[name] = file
        if file.suffix == ".py":
            package = name if spec.submodule_search_locations is not None else parent
            waiting += _imports(name, file, package)
    return files


def _imports(name: str, file: Path, package: str = "") -> Iterator[str]:
    """Yield the dotted names that a file imports, a `from` import also as if each name were a module."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it says what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _digest(files: dict[str, Path]) -> str:
    """Return 16 hex digits that follow from names and syntax trees; of what is no Python from the bytes."""
    total = hashlib.sha256()
    for name, file in sorted(files.items()):
        total.update(f"{name}\0{_content(file)}\0".encode())
    return total.hexdigest()[:16]


def _content(file: Path) -> str:
    raw = file.read_bytes()
    if file.suffix == ".py":
        try:
            return ast.dump(_without_docstrings(ast.parse(raw)))
        except (SyntaxError, ValueError):
            pass
    return hashlib.sha256(raw).hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Drop all strings that stand alone: docstrings, and those that describe an attribute."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, [one for one in statements if not _is_text(one)])
    return tree


def _is_text(node: ast.AST) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)


def changed(recorded: object, present: dict[str, str]) -> list[str]:
    """Return the rooms whose code is not what it was when a run was made; none if that was not recorded."""
    if not isinstance(recorded, dict):
        return []
    return [room for room, digest in present.items() if recorded.get(room, digest) != digest]
