"""From an ONNX artifact to a session: built, kept, loaded again, refitted, thrown away.

All of it on the stand-in of TensorRT in tests/support/fake_tensorrt.py: no GPU is used.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_sdk.base import Digest, FormatError, NotFoundError, RefusedError, ResourceError
from edge_sdk.engines import EngineError, make_golden, open_engine
from edge_sdk.engines.known import KnownModel, PlanRoom, load_model
from edge_sdk.engines.tensorrt import Plans, TensorRt, calls
from edge_sdk.engines.tensorrt.rules import Options, profiles_of
from edge_sdk.engines.tensorrt.session import TensorRtSession
from edge_sdk.formats import write_safetensors
from tests.support import onnx_models
from tests.support.fake_gpu import FakeGpu
from tests.support.fake_tensorrt import VERSIONS, fake_tensorrt

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@dataclass
class Bench:
    """A device with a disk. ``load`` is one artifact's way; each number is another artifact."""

    top: Path
    gpu: FakeGpu = field(default_factory=FakeGpu)
    version: str = "10.3.0"
    room_bytes: int = 1 << 20
    held: tuple[Digest, ...] = tuple(Digest.parse(f"{number:064x}") for number in range(9))
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is left but the disk."""
        self.library = fake_tensorrt(self.gpu, self.version)
        self.restart_engine()

    def restart_engine(self) -> None:
        self.engine = TensorRt(options=self.options, library=self.library, device=self.gpu)

    @property
    def folder(self) -> Path:
        return self.top / "plans"

    def save(self, number: int, model: onnx.ModelProto, **how: Any) -> Path:
        return onnx_models.save(model, self.top / f"artifact{number}" / "model.onnx", **how)

    def known(self, number: int, entry: Path, *, golden: bool = True) -> KnownModel:
        path = entry.with_name("golden.safetensors")
        if golden:
            reference = open_engine("onnxruntime").load(entry)
            with path.open("wb") as stream:
                write_safetensors(stream, make_golden(reference, reference.inputs, {"x": X}))
        return KnownModel(
            artifact=Digest.parse(f"{number:064x}"),
            room=PlanRoom(
                folder=self.folder, room_bytes=lambda: self.room_bytes, held=lambda: self.held
            ),
            golden=path if golden else None,
        )

    def load(self, number: int, model: onnx.ModelProto, *, golden: bool = True) -> TensorRtSession:
        entry = self.save(number, model)
        session = load_model(self.engine, entry, self.known(number, entry, golden=golden))
        assert isinstance(session, TensorRtSession)
        return session

    def plans(self) -> list[Path]:
        return sorted(self.folder.glob("*.plan"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(params=VERSIONS)
def each(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    """With the names of each release."""
    return Bench(tmp_path, version=request.param)


def answer(session: TensorRtSession) -> Any:
    return session.run({"x": X}, {})["y"]


def test_a_model_is_built_and_answers(each: Bench) -> None:
    """The first load builds a strongly typed plan without TF32, keeps it and computes."""
    session = each.load(1, onnx_models.linear(3.0))
    assert (session.made_by, session.notes) == ("build", ())
    assert (answer(session) == 3 * X).all()
    (built,) = each.library.seen.builds
    assert built["typed"] and built["flags"] == ["REFIT"]
    assert built["bounds"] == {"x": [[1, 4], [2, 4], [8, 4]]}
    assert len(each.plans()) == 1


def test_a_kept_plan_is_loaded(each: Bench) -> None:
    """After a restart the same artifact takes milliseconds: nothing is built."""
    each.load(1, onnx_models.linear(3.0)).close()
    each.restart()
    session = each.load(1, onnx_models.linear(3.0))
    assert session.made_by == "load"
    assert not each.library.seen.builds
    assert (answer(session) == 3 * X).all()


def test_an_update_of_weights_refits_a_second_engine(each: Bench) -> None:
    """The new artifact's weights go into a copy; the session that serves keeps its own, and the
    refitted plan is kept as the new artifact's."""
    serving = each.load(1, onnx_models.linear(3.0))
    assert (answer(serving) == 3 * X).all()
    session = each.load(2, onnx_models.linear(5.0))
    assert (session.made_by, session.notes) == ("refit", ())
    assert len(each.library.seen.builds) == 1
    assert (answer(session) == 5 * X).all()
    assert (answer(serving) == 3 * X).all()
    each.restart()
    again = each.load(2, onnx_models.linear(5.0))
    assert again.made_by == "load"
    assert (answer(again) == 5 * X).all()


