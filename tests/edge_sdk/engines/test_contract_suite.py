"""What every engine promises, whatever library is behind it: one suite for all of them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.base import EdgeError, FormatError, NotFoundError, RefusedError, UsageError
from edge_sdk.engines import EngineError, Session, available_engines
from edge_sdk.engines.contract import STORAGE, Array
from edge_sdk.tensor_pool import TensorPool
from tests.support.engine_cases import CASES, OFFSETS, Case

Make = Callable[..., Session]


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return usable(request.param)


def usable(name: str) -> Case:
    case = CASES[name]
    if case.needs is not None and case.needs not in available_engines():
        pytest.skip(f"the library of engine {case.needs} is not installed here")
    return case


@pytest.fixture
def session(case: Case, tmp_path: Path) -> Session:
    return case.load(case.add, tmp_path)


def rows(count: int, value: float = 1.0) -> Array:
    return np.full((count, 4), value, np.float32)


def test_facts_say_who_it_is(case: Case) -> None:
    """A name, a release, and that it can be left to choose how it loads."""
    facts = case.engine().facts()
    assert facts.name
    assert facts.version
    assert "auto" in facts.loadings


def test_the_signature_is_the_models(session: Session) -> None:
    """Names, types and shapes, -1 where any size will do."""
    for spec, name in ((session.inputs[0], "x"), (session.outputs[0], "y")):
        assert (spec.name, spec.dtype, spec.shape) == (name, "float32", (-1, 4))


def test_shapes_are_promised_or_left_open(case: Case, tmp_path: Path) -> None:
    """For each output a shape or None, and a fixed one is always known."""
    free = case.load(case.add, tmp_path / "free")
    assert free.output_shapes({"x": (3, 4)})["y"] in ((3, 4), None)
    fixed = case.load(case.fixed, tmp_path / "fixed")
    assert fixed.output_shapes({"x": (1, 4)}) == {"y": (1, 4)}


def test_bound_buffers_are_used_in_place(session: Session) -> None:
    """What is in the input's memory at a run is computed from, and the result is in the output's."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    x = pool.acquire(32).array(np.float32, (2, 4))
    y = pool.acquire(32).array(np.float32, (2, 4))
    binding = session.bind({"x": x}, {"y": y})
    for value in (1.0, 5.0, -2.0):
        x[:] = value
        y[:] = np.nan
        assert binding.run() == {}
        assert (y == value + OFFSETS).all()
        assert (x == value).all()


def test_outputs_without_a_buffer_are_returned(session: Session) -> None:
    """By name, with the model's type, and only those."""
    got = session.bind({"x": rows(3)}, {}).run()
    assert list(got) == ["y"]
    assert got["y"].dtype == np.float32
    assert (got["y"] == 1 + OFFSETS).all()


def test_run_gives_what_later_runs_leave_alone(session: Session) -> None:
    """The results of run, unlike those of a binding, are the caller's."""
    results = [session.run({"x": rows(2, value)}, {})["y"] for value in (1.0, 2.0, 3.0)]
    for value, result in zip((1.0, 2.0, 3.0), results, strict=True):
        assert (result == value + OFFSETS).all()


def test_a_view_that_is_kept_stops_nothing(session: Session) -> None:
    """Who keeps what a binding returned can run again and close, and may still read it."""
    x = rows(2)
    binding = session.bind({"x": x}, {})
    kept = [binding.run()["y"] for _ in range(3)]
    x[:] = 7
    assert (binding.run()["y"] == 7 + OFFSETS).all()
    session.close()
    del session, binding
    gc.collect()
    assert all(np.isfinite(one).all() and one.shape == (2, 4) for one in kept)


def test_bindings_of_one_session_take_turns(session: Session) -> None:
    """Several are bound at once, also of different shapes; each has its own results."""
    made = []
    for count in (1, 3, 2, 3):
        x, y = rows(count), rows(count, np.nan)
        made.append((x, y, session.bind({"x": x}, {"y": y})))
    for turn in range(3):
        for number, (x, _, binding) in enumerate(made):
            x[:] = 10 * turn + number
            assert binding.run() == {}
        for number, (_, y, _) in enumerate(made):
            assert (y == 10 * turn + number + OFFSETS).all()


def test_threads_run_at_once(session: Session) -> None:
    """Each on a binding of its own: nobody gets another's rows, nobody fails."""
    wrong: list[object] = []

    def work(number: int) -> None:
        x, y = rows(number), rows(number)
        binding = session.bind({"x": x}, {"y": y})
        try:
            for turn in range(40):
                x[:] = 100 * number + turn
                binding.run()
                if not (y == 100 * number + turn + OFFSETS).all():
                    wrong.append((number, turn))
        except EdgeError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing"),
        ({"x": np.ones((1, 4), np.float64)}, "float32"),
        ({"x": np.ones((1, 5), np.float32)}, "shape"),
        ({"x": np.ones(4, np.float32)}, "shape"),
        ({"x": np.ones((8, 4), np.float32)[::2]}, "C order"),
        ({"x": np.ones((1, 4), np.float32), "z": np.ones(1, np.float32)}, "'z'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    session: Session, inputs: dict[str, Any], message: str
) -> None:
    """Wrong name, type, shape or layout names what was expected, and harms no later run."""
    with pytest.raises(UsageError, match=message):
        session.bind(inputs, {})
    assert (session.run({"x": rows(1)}, {})["y"] == 1 + OFFSETS).all()


