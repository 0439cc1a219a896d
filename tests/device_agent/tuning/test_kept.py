"""The file that tuning keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from device_agent.tuning import Basis, Tuned, basis_here, forget, keep, read_kept, why_not
from device_agent.tuning.kept import FILE, package_of

HERE = basis_here("onnxruntime", "numpy")


@dataclass
class Other:
    """A change of what is here, and the word that the reason must have."""

    change: dict[str, object]
    word: str


def tuned(basis: Basis = HERE, **settings: object) -> Tuned:
    given = {"threads": 2, "loading": "mapped", "batch_max": 4, **settings}
    return Tuned(  # type: ignore[arg-type]
        basis=basis, goal="latency", artifact="sha256:00", version="1.0.0", at="now", **given
    )


def test_kept_and_forgotten(tmp_path: Path) -> None:
    """What was kept for one model is read again; forgetting another changes nothing."""
    keep(tmp_path, "team/digits", tuned())
    keep(tmp_path, "team/other", tuned(threads=1))
    assert read_kept(tmp_path).models == {"team/digits": tuned(), "team/other": tuned(threads=1)}
    assert not forget(tmp_path, "team/third")
    assert forget(tmp_path, "team/other")
    assert set(read_kept(tmp_path).models) == {"team/digits"}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_nothing_kept_is_no_problem(tmp_path: Path) -> None:
    """Without a file there are no settings and no complaint."""
    assert read_kept(tmp_path) == read_kept(tmp_path / "missing")
    assert read_kept(tmp_path).problem == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format":1}', '{"format":9,"models":{}}', "\xff"]
)
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    """It is said and passed over: an agent must start all the same."""
    (tmp_path / FILE).write_text(text, "latin-1")
    kept = read_kept(tmp_path)
    assert kept.models == {}
    assert FILE in kept.problem


@pytest.mark.parametrize(
    "change", [{"threads": 0}, {"threads": "2"}, {"batch_max": -1}, {"loading": "fast"}]
)
def test_settings_that_cannot_be_are_passed_over(tmp_path: Path, change: dict[str, object]) -> None:
    """One model's wrong settings leave the others in force."""
    keep(tmp_path, "team/digits", tuned())
    document = msgspec.json.decode((tmp_path / FILE).read_bytes())
    document["models"]["team/wrong"] = {**document["models"]["team/digits"], **change}
    (tmp_path / FILE).write_bytes(msgspec.json.encode(document))
    kept = read_kept(tmp_path)
    assert set(kept.models) == {"team/digits"}
    assert "team/wrong" in kept.problem


@pytest.mark.parametrize(
    "other",
    [
        Other({"processor": "another"}, "processor"),
        Other({"cores": HERE.cores + 1}, "processor"),
        Other({"version": "0.0.1"}, "numpy 0.0.1"),
        Other({"package": "onnxruntime-gpu"}, "onnxruntime-gpu"),
        Other({"providers": ("cuda",)}, "cuda"),
        Other({"engine_options": {"fp16": True}}, "fp16"),
    ],
)
def test_what_was_measured_elsewhere_is_not_for_here(other: Other) -> None:
    """Another processor, library, version or provider: the reason names it."""
    assert why_not(tuned(), HERE) == ""
    assert other.word in why_not(tuned(msgspec.structs.replace(HERE, **other.change)), HERE)


def test_a_library_that_is_gone_is_another_version() -> None:
    """Where the package is not installed, a tuning of it is not used."""
    assert "here is none" in why_not(tuned(), basis_here("onnxruntime", "no-such-package"))


def test_package_of_a_module() -> None:
    """The package that a module was installed by; the module's name where that is not known."""
    assert package_of("numpy.linalg") == "numpy"
    assert package_of("no_such_module") == "no_such_module"
