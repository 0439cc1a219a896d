"""The fast lane's packets with hostile bytes: as they are read, and as an app believes an answer."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from edge_sdk.client.lane import Lane, NotOnLaneError
from edge_sdk.client.lane_request import LaneInput, LaneRequest, places_of
from edge_sdk.fastlane import PACKET_BYTES_MAX, decode, encode
from tests.support.lane_server import SLOT_BYTES, give_good, lane_server

GIVEN = np.ones((1, 4), np.float32)
_AGAIN_S = 3600.0


def packet(data: bytes) -> None:
    """Any bytes as a packet: there is one spelling of each."""
    assert encode(decode(data)) == data, "a second spelling"


def answer(data: bytes) -> None:
    """Any bytes as the answer to a request (its length in two bytes, and the answer), over a slot
    that holds the rest: what the app gets lies in the slot, and the same bytes again say the same."""
    length = int.from_bytes(data[:2].ljust(2, b"\0"), "little")
    said, held = data[2 : 2 + length][:PACKET_BYTES_MAX], data[2 + length :][:SLOT_BYTES]
    lane, request = _lane()
    lane._view[: len(held)] = held
    lane._view[len(held) : SLOT_BYTES] = bytes(SLOT_BYTES - len(held))
    lane._exchange = lambda packet, buffer: _answered(lane, said, buffer)  # type: ignore[method-assign]
    results = []
    try:
        for _ in range(2):
            lane.exchange(request, _AGAIN_S, 0, None)
            assert request.outputs_end <= SLOT_BYTES
            results.append(request.result())
    except NotOnLaneError:
        return
    finally:
        if not lane._view:  # it asked for another slot, which nobody gives
            _lane.cache_clear()
    first, second = results
    assert first.version == second.version
    assert first.outputs.keys() == second.outputs.keys()
    for name, array in first.outputs.items():
        other = second.outputs[name]
        assert (array.shape, array.dtype) == (other.shape, other.dtype)
        assert _content(array) == _content(other)


def _content(array: np.ndarray[Any, Any]) -> object:
    return array.ravel().tolist() if array.dtype == object else array.tobytes()


def _answered(lane: Lane, said: bytes, buffer: bytearray) -> int:
    """With the number of the request, which no mutation would guess."""
    numbered = said[:4] + lane._number.to_bytes(4, "little") + said[8:] if len(said) >= 8 else said
    buffer[: len(numbered)] = numbered
    return len(numbered)


@lru_cache(maxsize=1)
def _lane() -> tuple[Lane, LaneRequest]:
    """A connection that is closed; its slot stays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lane"
        with lane_server(path, lambda peer: (give_good(peer), None)[1]):
            lane = Lane(path, end_s=monotonic() + _AGAIN_S)
            lane._socket.close()
    given = [LaneInput(name="x", dtype="float32", array=GIVEN)]
    return lane, lane.make(("m", "", ()), given, places_of(given, {}, begin=0))
