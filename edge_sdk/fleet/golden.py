"""The golden sample of an artifact: made here, or taken from elsewhere as it is.

Tolerances follow the type of each output. Where the model computes in 8 bits or fewer, the
same weights answer visibly differently on another processor (VNNI against AVX2, x86 against
ARM), so the bounds grow with the size of the expected values themselves.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import FormatError, RefusedError, UsageError, explain_os_error
from edge_sdk.engines import EngineError, available_engines, make_golden, open_engine
from edge_sdk.engines.contract import STORAGE
from edge_sdk.formats import (
    DTYPE_BITS,
    TensorMap,
    is_npz,
    read_npz,
    read_safetensors,
    write_safetensors,
)
from edge_sdk.manifest import Signature, TensorSpec, Tolerance

INPUT = "input."
OUTPUT = "output."

# dtype of an output: (atol, rtol). Types that are not here are compared exactly.
TOLERANCES: Mapping[str, tuple[str, str]] = {
    "float64": ("1e-7", "1e-5"),
    "float32": ("1e-4", "1e-3"),
    "float16": ("1e-2", "1e-2"),
    "bfloat16": ("5e-2", "5e-2"),
}
QUANTISED_RTOL = "0.05"  # also of the largest expected value, as atol
QUANTISED_STEPS = "2"  # of an 8-bit output
# What to do about an input or output that is no tensor.
_REMEDIES: Mapping[str, str] = {
    "sequence": "end its graph with ConcatFromSequence or SequenceAt, which make tensors of it "
    "(a classifier of scikit-learn: convert it with zipmap=False)",
    "map": "give keys and values as two tensors (a classifier of scikit-learn: convert it with "
    "zipmap=False)",
    "optional": "decide in its graph, with OptionalHasElement and OptionalGetElement",
}
_NARROW = frozenset(name for name, bits in DTYPE_BITS.items() if bits <= 8) - {"bool"}
_QUANTISED_SHARE = 0.25

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSample:
    """``data`` are the bytes of the safetensors file; ``how`` says for people how it was made."""

    data: bytes
    origin: Literal["given", "seeded"]
    signature: Signature
    tolerances: Mapping[str, Tolerance]
    how: str


def sample_for(
    model: TensorMap,
    engine: str | None,
    *,
    golden: Path | None,
    tolerances: Mapping[str, Tolerance],
    seed: int = 0,
) -> GoldenSample:
    """The golden sample of ``model``, from ``golden`` (inputs, or inputs with their
    outputs) or from seeded inputs where that is None.

    Raises: FormatError, UsageError (inputs do not fit), RefusedError (the model cannot be
    served, or its engine is not installed here and ``golden`` has no outputs).
    """
    given = read_sample(golden) if golden is not None else None
    signature = signature_of(model)
    if given is not None and any(name.startswith(OUTPUT) for name in given):
        signature = _checked(given, signature, str(golden), any_shape=_without_rank(model))
        tensors, origin, how = given, "given", f"golden sample taken as it is from {golden}"
    elif signature is None:
        raise UsageError(
            f"{model.path} does not say what it takes and gives: give --golden a sample with "
            "input.* and output.* tensors, or publish it with --serve none"
        )
    else:
        tensors = _computed(model.path, engine, signature, given, seed)
        origin = "seeded" if given is None else "given"
        source = f"seeded inputs (seed {seed})" if given is None else f"the inputs of {golden}"
        how = f"golden sample computed here by {engine} from {source}"
    results = [array for name, array in tensors.items() if name.startswith(OUTPUT)]
    if given is not None and not any(array.size for array in results):
        raise UsageError(f"the golden sample {golden} proves nothing: every output is empty")
    stream = io.BytesIO()
    write_safetensors(stream, dict(sorted(tensors.items())))
    return GoldenSample(
        data=stream.getvalue(),
        origin="seeded" if origin == "seeded" else "given",
        signature=signature,
        tolerances=_tolerances(signature, tensors, tolerances, quantised=is_quantised(model)),
        how=how,
    )


def signature_of(model: TensorMap) -> Signature | None:
    """What the file itself says of inputs and outputs; None where its format says nothing.

    Raises: RefusedError (a sequence, a map or a type that no device can serve).
    """
    if model.facts is None:
        return None
    for what, tensors in (("input", model.facts.inputs), ("output", model.facts.outputs)):
        for one in tensors:
            if one.dtype not in STORAGE:
                remedy = _REMEDIES.get(one.dtype, "change the model")
                raise RefusedError(
                    f"{what} {one.name!r} of {model.path} is {one.dtype}; only tensors of numbers, "
                    f"bool and string can be served: {remedy}, or publish it with --serve none",
                    tensor=one.name,
                )
    return Signature(
        inputs=tuple(
            TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape)
            for one in model.facts.inputs
        ),
        outputs=tuple(
            TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape)
            for one in model.facts.outputs
        ),
    )


def is_quantised(model: TensorMap) -> bool:
    """Whether a quarter or more of the weights' bytes are numbers of 8 bits or fewer."""
    total: int = sum(one.length for one in model.tensors)
    narrow: int = sum(one.length for one in model.tensors if one.dtype in _NARROW)
    return total > 0 and narrow >= _QUANTISED_SHARE * total


