"""What the system says about memory."""

from __future__ import annotations

import mmap
import os
import threading

from device_agent.serving import memory


def test_memory_taken_is_seen() -> None:
    """Thirty-two MiB written to show in RssAnon; an unknown field is 0."""
    before = memory.status_bytes("RssAnon")
    # Fresh from the system: an allocator may give what the process held already.
    with mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.write(b"1" * (32 << 20))
        assert memory.status_bytes("RssAnon") - before > 24 << 20
    memory.give_back()
    assert memory.status_bytes("NoSuchField") == 0
    assert memory.total_bytes() > 64 << 20


def test_one_thread_alone_is_lowered() -> None:
    """The thread's niceness changes; this one's does not."""
    seen: list[int] = []

    def work() -> None:
        memory.lower_priority()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [15]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
