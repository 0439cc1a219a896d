"""Messages that repeat are answered as if each had been parsed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from device_agent.serving.doors.demanded import demanded
from device_agent.serving.doors.model_infer import ModelInfer
from device_agent.serving.doors.regions import Regions
from device_agent.serving.doors.repeated import RepeatedRequests
from device_agent.serving.doors.tensors import given_tensors
from edge_sdk.base import EdgeError, UsageError
from edge_sdk.protos import inference_v2_pb2 as pb
from tests.support import onnx_models
from tests.support.serving_door import Serving, serving

MODEL = "team/linear"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    yield serving(
        tmp_path_factory.mktemp("models"),
        {MODEL: onnx_models.linear(2.0), "team/bool": onnx_models.identity(TensorProto.BOOL)},
    )


def message(
    values: list[float], *, columns: int = 4, model: str = MODEL, **more: Any
) -> pb.ModelInferRequest:
    array = np.array(values, np.float32).reshape(-1, columns)
    made = pb.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()], **more)
    made.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return made


class Asked:
    """A door's translator, and how many messages it parsed."""

    def __init__(self, served: Serving) -> None:
        self.infer = ModelInfer(served.dispatcher, Regions(""), {})
        self.parsed = 0
        parse = self.infer._parsed

        def counted(*given: Any) -> bytes:
            self.parsed += 1
            return parse(*given)

        self.infer._parsed = counted  # type: ignore[method-assign]

    def __call__(self, request: pb.ModelInferRequest | bytes) -> pb.ModelInferResponse:
        wire = request if isinstance(request, bytes) else request.SerializeToString()
        told = self.infer(wire, left_s=None, when_gone=lambda then: True)
        return pb.ModelInferResponse.FromString(told)

    def outcome(self, wire: bytes) -> object:
        """The answer as bytes, since not-a-number differs from itself, or the refusal."""
        try:
            return self(wire).SerializeToString(deterministic=True)
        except EdgeError as error:
            return type(error), error.message

    def values(self, request: pb.ModelInferRequest | bytes) -> list[float]:
        return np.frombuffer(self(request).raw_output_contents[0], np.float32).tolist()


def test_the_second_message_of_a_kind_is_not_parsed(served: Serving) -> None:
    """With other values, the answer is theirs; another shape or name is another kind."""
    ask = Asked(served)
    for number in range(4):
        assert ask.values(message([number, 1, 2, 3])) == [2 * number, 2, 4, 6]
    assert ask.parsed == 1
    assert ask.values(message(list(range(8)))) == [2 * one for one in range(8)]
    assert ask.parsed == 2
    assert ask(message([1, 2, 3, 4], id="r7")).id == "r7"
    assert ask(message([5, 6, 7, 8], id="r7")).id == "r7"
    assert ask(message([5, 6, 7, 8], id="r8")).id == "r8"
    assert ask.parsed == 4


def test_a_switch_is_seen(served: Serving, tmp_path: Path) -> None:
    """A known message is answered by whoever is active, and refused where it no longer fits."""
    ask = Asked(served)
    name = "team/switched"
    served.serve(name, onnx_models.linear(1.0), "1.0.0")
    for _ in range(2):
        assert ask.values(message([1, 2, 3, 4], model=name)) == [1, 2, 3, 4]
    served.serve(name, onnx_models.linear(3.0), "2.0.0")
    answer = ask(message([1, 2, 3, 4], model=name))
    assert answer.model_version == "2.0.0"
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [3, 6, 9, 12]
    served.serve(name, onnx_models.linear(1.0, features=2), "3.0.0")
    with pytest.raises(UsageError, match="unexpected shape"):
        ask(message([1, 2, 3, 4], model=name))
    assert ask.parsed == 1


def test_truth_values_are_made_so(served: Serving) -> None:
    """Any byte other than 0 arrives as 1, also the second time."""
    ask = Asked(served)
    for _ in range(2):
        made = pb.ModelInferRequest(model_name="team/bool", raw_input_contents=[b"\0\2\xff\1"])
        made.inputs.add(name="x", datatype="BOOL", shape=[4])
        assert ask(made).raw_output_contents[0] == b"\0\1\1\1"
    assert ask.parsed == 1


def test_what_says_more_is_parsed_each_time(served: Serving) -> None:
    """Texts, tensors and outputs with parameters, sequences, typed contents."""
    ask = Asked(served)
    classes = message([1, 2, 3, 4])
    classes.outputs.add(name="y").parameters["classification"].int64_param = 1
    sequence = message([1, 2, 3, 4])
    sequence.parameters["sequence_id"].int64_param = 1
    typed = pb.ModelInferRequest(model_name=MODEL)
    typed.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([1] * 4)
    for one in (classes, sequence, typed):
        before = ask.parsed
        for _ in range(2):
            ask(one)
        assert ask.parsed == before + 2


def test_parameters_are_part_of_the_kind(served: Serving) -> None:
    """A priority and a patience that were learnt count for the next."""
    ask = Asked(served)
    urgent = message([1, 2, 3, 4])
    urgent.parameters["priority"].uint64_param = 1
    urgent.parameters["timeout"].int64_param = 3_000_000
    for _ in range(2):
        ask(urgent)
    assert ask.parsed == 1
    ready = ask.infer._repeated.take(urgent.SerializeToString())
    assert ready is not None
    assert ready.request.priority == 1
    assert ready.kind.demanded.timeout_s == 3.0


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_message_is_answered_as_parsed(served: Serving, data: st.DataObject) -> None:
    """Whatever bytes of a known message are changed or put elsewhere: the answer or the refusal
    is the one that a server without memory gives."""
    ask = Asked(served)
    wire = bytearray(message([1, 2, 3, 4], id="some").SerializeToString())
    ask(bytes(wire))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(wire)))
        wire = wire[cut:] + wire[:cut]
    assert ask.outcome(bytes(wire)) == Asked(served).outcome(bytes(wire))


def test_raw_contents_elsewhere_are_not_learnt() -> None:
    """Where they are not the end of the message, or not alone there."""
    whole = message([1, 2, 3, 4])
    rest = pb.ModelInferRequest(id="later").SerializeToString()
    repeated = RepeatedRequests()
    for wire in (
        whole.SerializeToString() + rest,
        pb.ModelInferRequest(raw_input_contents=[b"abc"]).SerializeToString()
        + whole.SerializeToString(),
    ):
        parsed = pb.ModelInferRequest.FromString(wire)
        repeated.learn(wire, parsed, demanded(parsed), [])
        assert repeated.take(wire) is None


def test_memory_is_bounded() -> None:
    """Ever new sizes and beginnings replace what was learnt before."""
    repeated = RepeatedRequests()
    for number in range(300):
        one = message([0.0] * 4 * (1 + number % 100), id=f"{number:03}")
        wire = one.SerializeToString()
        with Regions("").use() as use:
            repeated.learn(wire, one, demanded(one), given_tensors(one, use))
    kinds = repeated._kinds
    assert len(kinds) <= 64
    assert max(map(len, kinds.values())) <= 8


def test_threads_do_not_share_a_request(served: Serving) -> None:
    """Many at once, each with numbers of its own: everybody hears of their own."""
    ask = Asked(served)
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(50):
            got = ask.values(message([number, turn, 0, 1]))
            if got != [2 * number, 2 * turn, 0, 2]:
                wrong.append((number, turn, got))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []
    assert ask.parsed <= 8 + 8
