"""The statistics page with hostile bytes: as its readers see it, and as a new process takes it over."""

from __future__ import annotations

from device_agent.local_api.statistics_wire import from_message, to_message
from device_agent.statistics_page import (
    Described,
    PageWriter,
    TraceReader,
    layout,
    private_page,
    read_page,
)

FRONT_BYTES = layout.row_begin(1) * layout.WORD_BYTES
_RING = layout.TRACES_BEGIN * layout.WORD_BYTES
_NEW = Described(model="a/b", version="1.0.0", variant="v", engine="e", artifact=b"\7" * 32)


def statistics_page(data: bytes) -> None:
    """Any bytes as header and first row, those behind as the ring of traces: what is read travels
    as a message, and a process that starts on it is seen with its artifact."""
    page = private_page()
    reader = TraceReader(page)
    raw = page.cast("B")
    front, ring = data[:FRONT_BYTES], data[FRONT_BYTES:][: len(raw) - _RING]
    raw[: len(front)] = front
    raw[_RING : _RING + len(ring)] = ring
    reader.read()
    snapshot = read_page(page)
    assert from_message(to_message(snapshot, now_ms=1)) == snapshot
    row = PageWriter(page, pid=1, trace_every=1).claim(_NEW)
    assert row is not None
    seen = {one.artifact for one in read_page(page).models}
    assert _NEW.artifact.hex() in seen
