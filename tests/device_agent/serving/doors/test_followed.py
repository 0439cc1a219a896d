"""Requests of gRPC that belong to a trace of their caller's."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

from device_agent.serving.doors import InferenceDoor
from device_agent.serving.doors.followed import followed
from device_agent.serving.doors.open_inference import SERVICE
from device_agent.serving.load import Loader
from device_agent.statistics_page import PageWriter, TraceReader, private_page
from edge_sdk.protos import inference_v2_pb2 as pb
from tests.support.onnx_models import linear
from tests.support.serving_door import order_for, serving

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
HEADER = ("traceparent", f"00-{TRACE:032x}-{SPAN:016x}-01")


def request() -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name="team/linear",
        inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])],
        raw_input_contents=[np.ones(4, np.float32).tobytes()],
    )


@pytest.mark.parametrize("stream", [False, True], ids=["single", "stream"])
def test_the_callers_trace_reaches_the_page(tmp_path: Path, stream: bool) -> None:
    """A request with the header is traced under its caller, one without it is not."""
    words = private_page()
    page = PageWriter(words, pid=1, trace_every=0)
    reader = TraceReader(words)
    made = serving(tmp_path)
    loader = Loader(made.pool, threads=1, page=page)
    made.table.switch(loader.load(order_for("team/linear", linear(1.0), tmp_path)))
    door = InferenceDoor(made.table, made.dispatcher, tracer=page.tracer)
    door.open("127.0.0.1:0")
    try:
        with grpc.insecure_channel(door.address) as channel:
            for metadata in ([HEADER], [], [("traceparent", "nonsense")]):
                if stream:
                    call = channel.stream_stream(
                        f"/{SERVICE}/ModelStreamInfer",
                        request_serializer=pb.ModelInferRequest.SerializeToString,
                        response_deserializer=pb.ModelStreamInferResponse.FromString,
                    )
                    answers = list(call(iter([request(), request()]), metadata=metadata))
                    assert [one.error_message for one in answers] == ["", ""]
                else:
                    single = channel.unary_unary(
                        f"/{SERVICE}/ModelInfer",
                        request_serializer=pb.ModelInferRequest.SerializeToString,
                        response_deserializer=pb.ModelInferResponse.FromString,
                    )
                    assert single(request(), metadata=metadata).model_name == "team/linear"
    finally:
        door.close()
    traced = [(one.trace, one.caller) for one in reader.read()]
    assert traced == [(TRACE, SPAN)] * (2 if stream else 1)


def test_without_traces_nothing_is_in_the_way() -> None:
    """Where nothing is traced, a request takes no detour at all."""

    def act() -> None:
        pass

    assert followed(act, None) is act
