"""``make`` alone lists the targets, and the house's scripts judge as they should."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.source_tree import ROOT


def ci_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_make_alone_lists_the_targets() -> None:
    """``make`` without a target runs nothing and names every public target."""
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"^  make (\S+)", listed, re.MULTILINE)
    assert {"demo", "test", "test-310", "test-install", "lint", "bench", "bench-delivery",
            "bench-delta", "fuzz", "protos", "readme", "wheelhouse", "clean"} <= set(names)  # fmt: skip


def test_every_listed_target_is_phony() -> None:
    """A file named like a target cannot hide it."""
    text = re.sub(r"\\\n", " ", (ROOT / "Makefile").read_text())
    listed = set(re.findall(r"^([a-z0-9-]+):.*  ## ", text, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert listed - set(phony.split()) == set()


@pytest.mark.parametrize(
    "script",
    [
        "run",
        "find-python",
        "make-venv",
        "test-install",
        "wheelhouse",
        "device-wheel",
        "fuzz-kernel",
    ],
)
def test_scripts_are_programs(script: str) -> None:
    """Each script can be run and is well-formed."""
    path = ROOT / ".ci" / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_python_that_only_prints_an_error_is_not_found(tmp_path: Path) -> None:
    """A shim named python3.10 that cannot run is no Python."""
    shim = tmp_path / "python3.10"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    found = subprocess.run(
        [str(ROOT / ".ci" / "find-python"), "3.10"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(shim) not in found.stdout


def coverage_report(tmp_path: Path, **covered: int) -> Path:
    files = {
        f"{package}/some/file.py": {"summary": {"num_statements": 100, "covered_lines": count}}
        for package, count in covered.items()
    }
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps({"files": files}))
    return path


@pytest.mark.parametrize(
    ("sdk", "agent", "code"), [(95, 85, 0), (94, 85, 1), (95, 84, 1), (100, 0, 1)]
)
def test_coverage_floors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdk: int, agent: int, code: int
) -> None:
    """95 % of edge_sdk and 85 % of the others pass, one statement less does not."""
    check = ci_module("check_coverage")
    report = coverage_report(
        tmp_path, edge_sdk=sdk, device_agent=agent, distributor=90, quantize=90
    )
    monkeypatch.setattr(sys, "argv", ["check", str(report)])
    assert check.main() == code


def test_package_that_was_not_measured_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package without any statement in the report counts as uncovered."""
    check = ci_module("check_coverage")
    monkeypatch.setattr(sys, "argv", ["check", str(coverage_report(tmp_path, edge_sdk=100))])
    assert check.main() == 1
