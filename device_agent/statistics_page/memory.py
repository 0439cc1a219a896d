"""The page as shared memory of fixed size."""

from __future__ import annotations

import fcntl
import mmap
import os

from device_agent.statistics_page.layout import PAGE_BYTES
from edge_sdk.base.errors import FormatError


def create_page() -> int:
    """The descriptor of a new page, of zeros. Its size never changes: nobody who has it can
    end another process by cutting it off."""
    handle = os.memfd_create("edge-statistics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(handle, PAGE_BYTES)
        fcntl.fcntl(
            handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_page(handle: int) -> memoryview:
    """The words of a page, to write. The descriptor may be closed after. Raises: FormatError."""
    _check(handle)
    return memoryview(mmap.mmap(handle, PAGE_BYTES)).cast("Q")


def watch_page(handle: int) -> memoryview:
    """The words of a page, to read. The descriptor may be closed after. Raises: FormatError."""
    _check(handle)
    return memoryview(mmap.mmap(handle, PAGE_BYTES, prot=mmap.PROT_READ)).cast("Q")


def private_page() -> memoryview:
    """The words of a page that nobody else sees."""
    return memoryview(bytearray(PAGE_BYTES)).cast("Q")


def _check(handle: int) -> None:
    size_bytes = os.fstat(handle).st_size
    if size_bytes != PAGE_BYTES:
        raise FormatError(f"a statistics page has {PAGE_BYTES} bytes, not {size_bytes}")