@pytest.mark.parametrize(
    ("wrong", "note"),
    [
        ({"folded": frozenset({"bias"})}, "golden sample differs"),
        ({"refit_fails": True}, "could not be copied"),
        ({"missing": ("scale",)}, "weights are missing: scale"),
    ],
)
def test_a_refit_that_fails_falls_back_to_a_build(
    bench: Bench, wrong: dict[str, Any], note: str
) -> None:
    """A weight that was folded into others, a mixture of weights, a missing one: each is built
    anew, says why, and the half-refitted copy is not kept."""
    bench.load(1, onnx_models.linear(3.0, bias=1.0))
    for name, value in wrong.items():
        setattr(bench.library.seen, name, value)
    session = bench.load(2, onnx_models.linear(5.0, bias=2.0))
    assert session.made_by == "build"
    assert note in session.notes[0]
    assert (answer(session) == 5 * X + 2).all()
    bench.restart()
    again = bench.load(2, onnx_models.linear(5.0, bias=2.0))
    assert again.made_by == "load"
    assert (answer(again) == 5 * X + 2).all()


def test_without_a_golden_sample_nothing_is_refitted(bench: Bench) -> None:
    """Only the sample can tell whether a refit took every weight."""
    bench.load(1, onnx_models.linear(3.0), golden=False)
    assert bench.load(2, onnx_models.linear(5.0), golden=False).made_by == "build"


def test_another_graph_is_built(bench: Bench) -> None:
    """Other operators, sizes or integers: a plan of another structure is no source."""
    bench.load(1, onnx_models.linear(3.0))
    other = onnx_models.linear(3.0)
    other.graph.node[1].op_type = "Sub"
    assert bench.load(2, other).made_by == "build"


def test_plans_that_cannot_be_refitted_are_not(tmp_path: Path) -> None:
    """Where the options say so, plans are built without that flag, and built anew each time."""
    bench = Bench(tmp_path, options=Options(refittable=False))
    bench.load(1, onnx_models.linear(3.0))
    assert bench.library.seen.builds[0]["flags"] == []
    assert bench.load(2, onnx_models.linear(5.0)).made_by == "build"


@pytest.mark.parametrize("offset", [0, 200, -1])
def test_a_damaged_plan_is_never_given_to_the_library(bench: Bench, offset: int) -> None:
    """One flipped bit, anywhere: the plan is thrown away unread by TensorRT, and built again."""
    bench.load(1, onnx_models.linear(3.0))
    (path,) = bench.plans()
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    bench.restart()
    session = bench.load(1, onnx_models.linear(3.0))
    assert session.made_by == "build"
    assert "our index says" in session.notes[0]
    assert bytes(data) not in bench.library.seen.loaded
    bench.restart()
    assert bench.load(1, onnx_models.linear(3.0)).made_by == "load"


@pytest.mark.parametrize(
    "change",
    [
        {"driver": "CUDA 12080; 570.1"},
        {"gpu": "Orin Nano"},
        {"compute": (8, 9)},
        {"processors": 8},
        {"memory_bytes": 4 << 30},
    ],
)
def test_another_device_builds_its_own(bench: Bench, change: dict[str, Any]) -> None:
    """A new driver, or the disk in another machine: the old plan is not tried, and goes."""
    bench.load(1, onnx_models.linear(3.0))
    bench.gpu.move(**change)
    bench.restart()
    session = bench.load(1, onnx_models.linear(3.0))
    assert (session.made_by, session.notes) == ("build", ())
    assert len(bench.library.seen.loaded) == 1
    assert len(bench.plans()) == 1


def test_another_release_of_the_library_builds_its_own(bench: Bench) -> None:
    """Plans of 10.3 are not tried on 10.16."""
    bench.load(1, onnx_models.linear(3.0))
    bench.version = "10.16.1.11"
    bench.restart()
    assert bench.load(1, onnx_models.linear(3.0)).made_by == "build"


def test_a_plan_that_the_library_refuses_goes(bench: Bench) -> None:
    """Its hash fits, but TensorRT cannot load it: it is built again, and the error is told."""
    bench.load(1, onnx_models.linear(3.0))
    bench.restart()
    bench.library.seen.load_fails_once = True
    session = bench.load(1, onnx_models.linear(3.0))
    assert session.made_by == "build"
    assert "cannot load the plan" in session.notes[0]


