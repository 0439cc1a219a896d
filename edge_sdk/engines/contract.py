"""What every engine offers, whatever library is behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import RefusedError, UsageError
from edge_sdk.manifest.model import TensorSpec

Array = NDArray[Any]
Shape = tuple[int, ...]

# Where a model's weights are while it runs. ``mapped``: in its file, whose pages the system
# reads when they are needed and may take back. ``prepacked``: copied into memory in the order
# in which this processor computes fastest. ``auto``: as the engine does unless told.
Loading = Literal["auto", "mapped", "prepacked"]

# How a tensor of each type of a signature lies in NumPy. bfloat16 travels as its bit patterns,
# so that no device needs a package for it; strings are ``str`` in an object array.
STORAGE: Mapping[str, np.dtype[Any]] = {
    **{
        name: np.dtype(name)
        for name in (
            *("float16", "float32", "float64", "bool"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        )
    },
    "bfloat16": np.dtype("uint16"),
    "string": np.dtype(object),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine is and the newest models it reads (``opset_max`` by operator domain).

    ``loadings``: the ways of loading that it can be asked for; ``providers``: what it can
    compute on here, where there is a choice; ``device``: what it computes on, where that is not
    the processor.
    """

    name: str
    version: str
    ir_version_max: int | None
    opset_max: Mapping[str, int]
    loadings: tuple[Loading, ...] = ("auto",)
    providers: tuple[str, ...] = ()
    device: str = ""


class Binding(Protocol):
    """Buffers bound to a session once, run many times; never by two threads at once.

    Whoever bound the buffers keeps them in place for as long as the binding lives.
    """

    def run(self) -> Mapping[str, Array]:
        """Computes from the bound inputs into the bound outputs.

        Returns the outputs that have no buffer: views that the next run may overwrite.
        Raises: EngineError; UsageError where an output does not fit the buffer it was given.
        """


class Session(Protocol):
    """A loaded model. Runs on several bindings at once are allowed."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def output_shapes(self, inputs: Mapping[str, Shape]) -> Mapping[str, Shape | None]:
        """Shapes of the outputs for shapes of the inputs, as far as the model promises them.

        None: known only after the run. A promise can be wrong: see ``Binding.run``.
        """

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        """Binds all inputs and any of the outputs. Raises: UsageError (tensor does not fit)."""

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """One run into the buffers given; outputs without a buffer are returned, freshly made.

        Raises: UsageError, EngineError.
        """

    def close(self) -> None:
        """Frees the model. What was bound to it must not be run afterwards."""


class Engine(Protocol):
    """A library that runs models. Making one imports the library; its module must not.

    ``libraries``, an attribute of the class that may be left out, names modules of which one
    must be installed.
    """

    def facts(self) -> EngineFacts: ...

    def load(
        self,
        entry: Path,
        *,
        threads: int = 1,
        loading: Loading = "auto",
        providers: Sequence[str] = (),
    ) -> Session:
        """Loads the model whose main file is ``entry``; its other files lie beside it.

        ``providers``: what to compute on, the preferred one first; none: the engine's default.
        Raises: NotFoundError; FormatError (damaged); RefusedError (this engine cannot run it,
        or not so: it does not do silently something else than it was asked for).
        """


def check_loading(engine: str, loading: Loading, known: Sequence[Loading]) -> None:
    """Raises: RefusedError for a way of loading that an engine does not know."""
    if loading not in known:
        raise RefusedError(
            f"engine {engine} cannot load a model {loading}, only {', '.join(known)}",
            engine=engine,
        )


def check_providers(engine: str, wanted: Sequence[str], available: Sequence[str]) -> None:
    """Raises: RefusedError for the first of ``wanted`` that is not available."""
    for name in wanted:
        if name not in available:
            raise RefusedError(
                f"engine {engine} has no provider {name!r} here; available: "
                f"{', '.join(available) or 'none, this engine knows no providers'}",
                engine=engine,
                provider=name,
            )


def check_arrays(
    specs: tuple[TensorSpec, ...], arrays: Mapping[str, Array], *, what: str, whole: bool
) -> None:
    """Holds arrays against a signature: names, types, shapes, memory in C order.

    ``whole``: every tensor of ``specs`` must be there. Raises: UsageError with expected and got.
    """
    by_name = {spec.name: spec for spec in specs}
    for name, array in arrays.items():
        spec = by_name.get(name)
        if spec is None:
            raise UsageError(f"the model has no {what} {name!r}, only {sorted(by_name)}")
        if array.dtype != STORAGE[spec.dtype]:
            raise UsageError(
                f"{what} {name!r} must be {spec.dtype} ({STORAGE[spec.dtype]} in NumPy), "
                f"got {array.dtype}"
            )
        if not shape_fits(spec.shape, array.shape):
            raise UsageError(
                f"{what} {name!r} must have shape {list(spec.shape)}, got {list(array.shape)}"
            )
        if not array.flags.c_contiguous:
            raise UsageError(f"{what} {name!r} does not lie in C order")
    missing = sorted(set(by_name) - set(arrays)) if whole else []
    if missing:
        raise UsageError(f"{what} {missing[0]!r} is missing; the model needs {sorted(by_name)}")


def shape_fits(wanted: Shape, got: Shape) -> bool:
    """Whether a shape fits one of a signature, in which -1 stands for any size."""
    return len(wanted) == len(got) and all(
        size in (-1, actual) for size, actual in zip(wanted, got, strict=True)
    )
