"""One model of the device, seen from an app."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sdk.base import NotFoundError, UnavailableError, UsageError
from edge_sdk.client.lane import NotOnLaneError
from edge_sdk.client.lane_request import LaneInput, What
from edge_sdk.client.prepared import PreparedCall
from edge_sdk.client.result import (
    INFER_DEADLINE_S,
    Result,
    SequenceStep,
    check_priority,
    check_version,
    is_named_by_text,
)
from edge_sdk.client.stubs import UNARY_DEADLINE_S
from edge_sdk.client.wire_tensors import DATATYPES, DTYPES, decode_array, encode_array
from edge_sdk.manifest.model import TensorSpec
from edge_sdk.protos import agent_v1_pb2 as agent_pb
from edge_sdk.protos import inference_v2_pb2 as pb
from edge_sdk.rpc import typed_errors

if TYPE_CHECKING:
    from edge_sdk.client.connection import Client

OUTPUTS_BYTES = 1 << 20
SWITCH_STATES = ("switched", "rolled_back")
# NumPy puts a type's name together, in Python, each time it is asked.
_NAMES = {np.dtype(name): name for name in DATATYPES if name not in ("bfloat16", "string")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one version, read-only, under the names that the publisher gave them."""

    folder: Path
    version: str
    names: tuple[str, ...]

    def path(self, name: str) -> Path:
        """Raises: NotFoundError."""
        if name not in self.names:
            raise NotFoundError(f"version {self.version} has no file {name!r}, only {self.names}")
        return self.folder / name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEvent:
    """Something that happened to the model; ``number`` continues ``events(after=...)``."""

    number: int
    at_ms: int
    version: str
    state: str
    reason: str
    message: str
    facts: Mapping[str, str]


