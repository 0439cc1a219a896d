"""A request that an app makes again and again, without copies at its side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import EdgeError, UnavailableError, UsageError
from edge_sdk.client.lane import GoneBeforeError, Lane, NotOnLaneError
from edge_sdk.client.lane_request import LaneInput, LaneRequest, What, places_of
from edge_sdk.client.lanes import Lanes
from edge_sdk.client.result import (
    INFER_DEADLINE_S,
    Result,
    SequenceStep,
    check_priority,
    check_version,
    is_named_by_text,
)
from edge_sdk.fastlane import aligned

Otherwise = Callable[..., Result]


class PreparedCall:
    """Made by ``Model.prepare``. For one thread at a time; close it, or use it in a ``with``.

    ``inputs`` are arrays to write into: they keep what was written from run to run. On the fast
    lane they are the memory that the agent reads, and a result's outputs are views, good until
    the next run. They stay the app's to use when that is over: where there is no lane, or the
    agent began anew, the same call copies as ``Model.infer`` does (``shared`` is False then).
    """

    def __init__(
        self,
        what: What,
        given: Sequence[LaneInput],
        lanes: Lanes | None,
        otherwise: Otherwise,
        *,
        outputs_bytes: int,
    ) -> None:
        self._what = what
        self._otherwise = otherwise
        self._lane: Lane | None = None
        self._room_bytes = aligned(outputs_bytes)
        self._request = self._share(given, lanes) if lanes is not None else None
        inputs = (
            {one.name: np.array(one.array, order="C") for one in given}
            if self._request is None
            else self._request.arrays()
        )
        self.inputs: Mapping[str, NDArray[Any]] = MappingProxyType(inputs)

    @property
    def shared(self) -> bool:
        """Whether ``inputs`` are the agent's memory still."""
        return self._lane is not None

    def run(
        self,
        *,
        deadline_s: float = INFER_DEADLINE_S,
        priority: int = 0,
        sequence: SequenceStep | None = None,
    ) -> Result:
        """Runs the model on ``inputs`` as they are now.

        Raises: as ``Model.infer``; UsageError where the outputs need more room than was kept.
        """
        lane, request = self._lane, self._request
        if lane is None or request is None or (sequence is not None and is_named_by_text(sequence)):
            return self._elsewhere(deadline_s, priority, sequence)
        if priority:
            check_priority(priority)
        try:
            lane.exchange(request, deadline_s, priority, sequence)
        except (GoneBeforeError, NotOnLaneError):
            self.close()
            return self._elsewhere(deadline_s, priority, sequence)
        except EdgeError:
            if not lane.usable:
                self.close()
            raise
        except BaseException:
            self.close()  # an answer may still come, and would be taken for the next one's
            raise
        if request.outputs_end > self._room_bytes:
            self._refuse(request.outputs_end)
        result = request.shown or request.views()
        if self._what[1]:
            check_version(result.version, self._what[1])
        return result

    def close(self) -> None:
        """Gives the shared memory back; ``inputs`` and outputs at hand stay readable."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.close()

    def __enter__(self) -> PreparedCall:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _share(self, given: Sequence[LaneInput], lanes: Lanes) -> LaneRequest | None:
        """None where the lane cannot carry such a request."""
        if any(one.dtype == "string" for one in given):
            return None
        try:
            lane = lanes.open()
        except NotOnLaneError:
            return None
        try:
            places = places_of(given, {}, begin=self._room_bytes)
            request = lane.make(self._what, given, places)
            request.lay({one.name: one.array for one in given})
        except (NotOnLaneError, GoneBeforeError, UnavailableError):
            lane.close()
            return None
        except BaseException:
            lane.close()
            raise
        self._lane = lane
        return request

    def _elsewhere(self, deadline_s: float, priority: int, sequence: SequenceStep | None) -> Result:
        return self._otherwise(
            self.inputs, deadline_s=deadline_s, priority=priority, sequence=sequence
        )

    def _refuse(self, needed_bytes: int) -> None:
        """Outputs have overwritten the inputs, or lie in memory that is none of this call's."""
        self.close()
        raise UsageError(
            f"the outputs need {needed_bytes} bytes and {self._room_bytes} were kept for them: "
            f"prepare(..., outputs_bytes={needed_bytes}) has room",
            needed_bytes=needed_bytes,
        )