def test_without_room_nothing_is_kept(tmp_path: Path) -> None:
    """A plan larger than what the quota has left is used, not kept, and that is said."""
    bench = Bench(tmp_path, room_bytes=10)
    session = bench.load(1, onnx_models.linear(3.0))
    assert "quota has no room" in session.notes[0]
    assert not bench.plans()
    assert (answer(session) == 3 * X).all()


def test_load_alone_keeps_nothing(bench: Bench) -> None:
    """Who has no folder to keep plans in, such as a publisher, gets a session all the same."""
    session = bench.engine.load(bench.save(1, onnx_models.linear(2.0)))
    assert (answer(session) == 2 * X).all()
    assert not bench.folder.exists()


def test_what_cannot_be_loaded_says_why(bench: Bench) -> None:
    """Missing, no model, refused by the parser, refused by the builder, a shape as input."""
    entry = bench.top / "artifact1" / "model.onnx"
    with pytest.raises(NotFoundError):
        bench.engine.load(entry)
    entry.parent.mkdir()
    entry.write_bytes(b"just text" * 20)
    with pytest.raises(FormatError):
        bench.engine.load(entry)
    with pytest.raises(RefusedError, match="UNSUPPORTED_NODE"):
        bench.engine.load(bench.save(1, onnx_models.identity(onnx.TensorProto.DOUBLE)))
    bench.library.seen.build_fails = True
    with pytest.raises(RefusedError, match="no tactic"):
        bench.engine.load(bench.save(1, onnx_models.linear(2.0)))


def test_weights_outside_the_folder_are_refused(bench: Bench) -> None:
    """External data that leaves the model's folder never reaches the library's parser."""
    path = bench.save(1, onnx_models.linear(4.0), external="weights.bin")
    model = onnx.load(str(path), load_external_data=False)
    (bench.top / "weights.bin").write_bytes((path.parent / "weights.bin").read_bytes())
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FormatError):
        bench.engine.load(path)


def test_an_unknown_release_is_refused() -> None:
    """What was not looked at is not tried."""
    gpu = FakeGpu()
    library = fake_tensorrt(gpu)
    for version in ("10.2.0", "8.6.1", "12.0"):
        library.__version__ = version
        with pytest.raises(RefusedError, match=r"10\.3 to 11"):
            TensorRt(library=library, device=gpu)


def test_facts_promise_no_operator_sets() -> None:
    """The parser tries any version; only a trial tells."""
    gpu = FakeGpu()
    facts = TensorRt(library=fake_tensorrt(gpu), device=gpu).facts()
    assert (facts.name, facts.version) == ("tensorrt", "10.3.0")
    assert "Orin (8, 7)" in facts.device
    assert (facts.ir_version_max, dict(facts.opset_max)) == (None, {})


