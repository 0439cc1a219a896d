"""Uploading: small frames, only what is missing, and a bar that never runs backwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.base import ConflictError, ForbiddenError, FormatError, ProofError, UnavailableError
from edge_sdk.fleet import Draft, Fleet, prepare, publish
from edge_sdk.fleet.upload import Meter
from edge_sdk.rpc import FRAME_BYTES
from tests.support.fleet_service import FleetInMemory
from tests.support.onnx_models import mlp, save

DRAFT = Draft(model="team/digits", version="1.0.0", variant="fp32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of 400 kB with an empty file and a small one beside it."""
    save(mlp((300, 300, 10)), tmp_path / "m" / "model.onnx")
    (tmp_path / "m" / "labels.txt").write_bytes(b"0 1 2")
    (tmp_path / "m" / "empty").write_bytes(b"")
    return tmp_path / "m"


def test_everything_arrives_in_small_frames(
    fleet: Fleet, service: FleetInMemory, folder: Path
) -> None:
    """Each file arrives byte for byte, in frames of at most 64 KiB."""
    prepared = prepare(folder, DRAFT)
    published = fleet.upload(prepared)
    assert published.created
    assert published.artifact == prepared.artifact
    for path in ("model.onnx", "labels.txt", "empty"):
        entry = prepared.manifest.file(path)
        assert service.files[entry.digest.raw] == (folder / path).read_bytes()
    sizes = [length for _digest, _offset, length in service.frames]
    assert max(sizes) == FRAME_BYTES
    assert sum(sizes) == published.sent_bytes == prepared.manifest.size_bytes


def test_nothing_travels_twice(fleet: Fleet, service: FleetInMemory, folder: Path) -> None:
    """Publishing again sends no file; a version that shares files sends only the others."""
    fleet.publish(folder, DRAFT)
    service.frames.clear()
    again = fleet.publish(folder, DRAFT)
    assert (again.created, again.sent_bytes, service.frames) == (False, 0, [])
    (folder / "labels.txt").write_bytes(b"three")
    next_one = fleet.publish(folder, Draft(model="team/digits", version="2.0.0", variant="fp32"))
    assert next_one.created
    assert next_one.sent_bytes == len(b"three")


def test_broken_connection_is_taken_up_again(
    fleet: Fleet, service: FleetInMemory, folder: Path
) -> None:
    """When the distributor goes down in the middle, publishing goes on; whole files are not
    sent again and the bar never counts a byte twice."""
    prepared = prepare(folder, DRAFT)
    service.break_after_frames = 5
    seen: list[int] = []
    assert fleet.upload(prepared, advance=seen.append).created
    assert service.calls.count("Publish") == 2
    assert service.calls.count("MissingFiles") == 2
    assert sum(seen) == prepared.manifest.size_bytes
    assert all(count > 0 for count in seen)


def test_absent_distributor_ends_in_an_error(
    fleet: Fleet, service: FleetInMemory, folder: Path
) -> None:
    """After the last attempt the caller hears that trying again can help."""
    service.breakdowns = [UnavailableError("down")] * 5  # it looks first, once
    with pytest.raises(UnavailableError):
        fleet.publish(folder, DRAFT)
    assert service.artifacts == {}


def test_other_content_is_a_conflict(fleet: Fleet, folder: Path) -> None:
    """The same variant of the same version with other files is refused, and not repeated."""
    fleet.publish(folder, DRAFT)
    (folder / "labels.txt").write_bytes(b"other")
    with pytest.raises(ConflictError):
        fleet.publish(folder, DRAFT)


def test_a_conflict_is_known_before_the_model_runs(
    fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other files under a published name are refused before a golden sample is computed, which
    may take long; the same files are run, and found to be there."""
    fleet.publish(folder, DRAFT)
    made: list[object] = []
    sample_for = publish.sample_for

    def counted(*arguments: object, **more: object) -> object:
        made.append(arguments)
        return sample_for(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(publish, "sample_for", counted)
    assert not fleet.publish(folder, DRAFT).created
    assert len(made) == 1
    (folder / "labels.txt").write_bytes(b"other")
    with pytest.raises(ConflictError, match="published already, with other files"):
        fleet.publish(folder, DRAFT)
    assert len(made) == 1


def test_who_may_not_publish_hears_it_first(
    fleet: Fleet, service: FleetInMemory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a model is run or a file is asked for."""
    monkeypatch.setattr(publish, "sample_for", lambda *_, **__: pytest.fail("computed in vain"))
    service.forbidden = {"team/digits"}
    with pytest.raises(ForbiddenError):
        fleet.publish(folder, DRAFT)
    assert service.calls == ["MissingFiles"]


def test_file_that_changes_meanwhile_is_noticed(
    fleet: Fleet, service: FleetInMemory, folder: Path
) -> None:
    """A file that shrinks after it was proved is said by name; one that changes fails the
    distributor's proof. Neither is published."""
    prepared = prepare(folder, DRAFT)
    (folder / "labels.txt").write_bytes(b"0")
    with pytest.raises(FormatError, match="became shorter"):
        fleet.upload(prepared)
    (folder / "labels.txt").write_bytes(b"9 9 9")
    with pytest.raises(ProofError):
        fleet.upload(prepared)
    assert service.artifacts == {}


def test_meter_never_runs_backwards() -> None:
    """A new attempt that begins at less tells nothing until it is further than before."""
    seen: list[int] = []
    meter = Meter(seen.append)
    for done in (10, 50, 20, 60):
        meter.at(done)
    assert seen == [10, 40, 10]
    Meter(None).at(10)