class Model:
    """For any number of threads."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self._client = client
        self._plain: What = (name, "", ())
        self._datatypes: Mapping[str, str] | None = None  # of inputs, where it was asked

    def infer(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        deadline_s: float = INFER_DEADLINE_S,
        priority: int = 0,
        sequence: SequenceStep | None = None,
    ) -> Result:
        """Runs the model once. ``version``: only that one may answer; ``outputs``: only these.
        ``priority``: 1 high, 2 medium, 3 low, 0 as the agent has it for this model.
        ``sequence``: the step of which sequence this is, for a model with state.

        Text is an array of str. bfloat16 is an array of its bit patterns (uint16), or of a
        NumPy type of that name.

        Raises: VersionNotActiveError; NotFoundError (no such model); UsageError (tensors do
        not fit); UnavailableError (not running, too busy, or not in time); ResourceError.
        """
        if priority:
            check_priority(priority)
        what = self._plain
        if version or outputs:
            what = (self.name, version or "", tuple(outputs))
        lanes = self._client.lanes
        if lanes is not None and (sequence is None or not is_named_by_text(sequence)):
            try:
                result = lanes.repeat(what, inputs, deadline_s, priority, sequence)
            except UsageError:
                if self._datatypes is None:
                    raise
                self._datatypes = None  # the model may be another since: asked again
            else:
                if result is not None:
                    if version:
                        check_version(result.version, version)
                    return result
        return self._infer_anew(what, inputs, deadline_s, priority, sequence)

    def prepare(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        outputs_bytes: int = OUTPUTS_BYTES,
    ) -> PreparedCall:
        """For inputs of always the same shapes and types, which these are the first of: a call
        whose inputs are written where the agent reads them, and whose outputs are views.

        ``outputs_bytes``: so much room is kept for outputs.
        Raises: UsageError (a type that no model takes), NotFoundError, UnavailableError.
        """
        self._client.inference()
        what = (self.name, version or "", tuple(outputs))

        def otherwise(arrays: Mapping[str, ArrayLike], **more: Any) -> Result:
            return self.infer(arrays, version=version, outputs=outputs, **more)

        given = self._given(inputs)
        lanes = self._client.lanes
        return PreparedCall(what, given, lanes, otherwise, outputs_bytes=outputs_bytes)

    @property
    def version(self) -> str:
        """The version that is active now.

        Raises: NotFoundError (no such model, or none of it active yet), UnavailableError.
        """
        if not self._client.has_agent:
            return self._metadata().versions[0]
        agent = self._client.agent()
        with agent.typed_errors():
            listed = agent.list_models(agent_pb.ListModelsRequest(), timeout=UNARY_DEADLINE_S)
        for one in listed.models:
            if one.model == self.name and one.version:
                return one.version
        raise NotFoundError(f"no version of {self.name} is active on this device", model=self.name)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Names, types and shapes of what the active version takes; -1: of any size.

        Raises: NotFoundError, UnavailableError, UsageError (a type that is not known here).
        """
        found = self._metadata().inputs
        unknown = [one.datatype for one in found if one.datatype not in DTYPES]
        if unknown:
            raise UsageError(f"{self.name} takes {unknown[0]}, which is not known here")
        return tuple(
            TensorSpec(name=one.name, dtype=DTYPES[one.datatype], shape=tuple(one.shape))
            for one in found
        )

    @contextmanager
    def files(self) -> Iterator[Files]:
        """The folder of the active version; it stays in place until the block ends.

        A switch meanwhile does not change it: enter again for the new version's files.
        Raises: NotFoundError, UnavailableError.
        """
        agent = self._client.agent()
        call = agent.hold(agent_pb.HoldRequest(model=self.name))
        try:
            with agent.typed_errors():
                held = next(call, None)
            if held is None:
                raise UnavailableError(f"{agent.peer} ended without naming a folder")
            yield Files(
                folder=Path(held.folder), version=held.version, names=tuple(sorted(held.files))
            )
        finally:
            call.cancel()

    def events(
        self, *, after: int = 0, states: Sequence[str] | None = SWITCH_STATES
    ) -> Iterator[ModelEvent]:
        """Switches of this model, those kept and then those to come, without end.

        ``after``: the number of the last event already seen. ``states`` None: every step of
        an update. Raises: UnavailableError when the agent is gone; go on with ``after``.
        """
        agent = self._client.agent()
        call = agent.events(agent_pb.EventsRequest(after=after, model=self.name))
        try:
            with agent.typed_errors():
                for event in call:
                    if states is None or event.state in states:
                        yield _event(event)
        finally:
            call.cancel()

    def _infer_anew(
        self,
        what: What,
        inputs: Mapping[str, ArrayLike],
        deadline_s: float,
        priority: int,
        sequence: SequenceStep | None,
    ) -> Result:
        known = self._datatypes
        try:
            return self._ask(what, self._given(inputs), deadline_s, priority, sequence)
        except UsageError:
            if known is None:
                raise
        self._datatypes = None  # the model may be another since
        return self._ask(what, self._given(inputs), deadline_s, priority, sequence)

    def _ask(
        self,
        what: What,
        given: Sequence[LaneInput],
        deadline_s: float,
        priority: int,
        sequence: SequenceStep | None,
    ) -> Result:
        """By the lane, else by gRPC."""
        inference = self._client.inference()
        lanes = self._client.lanes
        if lanes is not None and not is_named_by_text(sequence):
            try:
                result = lanes.infer(
                    what, given, deadline_s=deadline_s, priority=priority, sequence=sequence
                )
            except NotOnLaneError:
                pass
            else:
                check_version(result.version, what[1])
                return result
        request = _request(what, given, priority, sequence)
        with typed_errors(inference.peer):
            response = inference.infer(request, timeout=deadline_s)
        return _result(response, what[1])

    def _given(self, inputs: Mapping[str, ArrayLike]) -> list[LaneInput]:
        """Raises: UsageError (a type that no model takes), and what asking the model raises."""
        return [self._input(name, np.asarray(array)) for name, array in inputs.items()]

    def _input(self, name: str, array: NDArray[Any]) -> LaneInput:
        if array.dtype.kind in "OUS":
            return LaneInput(name=name, dtype="string", array=array.astype(object))
        dtype = _NAMES.get(array.dtype) or array.dtype.name
        if dtype not in DATATYPES:
            raise UsageError(f"input {name!r} is {array.dtype}, which no model takes")
        if dtype == "uint16":
            # Both numbers and the bit patterns of bfloat16 look like this.
            if self._datatypes is None:
                self._datatypes = {one.name: one.datatype for one in self._metadata().inputs}
            dtype = "bfloat16" if self._datatypes.get(name) == "BF16" else dtype
        return LaneInput(name=name, dtype=dtype, array=array)

    def _metadata(self) -> pb.ModelMetadataResponse:
        inference = self._client.inference()
        with typed_errors(inference.peer):
            return inference.metadata(
                pb.ModelMetadataRequest(name=self.name), timeout=UNARY_DEADLINE_S
            )


def _request(
    what: What, given: Sequence[LaneInput], priority: int, sequence: SequenceStep | None
) -> pb.ModelInferRequest:
    model, version, outputs = what
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    for one in given:
        request.inputs.add(name=one.name, datatype=DATATYPES[one.dtype], shape=one.array.shape)
        request.raw_input_contents.append(encode_array(one.array))
    for name in outputs:
        request.outputs.add(name=name)
    if priority:
        request.parameters["priority"].uint64_param = priority
    if sequence is not None:
        if isinstance(sequence.id, str):
            request.parameters["sequence_id"].string_param = sequence.id
        else:
            request.parameters["sequence_id"].int64_param = sequence.id
        request.parameters["sequence_start"].bool_param = sequence.start
        request.parameters["sequence_end"].bool_param = sequence.end
    return request


def _result(response: pb.ModelInferResponse, version: str) -> Result:
    check_version(response.model_version, version)
    if len(response.raw_output_contents) != len(response.outputs):
        raise UsageError("the answer does not carry its outputs as raw contents")
    outputs = {
        output.name: decode_array(output.datatype, output.shape, data)
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }
    return Result(outputs, response.model_version)


def _event(event: agent_pb.Event) -> ModelEvent:
    return ModelEvent(
        number=event.number,
        at_ms=event.at_ms,
        version=event.version,
        state=event.state,
        reason=event.reason,
        message=event.message,
        facts=dict(event.facts),
    )
