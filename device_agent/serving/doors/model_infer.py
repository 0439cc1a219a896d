"""One inference request of the Open Inference Protocol, from message to bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from device_agent.config import ModelConfig
from device_agent.serving.answer import Answer
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.doors.answers import AnswerWriter, Output, Told
from device_agent.serving.doors.classification import classify
from device_agent.serving.doors.demanded import check_version, demanded, parameter_value
from device_agent.serving.doors.regions import RegionPart, Regions, Use
from device_agent.serving.doors.repeated import RepeatedRequests
from device_agent.serving.doors.tensors import given_tensors, region_part
from edge_sdk.base import UnavailableError, UsageError
from edge_sdk.client.wire_tensors import DATATYPES, encode_array
from edge_sdk.engines.contract import Array
from edge_sdk.protos import inference_v2_pb2 as pb

WhenGone = Callable[[Callable[[], None]], bool]

_CLASSES = "classification"
_NO_DEADLINE_S = 1e9  # a call without one has some 1e18 left, more than a lock can wait
_DEFAULT = ModelConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """How an output is to be answered: its ``classes`` largest values (0: whole), and where."""

    classes: int = 0
    part: RegionPart | None = None


class ModelInfer:
    """Translates between messages and the dispatcher; any thread may call."""

    def __init__(
        self, dispatcher: Dispatcher, regions: Regions, models: Mapping[str, ModelConfig]
    ) -> None:
        self._dispatcher = dispatcher
        self._regions = regions
        self._models = models
        self._writer = AnswerWriter()
        self._repeated = RepeatedRequests()

    def __call__(self, wire: bytes, *, left_s: float | None, when_gone: WhenGone) -> bytes:
        """A ModelInferResponse for a ModelInferRequest, both encoded. ``left_s``: until nobody
        waits for it any more.

        Raises: EdgeError.
        """
        ready = self._repeated.take(wire)
        if ready is None:
            return self._parsed(wire, left_s, when_gone)
        kind = ready.kind
        try:
            with self._dispatcher.run(
                ready.request,
                timeout_s=patience_s(kind.demanded.timeout_s, left_s),
                when_gone=when_gone,
            ) as answer:
                arrays = list(answer.outputs.values())
                written = ready.told.again(answer.identity, arrays)
                if written is None:
                    outputs = [self._output(name, answer, None) for name in answer.outputs]
                    written = self._writer.answer(answer.identity, kind.id, outputs)
                    ready.told = Told.of(written, answer.identity, outputs)
                return written
        finally:
            self._repeated.give_back(ready)

    def _parsed(self, wire: bytes, left_s: float | None, when_gone: WhenGone) -> bytes:
        request = parse(wire)
        check_version(request.model_version)
        wants = demanded(request)
        with self._regions.use() as use:
            wishes = _wishes(request, use)
            tensors = given_tensors(request, use)
            with self._dispatcher.infer(
                request.model_name,
                request.model_version,
                tensors,
                wanted=[output.name for output in request.outputs],
                timeout_s=patience_s(wants.timeout_s, left_s),
                when_gone=when_gone,
                priority=wants.priority,
                sequence=wants.sequence,
            ) as answer:
                outputs = [self._output(name, answer, wishes.get(name)) for name in answer.outputs]
                written = self._writer.answer(answer.identity, request.id, outputs)
        self._repeated.learn(wire, request, wants, tensors)
        return written

    def _output(self, name: str, answer: Answer, wish: _Wish | None) -> Output:
        array = answer.outputs[name]
        dtype = answer.specs[name].dtype
        if wish is None:
            return Output(name, DATATYPES[dtype], array.shape, content(array))
        if wish.classes:
            array = self._classes(name, answer, wish.classes)
            return Output(name, "BYTES", array.shape, content(array))
        assert wish.part is not None
        wish.part.write(content(array))
        return Output(name, DATATYPES[dtype], array.shape, b"")

    def _classes(self, name: str, answer: Answer, count: int) -> Array:
        spec = answer.specs[name]
        served = self._models.get(answer.identity.model, _DEFAULT)
        return classify(
            answer.outputs[name],
            spec.dtype,
            count,
            labels=answer.identity.labels,
            batched=served.batch_max > 1 and spec.shape[:1] == (-1,),
        )


def parse(wire: bytes) -> pb.ModelInferRequest:
    """Raises: UsageError."""
    try:
        return pb.ModelInferRequest.FromString(wire)
    except DecodeError:
        raise UsageError(f"{len(wire)} bytes are no ModelInferRequest") from None


def content(array: Array) -> bytes | Array:
    """What is sent of a tensor: itself where its memory is already what travels."""
    if array.dtype == object or sys.byteorder == "big" or not array.flags.c_contiguous:
        return encode_array(array)
    return array


def _wishes(request: pb.ModelInferRequest, use: Use) -> dict[str, _Wish]:
    """Of the outputs that are not simply sent whole. Raises: UsageError, NotFoundError."""
    wishes = {}
    for output in request.outputs:
        parameters = output.parameters
        if not parameters:
            continue
        classes = 0
        if _CLASSES in parameters:
            classes = int(parameter_value(parameters[_CLASSES], _CLASSES, ("int64_param",)))
            if classes < 1:
                raise UsageError(f"invalid value for {_CLASSES!r} parameter, expected > 0")
        part = region_part(output.name, parameters, use)
        if classes and part is not None:
            raise UsageError(f"shared memory can't be set on {_CLASSES} output {output.name!r}")
        if classes or part is not None:
            wishes[output.name] = _Wish(classes=classes, part=part)
    return wishes


def patience_s(own_s: float | None, left_s: float | None) -> float | None:
    """How long a request may wait for its turn: its own word, or the call's deadline.

    Raises: UnavailableError where that is over.
    """
    if left_s is None or left_s > _NO_DEADLINE_S:
        return own_s
    if left_s <= 0:
        raise UnavailableError("Request timeout expired before anybody had time for it")
    return left_s if own_s is None else min(own_s, left_s)
