"""Code in a run's identity: digests of syntax trees, without comments and docstrings.

Users develop an architecture by editing its file, and the result of an earlier version must never be shown as
that of the current one. Modules are located without being imported: nothing is executed, and torch stays
unloaded.
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
"""Subpackages of cnnbench whose code a run uses besides its model, by verb."""

LIBRARIES = ("cnnbench", "torch", "torchvision", "timm", "schedulefree", "lightning")
"""Packages of components that are not a user's own: they are not looked for in the working folder."""

INSTALLED = {"site-packages", "dist-packages"}
"""Names of folders that hold installed packages."""


def own_code(target: str) -> str | None:
    """Return the digest of a user's own code behind a dotted name: its module and the modules it imports.

    Imports from the user's own folders and from editable installs are followed; installed packages, the
    standard library and cnnbench count by name alone. Imports within functions are followed, calls of
    `importlib.import_module` with a computed name are not.

    Args:
        target: `package.module.name` or `package.module:name`.

    Returns:
        16 hex digits; None if the name is not that of a user's own module.
    """
    if is_ours(target):
        return None
    _search_working_folder(target)
    module = _module_of(target)
    files = _closure(module) if module else {}
    return _digest(files) if files else None


def forget_stale(target: str) -> None:
    """Drop a user's own modules that were edited since this process imported them, so that they are reloaded.

    A sweep or a notebook may train one architecture several times while its file is edited.
    """
    if is_ours(target):
        return
    _search_working_folder(target)
    module = _module_of(target)
    files = _closure(module) if module else {}
    current = {name: _content(file) for name, file in files.items()}
    if any(_is_stale(name, files[name], content) for name, content in current.items()):
        for name in files:
            sys.modules.pop(name, None)
    _loaded.update(current)


_loaded: dict[str, str] = {}
"""Content of each of a user's modules that this process has loaded, or is about to load."""


def _is_stale(name: str, file: Path, content: str) -> bool:
    if name not in sys.modules:
        return False
    if name in _loaded:
        return _loaded[name] != content
    import psutil  # another part of the process imported it, perhaps before it was edited

    return bool(file.stat().st_mtime > psutil.Process().create_time())


def shipped_code(verb: str, arch_target: str | None) -> dict[str, str]:
    """Return digests of the shipped code that a run uses, by subpackage; of `models` only the model's file.

    Args:
        verb: `train` or `bench`.
        arch_target: `_target_` of the architecture.
    """
    digests = {name: _subpackage(name) for name in SHIPPED[verb]}
    if arch_target is not None and arch_target.startswith("cnnbench.models."):
        module = arch_target.replace(":", ".").rpartition(".")[0]
        digests[module.removeprefix("cnnbench.")] = _model(module)
    return digests


@cache
def _subpackage(name: str) -> str:
    folder = PACKAGE / name
    return _digest({str(file.relative_to(folder)): file for file in folder.rglob("*.py")})


@cache
def _model(module: str) -> str:
    """Return the digest of a module of `cnnbench.models` and of those beside it that it imports."""
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = PACKAGE / "models" / f"{name.removeprefix('cnnbench.models.').replace('.', '/')}.py"
        if name not in files and file.is_file():
            files[name] = file
            waiting += [other for other in _imports(name, file) if other.startswith("cnnbench.models.")]
    return _digest(files)


def _search_working_folder(target: str) -> None:
    """Search the working folder for modules, too (a user's own mynet.py), as `python -m cnnbench` does.

    Only for code of the user: it may be a folder of somebody else's, and libraries try to import dozens of
    modules that are not installed, which would be found there.
    """
    if target.partition(":")[0].split(".")[0] not in LIBRARIES and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()


def _module_of(target: str) -> str | None:
    """Return the longest prefix of a dotted name that is a module."""
    words = target.partition(":")[0].split(".")
    for length in range(len(words), 0, -1):
        name = ".".join(words[:length])
        if all(words[:length]) and _spec(name) is not None:
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
    """Return the user's own files that importing a module executes, by module name."""
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
    """Yield the dotted names that a file imports; names of a `from` import also as if they were modules."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # the error appears when the module is imported
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
        elif isinstance(node, ast.Call) and node.args and _is_import_call(node.func):
            word = node.args[0]
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                yield f"{package}{word.value}" if word.value.startswith(".") else word.value


def _is_import_call(function: ast.expr) -> bool:
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name in ("import_module", "__import__")


def _digest(files: dict[str, Path]) -> str:
    """Return 16 hex digits that follow from names and syntax trees, or from the bytes of other files."""
    total = hashlib.sha256()
    for name, file in sorted(files.items()):
        total.update(f"{name}\0{_content(file)}\0".encode())
    return total.hexdigest()[:16]


def _content(file: Path) -> str:
    raw = file.read_bytes()
    if file.suffix == ".py":
        try:
            return _text_of(_without_docstrings(ast.parse(raw)))
        except (SyntaxError, ValueError, RecursionError):
            pass
    return hashlib.sha256(raw).hexdigest()


def _text_of(value: object) -> str:
    """Return a syntax tree as a text that no version of Python changes, as it does that of `ast.dump`.

    Fields that are empty are left out: later versions add some.
    """
    if isinstance(value, ast.Constant):
        return f"{type(value.value).__name__}:{value.value!a}"
    if isinstance(value, ast.JoinedStr):  # to which Python 3.12 adds empty strings
        return f"f[{','.join(_text_of(part) for part in value.values if getattr(part, 'value', None) != '')}]"
    if isinstance(value, ast.AST):
        fields = ((name, part) for name, part in ast.iter_fields(value) if part is not None and part != [])
        return f"{type(value).__name__}({','.join(f'{name}={_text_of(part)}' for name, part in fields)})"
    if isinstance(value, list):
        return f"[{','.join(map(_text_of, value))}]"
    return ascii(value)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Drop all strings that are statements: docstrings, and descriptions of attributes."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, [statement for statement in statements if not _is_text(statement)])
    return tree


def _is_text(node: ast.AST) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)


def changed(recorded: object, current: dict[str, str]) -> list[str]:
    """Return the subpackages whose code differs from what a run recorded; none if it recorded nothing."""
    if not isinstance(recorded, dict):
        return []
    return [name for name, digest in current.items() if recorded.get(name, digest) != digest]
