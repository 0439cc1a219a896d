"""Golden samples: inputs with the outputs that a model must give for them.

Tensors are named ``input.<name>`` and ``output.<name>``, as in the safetensors file of an
artifact. That format has no strings: a string tensor of shape s is stored as uint8 of shape
(*s, 4 + longest), each a little-endian length, UTF-8 bytes and zeros.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from edge_sdk.base import FormatError, UsageError
from edge_sdk.engines.contract import STORAGE, Array, Session
from edge_sdk.manifest.model import TensorSpec, Tolerance

INPUT = "input."
OUTPUT = "output."
DEFAULT_TOLERANCE = Tolerance(atol="1e-4", rtol="1e-3")
_LENGTH = np.dtype("<u4")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """``mismatches`` says of each output that differs how; ``compute_ns`` is the engine's time."""

    ok: bool
    mismatches: tuple[str, ...]
    compute_ns: int


def make_golden(
    session: Session,
    signature_inputs: Sequence[TensorSpec],
    inputs: Mapping[str, Array] | None,
    *,
    seed: int = 0,
) -> dict[str, Array]:
    """Runs the model on ``inputs``, or on seeded ones where None, and keeps both sides.

    Raises: UsageError (inputs do not fit the model), EngineError.
    """
    if inputs is None:
        inputs = seeded_inputs(signature_inputs, seed=seed)
    else:
        inputs = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    outputs = session.run(inputs, {})
    return {
        **{INPUT + name: _store(array) for name, array in inputs.items()},
        **{OUTPUT + name: _store(array) for name, array in outputs.items()},
    }


def replay(
    session: Session, tensors: Mapping[str, Array], tolerances: Mapping[str, Tolerance]
) -> GoldenResult:
    """Runs the sample's inputs and compares with its outputs; every output of it must fit.

    An output without a tolerance of its own is held to ``DEFAULT_TOLERANCE``.
    Raises: UsageError (the sample does not fit the model), FormatError, EngineError.
    """
    binding = session.bind(golden_inputs(session, tensors), {})
    before_ns = time.perf_counter_ns()
    got = binding.run()
    compute_ns = time.perf_counter_ns() - before_ns
    mismatches = compare(session, got, tensors, tolerances)
    return GoldenResult(ok=not mismatches, mismatches=mismatches, compute_ns=compute_ns)


def golden_inputs(session: Session, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The sample's inputs as this session takes them. Raises: FormatError."""
    dtypes = {spec.name: spec.dtype for spec in session.inputs}
    return {
        name[len(INPUT) :]: _restore(array, dtypes.get(name[len(INPUT) :], ""))
        for name, array in tensors.items()
        if name.startswith(INPUT)
    }


def compare(
    session: Session,
    got: Mapping[str, Array],
    tensors: Mapping[str, Array],
    tolerances: Mapping[str, Tolerance],
) -> tuple[str, ...]:
    """What differs between outputs and those of the sample; empty: nothing.

    Raises: UsageError where the sample has no output, or one that the model lacks.
    """
    dtypes = {spec.name: spec.dtype for spec in session.outputs}
    names = [name[len(OUTPUT) :] for name in tensors if name.startswith(OUTPUT)]
    if not names:
        raise UsageError("the golden sample has no output to compare with")
    unknown = sorted(set(names) - set(got))
    if unknown:
        raise UsageError(f"the golden sample has output {unknown[0]!r}, the model does not")
    problems = []
    for name in sorted(names):
        want = _restore(tensors[OUTPUT + name], dtypes[name])
        tolerance = tolerances.get(name, DEFAULT_TOLERANCE)
        problem = _difference(got[name], want, dtypes[name], tolerance)
        if problem:
            problems.append(f"output {name!r} {problem}")
    return tuple(problems)


def seeded_inputs(specs: Sequence[TensorSpec], *, seed: int = 0) -> dict[str, Array]:
    """The same inputs for the same signature and seed; a dynamic dimension becomes 1.

    Floats are normal, 8-bit integers use their whole range (images), wider ones are 0 or 1,
    since they often are indices and must not leave a table.
    """
    random = np.random.default_rng(seed)
    return {spec.name: _seeded(spec, random) for spec in specs}


def _seeded(spec: TensorSpec, random: np.random.Generator) -> Array:
    shape = tuple(max(size, 1) if size < 0 else size for size in spec.shape)
    dtype = STORAGE[spec.dtype]
    if spec.dtype == "string":
        return np.full(shape, "sample", dtype)
    if spec.dtype == "bfloat16":
        return (random.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16).astype(
            dtype
        )
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return random.integers(0, 2, shape).astype(dtype)


def _difference(got: Array, want: Array, dtype: str, tolerance: Tolerance) -> str:
    if got.shape != want.shape:
        return f"has shape {list(got.shape)}, expected {list(want.shape)}"
    if dtype == "string":
        wrong = got != want
    else:
        left, right = widened(got, dtype), widened(want, dtype)
        wrong = ~np.isclose(
            left,
            right,
            atol=float(Decimal(tolerance.atol)),
            rtol=float(Decimal(tolerance.rtol)),
            equal_nan=True,
        )
    count = int(np.count_nonzero(wrong))
    if not count:
        return ""
    where = tuple(int(index[0]) for index in np.nonzero(wrong))
    return (
        f"differs in {count} of {got.size} elements, first at {list(where)}: "
        f"got {got[where]}, expected {want[where]}"
    )


def widened(array: Array, dtype: str) -> Array:
    """Numbers wide enough that a difference cannot overflow."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return array.astype(np.longdouble)
    return array.astype(np.float64)


def _store(array: Array) -> Array:
    if array.dtype != object:
        return np.array(array)
    coded = [text.encode() for text in array.ravel()]
    width = _LENGTH.itemsize + max(map(len, coded), default=0)
    stored = np.zeros((len(coded), width), np.uint8)
    for row, text in zip(stored, coded, strict=True):
        row[: _LENGTH.itemsize] = np.frombuffer(np.array(len(text), _LENGTH).tobytes(), np.uint8)
        row[_LENGTH.itemsize : _LENGTH.itemsize + len(text)] = np.frombuffer(text, np.uint8)
    return stored.reshape(*array.shape, width)


def _restore(array: Array, dtype: str) -> Array:
    if dtype != "string":
        return np.ascontiguousarray(array)
    if array.dtype != np.uint8 or array.ndim == 0 or array.shape[-1] < _LENGTH.itemsize:
        raise FormatError("a string tensor of the golden sample is not stored as strings are")
    width = array.shape[-1] - _LENGTH.itemsize
    texts = np.empty(array.shape[:-1], object)
    flat = texts.reshape(-1)
    for number, row in enumerate(array.reshape(-1, array.shape[-1])):
        length = int(row[: _LENGTH.itemsize].copy().view(_LENGTH)[0])
        if length > width:
            raise FormatError("a string of the golden sample is longer than its tensor")
        try:
            flat[number] = bytes(row[_LENGTH.itemsize : _LENGTH.itemsize + length]).decode()
        except UnicodeDecodeError:
            raise FormatError("a string of the golden sample is not UTF-8") from None
    return texts