@pytest.mark.parametrize(
    "buffer",
    [np.zeros((1, 4), np.float64), np.zeros((2, 4), np.float32), np.zeros((1, 5), np.float32)],
    ids=["type", "rows", "features"],
)
def test_buffers_that_do_not_fit_are_refused(session: Session, buffer: Array) -> None:
    """By bind or by the run; the buffer is not overrun, and later runs are right."""
    with pytest.raises(UsageError):
        session.run({"x": rows(1)}, {"y": buffer})
    y = rows(1)
    session.run({"x": rows(1)}, {"y": y})
    assert (y == 1 + OFFSETS).all()


def test_no_rows_are_answered_or_refused(session: Session) -> None:
    """A tensor without elements gives one, or an error of ours; never a crash, and not the end."""
    with contextlib.suppress(EdgeError):
        assert session.run({"x": rows(0)}, {})["y"].shape == (0, 4)
    assert (session.run({"x": rows(2)}, {})["y"] == 1 + OFFSETS).all()


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, case in CASES.items() for dtype in case.passes]
)
def test_types_pass_unchanged(tmp_path: Path, name: str, dtype: str) -> None:
    """bfloat16 as its bit patterns; bound and unbound, with no elements too."""
    case = usable(name)
    session = case.load(case.passes[dtype], tmp_path)
    assert session.inputs[0].dtype == session.outputs[0].dtype == dtype
    x = np.array([0, 1, 1, 0, 1]).astype(STORAGE[dtype])
    if dtype == "bfloat16":
        x = np.array([0, 0x3F80, 0x8000, 0x7FC0, 0xFF80], np.uint16)  # 0, 1, -0, nan, -infinity
    got = session.run({"x": x}, {})["y"]
    assert got.dtype == x.dtype
    assert got.tobytes() == x.tobytes()
    y = np.zeros_like(x)
    assert session.run({"x": x}, {"y": y}) == {}
    assert y.tobytes() == x.tobytes()
    with contextlib.suppress(UsageError):  # a plan for one element or more
        assert session.run({"x": x[:0]}, {})["y"].shape == (0,)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.where])
def test_shapes_that_depend_on_data_change_from_run_to_run(tmp_path: Path, name: str) -> None:
    """Returned beside a bound output of fixed shape, and none as well."""
    case = usable(name)
    assert case.where is not None
    session = case.load(case.where, tmp_path)
    x, twice = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    binding = session.bind({"x": x}, {"twice": twice})
    for count in (6, 2, 0, 5):
        x[:] = 0
        x.ravel()[:count] = 1
        got = binding.run()
        assert list(got) == ["where"]
        assert (got["where"] == np.stack(np.nonzero(x))).all()
        assert (twice == 2 * x).all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.texts])
def test_texts_are_texts(tmp_path: Path, name: str) -> None:
    """Strings come back as str, whatever is in them."""
    case = usable(name)
    assert case.texts is not None
    session = case.load(case.texts, tmp_path)
    x = np.array(["", "ü", "a\nb", "z" * 1000], object)
    got = session.run({"x": x}, {})["y"]
    assert got.tolist() == x.tolist()
    assert all(isinstance(text, str) for text in got)


def test_a_closed_session_says_so(session: Session) -> None:
    """Binding and running are errors instead of crashes, also what was bound; closing again is not."""
    binding = session.bind({"x": rows(1)}, {"y": rows(1)})
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.bind({"x": rows(1)}, {}).run()
    try:
        binding.run()
    except EngineError as error:
        assert "closed" in str(error)


def test_what_it_was_not_made_for_is_refused(case: Case, tmp_path: Path) -> None:
    """Another way of loading, a provider that is not there: never something else in silence."""
    path = case.add(tmp_path)
    engine = case.engine()
    with pytest.raises(RefusedError):
        engine.load(path, loading="quickly")  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="available: "):
        engine.load(path, providers=("abacus",))


def test_what_is_no_model_is_an_error_of_ours(case: Case, tmp_path: Path) -> None:
    """No file, no model, half a model."""
    engine = case.engine()
    with pytest.raises(NotFoundError):
        engine.load(tmp_path / "nothing")
    path = case.add(tmp_path)
    whole = path.read_bytes()
    for content in (b"", b"text" * 20, whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            engine.load(path)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.needs])
def test_memory_comes_back(tmp_path: Path, name: str) -> None:
    """A model of 8 MiB loaded, run and closed again and again leaves nothing after a trim.

    A stand-in's memory would say nothing.
    """
    case = usable(name)
    path = case.heavy(tmp_path)
    engine = case.engine()

    def use() -> None:
        session = engine.load(path, loading=case.loading)
        assert (session.run({"x": rows(1)}, {})["y"] == 1 + OFFSETS).all()
        session.close()

    for _ in range(3):
        use()
    before = private_bytes()
    for _ in range(5):
        use()
    assert private_bytes() - before < 4 << 20


def private_bytes() -> int:
    """After what was freed was given back, as a device does after each unload."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10
