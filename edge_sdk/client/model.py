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
from edge_sdk.client.errors import VersionNotActiveError
from edge_sdk.client.lane import LaneInput, NotOnLaneError
from edge_sdk.client.stubs import UNARY_DEADLINE_S
from edge_sdk.client.wire_tensors import DATATYPES, decode_array, encode_array
from edge_sdk.protos import agent_v1_pb2 as agent_pb
from edge_sdk.protos import inference_v2_pb2 as pb
from edge_sdk.rpc import typed_errors

if TYPE_CHECKING:
    from edge_sdk.client.connection import Client

INFER_DEADLINE_S = 30.0
SWITCH_STATES = ("switched", "rolled_back")
# NumPy puts a type's name together, in Python, each time it is asked.
_NAMES = {np.dtype(name): name for name in DATATYPES if name not in ("bfloat16", "string")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Outputs by name, and the version that computed every one of them."""

    outputs: Mapping[str, NDArray[Any]]
    version: str


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

    def infer(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        deadline_s: float = INFER_DEADLINE_S,
    ) -> Result:
        """Runs the model once. ``version``: only that one may answer; ``outputs``: only these.

        Text is an array of str. bfloat16 is an array of its bit patterns (uint16), or of a
        NumPy type of that name.

        Raises: VersionNotActiveError; NotFoundError (no such model); UsageError (tensors do
        not fit); UnavailableError (not running, too busy, or not in time); ResourceError.
        """
        inference = self._client.inference()
        given = [self._given(name, np.asarray(array)) for name, array in inputs.items()]
        lanes = self._client.lanes
        if lanes is not None:
            try:
                answer = lanes.infer(
                    self.name, version or "", given, outputs=outputs, deadline_s=deadline_s
                )
            except NotOnLaneError:
                pass
            else:
                _check_version(answer.version, version)
                return Result(outputs=answer.outputs, version=answer.version)
        request = pb.ModelInferRequest(model_name=self.name, model_version=version or "")
        for one in given:
            request.inputs.add(name=one.name, datatype=DATATYPES[one.dtype], shape=one.array.shape)
            request.raw_input_contents.append(encode_array(one.array))
        for name in outputs:
            request.outputs.add(name=name)
        with typed_errors(inference.peer):
            response = inference.infer(request, timeout=deadline_s)
        return _result(response, version)

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

    def _given(self, name: str, array: NDArray[Any]) -> LaneInput:
        if array.dtype.kind in "OUS":
            return LaneInput(name=name, dtype="string", array=array.astype(object))
        dtype = _NAMES.get(array.dtype) or array.dtype.name
        if dtype not in DATATYPES:
            raise UsageError(f"input {name!r} is {array.dtype}, which no model takes")
        if dtype == "uint16":
            # Both numbers and the bit patterns of bfloat16 look like this.
            wanted = {one.name: one.datatype for one in self._metadata().inputs}
            dtype = "bfloat16" if wanted.get(name) == "BF16" else dtype
        return LaneInput(name=name, dtype=dtype, array=array)

    def _metadata(self) -> pb.ModelMetadataResponse:
        inference = self._client.inference()
        with typed_errors(inference.peer):
            return inference.metadata(
                pb.ModelMetadataRequest(name=self.name), timeout=UNARY_DEADLINE_S
            )


def _check_version(active: str, version: str | None) -> None:
    if version and active != version:
        raise VersionNotActiveError(
            f"version {version} was demanded and {active} answered", version=version, active=active
        )


def _result(response: pb.ModelInferResponse, version: str | None) -> Result:
    _check_version(response.model_version, version)
    if len(response.raw_output_contents) != len(response.outputs):
        raise UsageError("the answer does not carry its outputs as raw contents")
    outputs = {
        output.name: decode_array(output.datatype, output.shape, data)
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }
    return Result(outputs=outputs, version=response.model_version)


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
