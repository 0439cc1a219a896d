"""LiteRT behind the engine contract."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import FormatError, NotFoundError, RefusedError, UsageError
from edge_sdk.engines import (
    EngineError,
    Session,
    available_engines,
    litert,
    make_golden,
    open_engine,
    replay,
)
from tests.support.tflite_models import Shape, Weights, add_model

if "litert" not in available_engines():
    pytest.skip("neither LiteRT nor its predecessor is installed here", allow_module_level=True)


def load(folder: Path, *, signature: tuple[int, ...] | None = (-1, 4)) -> Session:
    """``y = x + (0, 1, 2, 3)``."""
    weights = Weights("w", np.arange(4, dtype=np.float32).reshape(1, 4))
    path = folder / "model.tflite"
    path.write_bytes(add_model([weights], shape=Shape(inputs=(1, 4), signature=signature)))
    return open_engine("litert").load(path)


def test_facts_name_the_release() -> None:
    """No operator set: TFLite models name operators one by one."""
    facts = open_engine("litert").facts()
    assert (facts.name, facts.ir_version_max, dict(facts.opset_max)) == ("litert", None, {})
    assert facts.version


def test_a_run_writes_into_given_buffers(tmp_path: Path) -> None:
    """The signature has -1 where the size is free; the buffer is filled, nothing returned."""
    session = load(tmp_path)
    assert session.inputs[0].shape == (-1, 4)
    assert session.output_shapes({"x": (2, 4)}) == {"y": None}
    y = np.zeros((2, 4), np.float32)
    assert session.run({"x": np.ones((2, 4), np.float32)}, {"y": y}) == {}
    assert (y == [1, 2, 3, 4]).all()


def test_a_fixed_shape_is_promised(tmp_path: Path) -> None:
    """Without a dynamic dimension the output's shape is known before the run."""
    assert load(tmp_path, signature=None).output_shapes({"x": (1, 4)}) == {"y": (1, 4)}


def test_shapes_may_change_between_runs(tmp_path: Path) -> None:
    """Bindings of different shapes take turns on one interpreter."""
    session = load(tmp_path)
    bindings = [session.bind({"x": np.full((n, 4), n, np.float32)}, {}) for n in (1, 3, 2)]
    for _ in range(2):
        for number, binding in zip((1, 3, 2), bindings, strict=True):
            y = binding.run()["y"]
            assert y.shape == (number, 4)
            assert (y[:, 0] == number).all()


def test_threads_take_turns(tmp_path: Path) -> None:
    """One interpreter, four threads, shapes of their own: everyone gets their own answer."""
    session = load(tmp_path)
    wrong: list[int] = []

    def work(number: int) -> None:
        binding = session.bind({"x": np.full((number, 4), number, np.float32)}, {})
        for _ in range(50):
            y = binding.run()["y"]
            if y.shape != (number, 4) or not (y[:, 0] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_golden_samples_work(tmp_path: Path) -> None:
    """A sample made here passes here, and another output is found."""
    session = load(tmp_path)
    sample = make_golden(session, session.inputs, None)
    assert replay(session, sample, {}).ok
    assert not replay(session, {**sample, "output.y": sample["output.y"] + 1}, {}).ok


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Wrong input, a buffer of another shape, a closed session."""
    session = load(tmp_path)
    with pytest.raises(UsageError, match="shape"):
        session.run({"x": np.ones((1, 5), np.float32)}, {})
    with pytest.raises(UsageError, match="buffer"):
        session.run({"x": np.ones((1, 4), np.float32)}, {"y": np.zeros((2, 4), np.float32)})
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run({"x": np.ones((1, 4), np.float32)}, {})


def test_what_it_has_no_notion_of_is_refused(tmp_path: Path) -> None:
    """It has no providers, and it keeps no weights in the file."""
    engine = open_engine("litert")
    with pytest.raises(RefusedError, match="none, this engine knows no providers"):
        engine.load(tmp_path / "model.tflite", providers=("cuda",))
    with pytest.raises(RefusedError, match="only auto, prepacked"):
        engine.load(tmp_path / "model.tflite", loading="mapped")


@pytest.mark.parametrize("numpy_version", ["2.0.1", "10.1.0"])
def test_the_predecessor_needs_the_numpy_of_its_time(
    monkeypatch: pytest.MonkeyPatch, numpy_version: str
) -> None:
    """Where only tflite-runtime is installed, NumPy 2 is refused with what to install instead."""
    found = importlib.util.find_spec

    def without_litert(name: str, package: str | None = None) -> object:
        return None if name == "ai_edge_litert" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_litert)
    monkeypatch.setattr(np, "__version__", numpy_version)
    with pytest.raises(RefusedError, match="install numpy<2"):
        litert.LiteRt()


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    """Missing, not TFLite, cut off, and an operator that nobody has."""
    engine = open_engine("litert")
    path = tmp_path / "bad.tflite"
    with pytest.raises(NotFoundError):
        engine.load(path)
    whole = add_model([Weights("w", np.ones((1, 4), np.float32))])
    for content in (b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            engine.load(path)
    wrong = add_model([Weights("w", np.ones((1, 3), np.float32))])
    path.write_bytes(wrong)
    with pytest.raises((RefusedError, FormatError)):
        engine.load(path)
