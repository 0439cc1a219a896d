"""The messages between updater and inference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.records import (
    PACKET_BYTES_MAX,
    PROTOCOL,
    Ask,
    Drop,
    Dropped,
    Hello,
    Loading,
    Message,
    Observed,
    Prepare,
    Prepared,
    Switch,
    Switched,
    decode_message,
    encode_message,
)
from edge_sdk.base import Digest, FormatError
from edge_sdk.manifest import TensorSpec, Tolerance

A = Digest.of(b"a")
SPEC = TensorSpec(name="x", dtype="float32", shape=(-1, 4))
MESSAGES: list[Message] = [
    Prepare(
        model="team/digits",
        artifact=A,
        version="1.0.0",
        variant="fp32",
        folder="/x",
        entry="m.onnx",
        engine="onnxruntime",
        golden_path=None,
        tolerances={"y": Tolerance(atol="1", rtol="2")},
        inputs=(SPEC,),
        outputs=(SPEC,),
    ),
    Switch(model="team/digits", artifact=A, probation=True),
    Drop(model="team/digits", artifact=None),
    Ask(),
    Loading(pid=7, model="team/digits", artifact=A),
    Hello(protocol=PROTOCOL, pid=7, serving={"team/digits": A}, damaged=(A,)),
    Prepared(model="team/digits", artifact=A, ok=False, reason="R", message="m"),
    Switched(model="team/digits", artifact=A, ok=True),
    Dropped(model="team/digits", artifact=A),
    Observed(
        model="team/digits",
        artifact=A,
        requests=1,
        errors=0,
        active_compute_ns=(1, 2),
        candidate_compute_ns=(3,),
        rss_bytes=9,
    ),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_each_message_travels(message: Message) -> None:
    """What is sent is received."""
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    """Never another exception than FormatError."""
    with pytest.raises(FormatError):
        decode_message(data)


@pytest.mark.parametrize(
    "text", ['{"type":"Later"}', '{"type":"Switch","model":"m","artifact":"zz","probation":true}']
)
def test_unknown_kinds_and_wrong_digests_are_refused(text: str) -> None:
    """A message of a newer release, or with something else where a digest belongs."""
    with pytest.raises(FormatError):
        decode_message(text.encode())


def test_a_packet_has_a_limit() -> None:
    """A message that the socket could not carry fails where it is made."""
    specs = tuple(
        TensorSpec(name=f"{number}" * 40, dtype="float32", shape=(1,)) for number in range(5000)
    )
    huge = Prepare(
        **{  # type: ignore[arg-type]
            name: getattr(MESSAGES[0], name) for name in MESSAGES[0].__struct_fields__
        }
        | {"inputs": specs}
    )
    with pytest.raises(FormatError, match=r"does not fit"):
        encode_message(huge)
    assert PACKET_BYTES_MAX < 200 << 10
