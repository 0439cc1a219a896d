"""The repository as text and as syntax trees, for the tests of its architecture."""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PACKAGES = ("edge_sdk", "device_agent", "distributor", "quantize")


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """Files of the repository, relative to its root; without git, what lies in the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
    return tuple(sorted({name for name in names if (ROOT / name).is_file()}))


def python_files(*folders: str) -> list[Path]:
    """Our Python files in these folders of the root, without generated ones."""
    return [
        path
        for path in tracked_files()
        if path.suffix == ".py"
        and path.parts[0] in folders
        and path.parts[:2] != ("edge_sdk", "protos")
    ]


def module_name(path: Path) -> str:
    """``edge_sdk/delta/__init__.py`` to ``edge_sdk.delta``."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def syntax(path: Path) -> ast.Module:
    # CPython 3.11 counts the depth of a tree that it builds wrongly (SystemError) where a
    # garbage collection meanwhile runs Python code, such as what other tests left to finalise.
    gc.disable()
    try:
        return ast.parse((ROOT / path).read_text("utf-8"), filename=str(path))
    finally:
        gc.enable()


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; ``from a import b`` gives both ``a`` and ``a.b``."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


@functools.cache
def rooms() -> tuple[str, ...]:
    """Every package of ours that has a door, without the generated one."""
    return tuple(
        sorted(module_name(path) for path in python_files(*PACKAGES) if path.name == "__init__.py")
    )


def import_all() -> list[ModuleType]:
    """Imports every module of the packages; programs (``__main__``) and migrations are left."""
    names = [
        module_name(path)
        for path in python_files(*PACKAGES)
        if path.name != "__main__.py" and "migrations" not in path.parts
    ]
    return [importlib.import_module(name) for name in names]
