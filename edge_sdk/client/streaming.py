"""A stream of frames through a model: the next ones are read while one is computed.

A thread reads the source and lays each frame where the agent will read it; who iterates asks,
one frame after the other, in their order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.base import EdgeError, UsageError
from edge_sdk.client.errors import SequenceNotStartedError
from edge_sdk.client.model import OUTPUTS_BYTES, Model
from edge_sdk.client.prepared import PreparedCall
from edge_sdk.client.result import INFER_DEADLINE_S, Result, SequenceStep, check_priority
from edge_sdk.client.waiting import Waiting, WhenFull

Frame = Mapping[str, ArrayLike]
_JOIN_S = 1.0  # how long closing waits for a source that is slow to give its frame


@dataclass(slots=True, kw_only=True)
class Answered:
    """What the model said about one frame.

    ``number``: which one of the source, from 0; ``dropped``: how many before it were, since the
    answer before. ``error`` instead of ``result`` only where errors are wanted as answers.
    """

    number: int
    dropped: int
    result: Result | None
    error: EdgeError | None = None


def stream(
    model: Model,
    frames: Iterable[Frame],
    *,
    prefetch: int = 2,
    when_full: WhenFull = "block",
    errors: Literal["raise", "answer"] = "raise",
    copy: bool = True,
    version: str | None = None,
    outputs: Sequence[str] = (),
    outputs_bytes: int = OUTPUTS_BYTES,
    deadline_s: float = INFER_DEADLINE_S,
    priority: int = 0,
    sequence: int | str | None = None,
) -> Stream:
    """Answers to the inputs that ``frames`` gives, in their order; close it, or use ``with``.

    ``prefetch``: so many frames wait, read already; one more is held back (``block``), or takes
    the place of the first that waits (``drop-oldest``), or is left out (``drop-newest``). A frame
    is copied when it was read: the source may write into the same arrays again.

    ``errors``: a request that fails ends the stream, or is the answer to its frame. What the
    source raises is raised here, behind the answers to what it gave before. ``copy`` False:
    outputs are good only until the next answer. ``sequence``: its state begins with the first
    frame, and anew behind an answer that says it is gone.

    Raises: UsageError.
    """
    check_priority(priority)
    step = None if sequence is None else SequenceStep(id=sequence, start=True)
    more = {"deadline_s": deadline_s, "priority": priority}
    places = Places(model, version=version, outputs=outputs, outputs_bytes=outputs_bytes)
    return Stream(
        places, frames, prefetch, when_full, errors=errors, copy=copy, step=step, more=more
    )


class Place:
    """Where one frame lies while it waits: a prepared call, or arrays of its own."""

    def __init__(self, call: PreparedCall | None) -> None:
        self.call = call
        self.was_shared = call is not None and call.shared
        self.number = 0
        self.own: dict[str, NDArray[Any]] | None = None

    def lay(self, number: int, frame: Frame) -> None:
        self.number = number
        arrays = {name: np.asarray(array) for name, array in frame.items()}
        self.own = None
        if self.call is None or not _fit(self.call.inputs, arrays):
            self.own = {name: array.copy() for name, array in arrays.items()}
            return
        for name, array in arrays.items():
            self.call.inputs[name][...] = array

    def close(self) -> None:
        if self.call is not None:
            self.call.close()


class Places:
    """Used again and again: taken by who reads, given back by who asks."""

    def __init__(
        self, model: Model, *, version: str | None, outputs: Sequence[str], outputs_bytes: int
    ) -> None:
        self._model = model
        self._outputs_bytes = outputs_bytes
        self._version = version
        self._outputs = outputs
        self._lock = threading.Lock()
        self._idle: list[Place] = []
        self._closed = False

    def take(self, frame: Frame) -> Place:
        """For this frame, or others of its shapes."""
        with self._lock:
            place = self._idle.pop() if self._idle else None
        if place is not None and place.call is not None:
            if place.call.shared or not place.was_shared:
                return place
            place.close()  # the agent began anew: perhaps it shares again
        try:
            call = self._model.prepare(
                frame,
                version=self._version,
                outputs=self._outputs,
                outputs_bytes=self._outputs_bytes,
            )
        except EdgeError:
            return Place(None)  # asking says the same, to who asks
        return Place(call)

    def run(self, place: Place, *, step: SequenceStep | None, more: Mapping[str, Any]) -> Result:
        """Raises: as ``Model.infer``."""
        if place.own is None and place.call is not None:
            return place.call.run(sequence=step, **more)
        return self._model.infer(
            place.own or {}, version=self._version, outputs=self._outputs, sequence=step, **more
        )

    def give_back(self, place: Place) -> None:
        with self._lock:
            if not self._closed and place.call is not None:
                self._idle.append(place)
                return
        place.close()

    def close(self) -> None:
        """Those that are in use are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for place in idle:
            place.close()