def read_sample(path: Path) -> dict[str, Array]:
    """Tensors named ``input.*`` and perhaps ``output.*``, from NPZ or safetensors, by content.

    Names in an NPZ without a prefix are inputs. Raises: FormatError, NotFoundError.
    """
    try:
        tensors = read_npz(path) if is_npz(path) else dict(read_safetensors(path))
    except OSError as error:
        raise explain_os_error(error, path) from error
    prefixed = {
        name if name.startswith((INPUT, OUTPUT)) else INPUT + name: array
        for name, array in tensors.items()
    }
    if not prefixed or len(prefixed) != len(tensors):
        raise FormatError(f"{path} names no tensor, or one input twice")
    return prefixed


def _computed(
    entry: Path,
    engine: str | None,
    signature: Signature,
    given: Mapping[str, Array] | None,
    seed: int,
) -> dict[str, Array]:
    if engine is None or engine not in available_engines():
        raise RefusedError(
            f"engine {engine or '(none)'} is not installed here, so the golden sample of {entry} "
            "cannot be computed: install edge-model-sdk[agent] for onnxruntime or "
            "edge-model-sdk[litert] for litert, or give --golden a sample that has output.* tensors"
        )
    inputs = None if given is None else {name[len(INPUT) :]: array for name, array in given.items()}
    session = open_engine(engine).load(entry)
    try:
        return make_golden(session, signature.inputs, inputs, seed=seed)
    except EngineError as error:
        raise UsageError(
            f"{entry} fails on {'seeded inputs' if inputs is None else 'the inputs given'}: "
            f"{error.message}; give --golden inputs that it takes"
        ) from error
    finally:
        session.close()


def _without_rank(model: TensorMap) -> frozenset[str]:
    """Tensors of whose shape the model says nothing at all."""
    if model.facts is None:
        return frozenset()
    tensors = (*model.facts.inputs, *model.facts.outputs)
    return frozenset(one.name for one in tensors if not one.rank_known)


def _checked(
    tensors: Mapping[str, Array],
    signature: Signature | None,
    where: str,
    *,
    any_shape: frozenset[str],
) -> Signature:
    """Holds a sample from elsewhere against the signature, or reads the signature out of it."""
    if signature is None:
        return Signature(
            inputs=_specs_of(tensors, INPUT),
            outputs=_specs_of(tensors, OUTPUT),
        )
    wanted = {INPUT + one.name: one for one in signature.inputs}
    wanted |= {OUTPUT + one.name: one for one in signature.outputs}
    for name in sorted(set(wanted) ^ set(tensors)):
        has = "has no" if name in wanted else "has, but the model does not,"
        raise UsageError(f"the golden sample {where} {has} {name!r}", tensor=name)
    for name, spec in wanted.items():
        _check_dtype(tensors[name], spec, f"{name!r} in {where}")
        if spec.name not in any_shape:
            _check_shape(tensors[name], spec, f"{name!r} in {where}")
    return signature


def _check_shape(array: Array, spec: TensorSpec, what: str) -> None:
    shape = array.shape[:-1] if spec.dtype == "string" else array.shape
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise UsageError(f"{what} has shape {list(shape)}, the model says {list(spec.shape)}")


def _check_dtype(array: Array, spec: TensorSpec, what: str) -> None:
    # Strings lie in a sample as uint8, each with its length (edge_sdk.engines.golden).
    stored = np.dtype(np.uint8) if spec.dtype == "string" else STORAGE[spec.dtype]
    if array.dtype != stored:
        raise UsageError(f"{what} is {array.dtype.name}, the model says {spec.dtype}")


def _specs_of(tensors: Mapping[str, Array], prefix: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name[len(prefix) :], dtype=array.dtype.name, shape=tuple(array.shape))
        for name, array in sorted(tensors.items())
        if name.startswith(prefix)
    )


def _tolerances(
    signature: Signature,
    tensors: Mapping[str, Array],
    given: Mapping[str, Tolerance],
    *,
    quantised: bool,
) -> dict[str, Tolerance]:
    names = {one.name for one in signature.outputs}
    unknown = sorted(set(given) - names)
    if unknown:
        raise UsageError(f"--tolerance names {unknown[0]!r}; outputs are {sorted(names)}")
    chosen = {}
    for spec in signature.outputs:
        array = tensors[OUTPUT + spec.name]
        default = _quantised_tolerance(spec, array) if quantised else _plain_tolerance(spec)
        chosen[spec.name] = given.get(spec.name, default)
    return chosen


def _plain_tolerance(spec: TensorSpec) -> Tolerance:
    atol, rtol = TOLERANCES.get(spec.dtype, ("0", "0"))
    return Tolerance(atol=atol, rtol=rtol)


def _quantised_tolerance(spec: TensorSpec, want: Array) -> Tolerance:
    if spec.dtype in ("int8", "uint8"):
        return Tolerance(atol=QUANTISED_STEPS, rtol="0")
    plain = _plain_tolerance(spec)
    if spec.dtype not in TOLERANCES or spec.dtype == "bfloat16" or want.size == 0:
        return plain
    finite = np.abs(want[np.isfinite(want)].astype(np.float64))
    largest = float(finite.max()) if finite.size else 0.0
    atol = max(largest * float(QUANTISED_RTOL), float(plain.atol))
    return Tolerance(atol=decimal_text(atol), rtol=QUANTISED_RTOL)


def decimal_text(value: float) -> str:
    """A decimal string of two significant digits, without exponent: 0.0012."""
    text = format(Decimal(f"{value:.1e}"), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