def test_files_are_for_our_user_alone(tmp_path: Path) -> None:
    """Folder 0700, plan and index 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        bench = Bench(tmp_path)
        bench.load(1, onnx_models.linear(3.0))
    finally:
        os.umask(before)
    assert bench.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in bench.folder.iterdir()} == {0o600}


def test_a_lack_of_memory_is_no_fault_of_model_or_plan(bench: Bench) -> None:
    """Loading and building say what is short, and the kept plan stays for the next try."""
    bench.load(1, onnx_models.linear(3.0))
    seen = bench.library.seen
    seen.says = "Error Code 1: Cuda Runtime (out of memory)"
    seen.build_fails = seen.load_fails = True
    with pytest.raises(ResourceError, match="out of memory"):
        bench.load(1, onnx_models.linear(3.0))
    with pytest.raises(ResourceError, match="out of memory"):
        bench.engine.load(bench.save(2, onnx_models.linear(2.0)))
    seen.build_fails = seen.load_fails = False
    assert bench.load(1, onnx_models.linear(3.0)).made_by == "load"


def test_where_plans_cannot_be_kept_the_model_is_served(bench: Bench) -> None:
    """A disk that went read-only: built each time, and that is said."""
    bench.top.joinpath("file").write_bytes(b"")
    known = bench.known(1, bench.save(1, onnx_models.linear(3.0)))
    room = replace(known.room, folder=bench.top / "file" / "plans")
    session = bench.engine.load_known(
        bench.top / "artifact1" / "model.onnx", replace(known, room=room)
    )
    assert session.made_by == "build"
    assert "no plans in" in session.notes[0]
    assert (answer(session) == 3 * X).all()


def test_options_of_a_model_are_another_plan(bench: Bench) -> None:
    """What the operator sets reaches the builder, and a plan built otherwise is not taken."""
    bench.load(1, onnx_models.linear(3.0))
    entry = bench.top / "artifact1" / "model.onnx"
    known = replace(bench.known(1, entry), options={"level": 5, "batch_max": 2}, batch_max=16)
    assert bench.engine.load_known(entry, known).made_by == "build"
    built = bench.library.seen.builds[-1]
    assert (built["level"], built["bounds"]["x"][2]) == (5, [16, 4])
    assert len(bench.plans()) == 2
    with pytest.raises(RefusedError, match="no option"):
        bench.engine.load_known(entry, replace(known, options={"speed": 9}))


def test_options_for_an_engine_without_any_are_refused(bench: Bench) -> None:
    """ONNX Runtime has none of these: a setting that does nothing is an error."""
    entry = bench.save(1, onnx_models.linear(3.0))
    known = replace(bench.known(1, entry), options={"level": 5})
    with pytest.raises(RefusedError, match="engine onnxruntime has no options"):
        load_model(open_engine("onnxruntime"), entry, known)


def test_a_refit_with_another_graph_says_what_is_missing(bench: Bench) -> None:
    """What the parser of weights found is in the error; it owns them until they are copied."""
    built = calls.build(
        bench.library,
        bench.engine.log,
        bench.save(1, onnx_models.mlp((4, 3))),
        profiles_of({"x": (-1, 4)}, {}, Options()),
        Options(),
    )
    engine = bench.engine.deserialized(built.plan)
    with pytest.raises(EngineError, match="not there, or of another size"):
        calls.refit(
            bench.library,
            bench.engine.log,
            engine,
            bench.save(2, onnx_models.linear(2.0)),
        )


def test_what_a_build_measured_shortens_the_next(bench: Bench) -> None:
    """Also of another model, after a restart; on another GPU everything is measured again."""
    bench.load(1, onnx_models.linear(3.0))
    assert bench.library.seen.measured == ["Add", "Mul"]
    bench.restart()
    bench.load(2, onnx_models.mlp((4, 4, 4)), golden=False)
    assert "Add" not in bench.library.seen.measured
    bench.gpu.move(gpu="Orin Nano")
    bench.restart()
    bench.load(3, onnx_models.linear(3.0, features=5), golden=False)
    assert bench.library.seen.measured == ["Add", "Mul"]
    assert len(list(bench.folder.glob("*.timings"))) == 1


@pytest.mark.parametrize("damage", [b"", b"short", bytes(64), None])
def test_damaged_timings_are_left_out(bench: Bench, damage: bytes | None) -> None:
    """Their hash does not fit, or the library does not take them: measured again."""
    bench.load(1, onnx_models.linear(3.0))
    (path,) = bench.folder.glob("*.timings")
    broken = b"broken"
    path.write_bytes(hashlib.sha256(broken).digest() + broken if damage is None else damage)
    bench.load(2, onnx_models.linear(3.0, features=5), golden=False)
    assert bench.library.seen.measured == ["Add", "Mul"]


def broken(*arguments: object) -> None:
    """As the bindings answer where the library gave a null pointer, or threw."""
    raise TypeError("pybind11::init(): factory function returned nullptr")


def test_what_the_bindings_raise_has_our_errors(bench: Bench) -> None:
    """No runtime, no builder, no refitter, a plan that makes the library throw."""
    bench.load(1, onnx_models.linear(3.0))
    bench.library.OnnxParserRefitter = broken
    refitted = bench.load(2, onnx_models.linear(5.0))
    assert refitted.made_by == "build"
    assert "nullptr" in refitted.notes[0]
    bench.engine._runtime.deserialize_cuda_engine = broken
    with pytest.raises(EngineError, match="cannot load the plan"):
        bench.load(3, onnx_models.linear(5.0, features=6), golden=False)
    bench.library.Builder = broken
    with pytest.raises(RefusedError, match="cannot build a plan"):
        bench.load(3, onnx_models.linear(5.0, features=6), golden=False)
    bench.library.Runtime = broken
    with pytest.raises(RefusedError, match="does not start"):
        bench.restart_engine()


def test_a_full_disk_keeps_no_plan_and_serves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session works; that nothing was kept is a note."""

    def full(*arguments: object) -> None:
        raise ResourceError("no space left")

    monkeypatch.setattr(Plans, "_write", full)
    session = bench.load(1, onnx_models.linear(3.0))
    assert (answer(session) == 3 * X).all()
    assert all("no space left" in note for note in session.notes)
    assert len(session.notes) == 2