class Stream(Iterator[Answered]):
    """Made by ``stream``. For one thread; any may close it."""

    def __init__(
        self,
        places: Places,
        frames: Iterable[Frame],
        prefetch: int,
        when_full: WhenFull,
        *,
        errors: Literal["raise", "answer"],
        copy: bool,
        step: SequenceStep | None,
        more: Mapping[str, Any],
    ) -> None:
        if errors not in ("raise", "answer"):
            raise UsageError(f"errors {errors!r} is neither 'raise' nor 'answer'")
        self._places = places
        self._waiting: Waiting[Place] = Waiting(prefetch, when_full, places.give_back)
        self._errors = errors
        self._copy = copy
        self._step = step
        self._more = more
        self._in_hand: Place | None = None
        self._asking = False
        self._next_number = 0
        self._reader = _Reader(places, self._waiting, iter(frames))
        self._reader.start()

    @property
    def read(self) -> int:
        """How many frames the source gave."""
        return self._reader.read

    def __next__(self) -> Answered:
        self._let_go()
        place = self._waiting.take()
        if place is None:
            failure = None if self._waiting.closed else self._reader.failure
            self.close()
            if failure is not None:
                raise failure
            raise StopIteration
        self._in_hand = place
        dropped = place.number - self._next_number
        self._next_number = place.number + 1
        result, error = self._answer(place)
        return Answered(number=place.number, dropped=dropped, result=result, error=error)

    def close(self) -> None:
        """Reads no more; a request that is being asked ends as it ends. A source that gives no
        frame is left to end with its next one."""
        self._waiting.close()
        self._places.close()
        if not self._asking:
            self._let_go()
        if self._reader is not threading.current_thread():
            self._reader.join(_JOIN_S)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """One that is forgotten reads no more either."""
        if hasattr(self, "_reader"):
            self._waiting.close()
            self._places.close()
            self._let_go()

    def _answer(self, place: Place) -> tuple[Result | None, EdgeError | None]:
        self._asking = True  # whoever closes meanwhile leaves its place alone
        try:
            return self._ask(place), None
        except EdgeError as error:
            if self._step is not None and isinstance(error, SequenceNotStartedError):
                self._step = replace(self._step, start=True)
            if self._errors == "answer":
                return None, error
            self._waiting.close()
            raise
        except BaseException:
            self._waiting.close()
            raise
        finally:
            self._asking = False
            if self._waiting.closed:
                self.close()

    def _ask(self, place: Place) -> Result:
        result = self._places.run(place, step=self._step, more=self._more)
        if self._step is not None and self._step.start:
            self._step = replace(self._step, start=False)
        if not self._copy:
            return result
        return Result({name: one.copy() for name, one in result.outputs.items()}, result.version)

    def _let_go(self) -> None:
        place, self._in_hand = self._in_hand, None
        if place is not None:
            self._places.give_back(place)


class _Reader(threading.Thread):
    """Knows nothing of the stream, so that one that is forgotten can go."""

    def __init__(self, places: Places, waiting: Waiting[Place], frames: Iterator[Frame]) -> None:
        super().__init__(name="frames", daemon=True)
        self._places = places
        self._waiting = waiting
        self._frames = frames
        self.read = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for frame in self._frames:
                if self._waiting.closed:
                    return
                if self._waiting.has_room():
                    place = self._places.take(frame)
                    place.lay(self.read, frame)
                    self._waiting.put(place)
                self.read += 1
        except BaseException as error:  # noqa: BLE001 - it is the caller's to see
            self.failure = error
        finally:
            self._waiting.finish()


def _fit(inputs: Mapping[str, NDArray[Any]], arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether frame and prepared inputs have the same names, shapes and types."""
    return inputs.keys() == arrays.keys() and all(
        (array.shape, array.dtype) == (inputs[name].shape, inputs[name].dtype)
        for name, array in arrays.items()
    )
