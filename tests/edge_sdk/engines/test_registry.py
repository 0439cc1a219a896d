"""Which engines there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.base import NotFoundError, RefusedError
from edge_sdk.engines import available_engines, open_engine, registry

ROOT = Path(__file__).parents[3]


def add_package(folder: Path, name: str, points: str) -> None:
    """An installed distribution, as far as entry points go."""
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{points}\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages; ``beads`` is a module in it that has engines."""
    (tmp_path / "beads.py").write_text(
        "class Abacus:\n"
        "    def facts(self):\n"
        "        return 'ten'\n"
        "class Missing:\n"
        "    libraries = ('no_such_library', 'nor_this')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "beads", raising=False)
    return tmp_path


def test_installed_engines_are_named() -> None:
    """ONNX Runtime is installed wherever the tests are."""
    assert "onnxruntime" in available_engines()


def test_an_unknown_engine_is_not_found() -> None:
    """The error names the known ones."""
    with pytest.raises(NotFoundError, match="onnxruntime"):
        open_engine("abacus")


def test_another_package_adds_an_engine(installed: Path) -> None:
    """An entry point of the group is found, listed and opened."""
    add_package(installed, "abacus", "abacus = beads:Abacus")
    assert "abacus" in available_engines()
    assert str(open_engine("abacus").facts()) == "ten"


def test_an_engine_without_its_library_is_refused(installed: Path) -> None:
    """A registered engine whose library is missing says which would do."""
    add_package(installed, "other", "other = beads:Missing")
    assert "other" not in available_engines()
    with pytest.raises(RefusedError, match="no_such_library or nor_this"):
        open_engine("other")


@pytest.mark.parametrize("value", ["no_such_module:Engine", "beads:NoSuchClass"])
def test_a_broken_engine_harms_no_other(installed: Path, value: str) -> None:
    """One that cannot be imported is not available, says why, and the others are."""
    add_package(installed, "broken", f"broken = {value}")
    assert "broken" not in available_engines()
    assert "onnxruntime" in available_engines()
    with pytest.raises(RefusedError, match="broken"):
        open_engine("broken")


def test_two_packages_with_one_name_are_refused(installed: Path) -> None:
    """Neither is taken by chance: the error names both."""
    add_package(installed, "first", "abacus = beads:Abacus")
    add_package(installed, "second", "abacus = beads:Missing")
    assert "abacus" not in available_engines()
    with pytest.raises(RefusedError, match=r"beads:Abacus, beads:Missing"):
        open_engine("abacus")


def test_nobody_takes_the_place_of_ours(installed: Path) -> None:
    """An entry point with the name of an engine of ours is passed over."""
    add_package(installed, "impostor", "onnxruntime = beads:Abacus")
    assert open_engine("onnxruntime").facts().name == "onnxruntime"


def test_ours_are_declared_too() -> None:
    """pyproject.toml names the same engines in the same places as the table of a checkout."""
    table = (ROOT / "pyproject.toml").read_text().split(f'entry-points."{registry.GROUP}"]\n')[1]
    lines = table.split("\n\n")[0].splitlines()
    declared = dict(line.replace('"', "").split(" = ") for line in lines)
    assert declared == registry.ENGINES


def test_looking_for_engines_imports_no_library() -> None:
    """Whoever only lists them pays for none of them."""
    script = (
        "import sys; from edge_sdk.engines import available_engines; print(available_engines()); "
        "sys.exit(bool({'onnxruntime', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
