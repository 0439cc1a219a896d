"""Functions and files stay small, and nothing lies around dead."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path

from tests.support.source_tree import (
    PACKAGES,
    ROOT,
    imports_of,
    module_name,
    python_files,
    syntax,
    tracked_files,
)

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
# Longer ones with their lines: {"path:function": lines}. The list may only shrink.
EXCEPTIONS = Path(__file__).parent / "tidy_exceptions.json"
CODE = (*PACKAGES, "demo", "benchmarks", "firmware_examples", "docs", ".ci")


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its ``def`` to its end, without the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


@functools.cache
def too_long() -> dict[str, int]:
    found = {}
    for path in python_files(*CODE, "tests"):
        lines = len((ROOT / path).read_text("utf-8").splitlines())
        if lines > FILE_LINES_MAX:
            found[str(path)] = lines
        for node in ast.walk(syntax(path)):
            # A migration is one list of statements, which nobody reads for its flow.
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and body_lines(node) > FUNCTION_LINES_MAX
                and "migrations" not in path.parts
            ):
                found[f"{path}:{node.name}"] = body_lines(node)
    return found


def test_nothing_is_too_long() -> None:
    """No function is longer than 70 lines, no file than 600, but for the listed ones."""
    allowed = json.loads(EXCEPTIONS.read_text())
    grown = {name: lines for name, lines in too_long().items() if lines > allowed.get(name, 0)}
    assert grown == {}


def test_exceptions_are_still_needed() -> None:
    """An exception that is no longer needed, or has shrunk, is taken from the list."""
    found = too_long()
    allowed = json.loads(EXCEPTIONS.read_text())
    assert {name: found.get(name) for name in allowed} == allowed


def alive() -> set[str]:
    """Modules that code, a script of pyproject.toml or a text such as ``-m module`` names."""
    used = set()
    text = (ROOT / "pyproject.toml").read_text() + (ROOT / "Makefile").read_text()
    used |= set(re.findall(r"\b[a-z_]+(?:\.[a-z_0-9]+)+\b", text))
    for path in python_files(*CODE):
        used |= set(imports_of(path)) - {module_name(path)}
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= set(re.findall(r"\b[a-z_]+(?:\.[a-z_0-9]+)+\b", node.value))
    return used


def test_no_module_is_dead() -> None:
    """Every module of the packages is imported or started by something that is not a test."""
    used = alive()
    dead = [
        str(path)
        for path in python_files(*PACKAGES)
        if path.name not in ("__init__.py", "__main__.py")
        and "migrations" not in path.parts
        and module_name(path) not in used
    ]
    assert dead == []


def test_tests_mirror_the_code() -> None:
    """A test file of a package's room lies where the code that it tests lies."""
    folders = {path.parent for path in python_files(*PACKAGES)}
    stray = [
        str(path)
        for path in python_files("tests")
        if path.name.startswith("test_")
        and path.parts[1] in PACKAGES
        and Path(*path.parts[1:-1]) not in folders
    ]
    assert stray == []


def test_test_folders_are_no_packages() -> None:
    """An ``__init__.py`` in tests would hide the packages of the same name."""
    assert [path for path in tracked_files() if path.match("tests/**/__init__.py")] == []


def test_every_test_says_what_it_proves() -> None:
    """Each test function has a docstring: the sentence that it proves."""
    silent = [
        f"{path}:{node.name}"
        for path in python_files("tests")
        if path.name.startswith("test_")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_leftover_marks() -> None:
    """No file holds a merge conflict or a note to be done later."""
    # Put together here, so that this file is not one of them.
    marks = re.compile("|".join(["^<{7} ", "^>{7} ", "TO" + "DO", "FIX" + "ME", "X" + "XX"]), re.M)
    found = [
        str(path)
        for path in tracked_files()
        if path.suffix in {".py", ".md", ".toml", ".proto", ".c", ".h", ".json"}
        and "protos" not in path.parts[:2]
        and marks.search((ROOT / path).read_text("utf-8"))
    ]
    assert found == []
