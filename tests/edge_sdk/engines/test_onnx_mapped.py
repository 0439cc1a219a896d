"""ONNX models whose weights stay in their file while they run."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_sdk.base import FormatError
from edge_sdk.engines import Loading, Session, onnxruntime, open_engine
from edge_sdk.engines.onnx_mapped import skeleton_of
from edge_sdk.engines.onnxruntime import OnnxRuntime, import_onnxruntime
from edge_sdk.formats import TensorMap, TensorRange, open_model
from tests.support import onnx_models, weighty_models

WEIGHT_BYTES = 1024 * 1024 * 4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three matrices of 4 MiB in one file whose name is not plain, at odd places."""
    model = onnx_models.mlp((1024, 1024, 1024, 1024), seed=3)
    path = tmp_path_factory.mktemp("mapped") / "größe 1.onnx"
    model.doc_string = "x" * (1 - len(model.SerializeToString()) % 4)
    return onnx_models.save(model, path)


def private_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10


def mappings(path: Path) -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if path.name in line]


def load(path: Path, loading: Loading) -> Session:
    return open_engine("onnxruntime").load(path, loading=loading)


def answer(session: Session, rows: int = 1) -> np.ndarray:
    x = np.random.default_rng(rows).standard_normal((rows, 1024)).astype(np.float32)
    return session.run({"x": x}, {})["y"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_weights_are_used_in_their_file(path: Path) -> None:
    """Each matrix is a mapping of the one file, and no private memory is taken for it."""
    load(path, "mapped").close()  # what the library keeps of its first session
    before = private_bytes()
    session = load(path, "mapped")
    answer(session)
    assert private_bytes() - before < WEIGHT_BYTES // 4
    assert len(mappings(path)) == 3
    assert all(line.split()[1].endswith("p") for line in mappings(path))  # never the file
    session.close()
    assert mappings(path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_prepacked_weights_are_copies(path: Path) -> None:
    """The control: what is not asked for does not happen."""
    session = load(path, "prepacked")
    assert mappings(path) == []
    session.close()


def test_answers_are_those_of_prepacked_weights(path: Path) -> None:
    """The order of additions may differ, nothing else, also for batches; the file is as it was."""
    before = hashlib.sha256(path.read_bytes()).digest()
    mapped, prepacked = load(path, "mapped"), load(path, "prepacked")
    for rows in (1, 5):
        assert np.allclose(answer(mapped, rows), answer(prepacked, rows), rtol=1e-3, atol=1e-4)
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_prepacked_answers_are_those_of_the_library_alone(path: Path) -> None:
    """Bit for bit what it computes when it reads the file by itself."""
    alone = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for rows in (1, 5):
        x = np.random.default_rng(rows).standard_normal((rows, 1024)).astype(np.float32)
        (expected,) = alone.run(["y"], {"x": x})
        assert answer(load(path, "prepacked"), rows).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", list(weighty_models.MODELS))
def test_weights_of_every_use_may_lie_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whatever the graph does with its weights, the skeleton is loaded, and answers as the file
    does: prepacked bit for bit, mapped but for the order of additions."""
    by_skeleton: list[object] = []
    tried = OnnxRuntime._from_skeleton

    def watched(self: OnnxRuntime, *given: Any) -> object:
        by_skeleton.append(tried(self, *given))
        return by_skeleton[-1]

    monkeypatch.setattr(OnnxRuntime, "_from_skeleton", watched)
    path = onnx_models.save(weighty_models.MODELS[kind](), tmp_path / "model.onnx")
    sessions = {how: load(path, how) for how in ("prepacked", "mapped")}
    inputs = {
        spec.name: np.random.default_rng(1).standard_normal(spec.shape).astype(spec.dtype)
        for spec in sessions["mapped"].inputs
    }
    alone = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in alone.get_outputs()]
    expected = dict(zip(names, alone.run(names, inputs), strict=True))
    for how, session in sessions.items():
        got = session.run(inputs, {})
        for name, array in expected.items():
            if how == "prepacked":
                assert got[name].tobytes() == array.tobytes()
            assert np.allclose(got[name], array, rtol=1e-2, atol=1e-2)
    assert len(by_skeleton) == 2
    assert None not in by_skeleton


def test_what_the_skeleton_cannot_serve_the_library_reads_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is refused only where the library refuses the file."""
    monkeypatch.setattr(onnxruntime, "skeleton_of", lambda _: b"not a model")
    assert np.isfinite(answer(load(path, "mapped"))).all()
    monkeypatch.setattr(onnxruntime, "folder_of", lambda _: str(path.parent / "nowhere"))
    monkeypatch.setattr(onnxruntime, "skeleton_of", skeleton_of)
    assert np.isfinite(answer(load(path, "prepacked"))).all()


def test_a_file_outlives_its_name(path: Path, tmp_path: Path) -> None:
    """The store may remove an artifact while it serves: its pages stay."""
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(path.read_bytes())
    session = load(copy, "mapped")
    copy.unlink()
    assert np.array_equal(answer(session), answer(load(path, "mapped")))


def test_weights_beside_the_model_are_mapped_too(tmp_path: Path) -> None:
    """Some in a file of their own, one inside: all are found, from any working folder."""
    model = onnx_models.mlp((1024, 1024, 1024), seed=4)
    path = onnx_models.save(model, tmp_path / "deep" / "m.onnx", external="weights.bin")
    mixed = onnx.load(str(path), load_external_data=False)
    mixed.graph.initializer[0].CopyFrom(model.graph.initializer[0])
    onnx.external_data_helper.load_external_data_for_tensor(
        mixed.graph.initializer[0], str(path.parent)
    )
    mixed.graph.initializer[0].ClearField("data_location")
    mixed.graph.initializer[0].ClearField("external_data")
    path.write_bytes(mixed.SerializeToString())
    session = load(path, "mapped")
    assert len(mappings(path.parent / "weights.bin")) == len(mappings(path)) == 1
    assert np.array_equal(answer(session), answer(load(path, "mapped")))


def test_a_link_is_loaded_without_its_place(path: Path, tmp_path: Path) -> None:
    """Through a link the library takes the file as it is: slower, and right."""
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    assert skeleton_of(open_model(link)) is None
    assert np.allclose(answer(load(link, "mapped")), answer(load(path, "mapped")), atol=1e-4)


def test_a_damaged_model_says_so(path: Path, tmp_path: Path) -> None:
    """A file that is cut off is refused before it is mapped."""
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FormatError):
        load(cut, "mapped")


def ranged(tmp_path: Path, offset: int, *, dtype: str = "float32") -> TensorMap:
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(1 << 16))
    tensor = TensorRange(
        name="w", dtype=dtype, shape=(1 << 13,), file=path.name, offset=offset, length=1 << 15
    )
    return TensorMap(
        format="onnx", path=path, size_bytes=1 << 16, tensors=(tensor,), external_files=()
    )


def test_processors_that_may_not_read_anywhere_get_what_lies_well(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 32-bit ARM a tensor at an odd place stays inside; where all can be read, none does."""
    taken: list[frozenset[TensorRange]] = []

    def made(_path: Path, outside: frozenset[TensorRange]) -> bytes:
        taken.append(outside)
        return b""

    monkeypatch.setattr("edge_sdk.engines.onnx_mapped.onnx_skeleton", made)
    for offset, dtype, machine, leaves in (
        (4097, "float32", "armv7l", False),
        (4098, "float32", "armv7l", False),
        (4100, "float32", "armv7l", True),
        (4098, "float16", "armv7l", True),
        (4097, "int4", "armv7l", True),
        (4097, "float32", "aarch64", True),
        (4097, "float32", "x86_64", True),
    ):
        found = skeleton_of(ranged(tmp_path, offset, dtype=dtype), machine=machine)
        assert (found is not None) is leaves, (offset, dtype, machine)
    assert len(taken) == 5


def test_small_weights_stay_inside(tmp_path: Path) -> None:
    """A page of its own for each would cost more than it saves."""
    path = onnx_models.save(onnx_models.mlp((32, 16, 8)), tmp_path / "small.onnx")
    assert skeleton_of(open_model(path)) is None
