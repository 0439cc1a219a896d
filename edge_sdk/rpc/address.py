"""Addresses: ``host:port`` or ``unix:/path``, and whether one stays on this machine."""

from __future__ import annotations

import ipaddress
import os

from edge_sdk.base import RefusedError, UsageError

_SOCKET_PATH_BYTES_MAX = 107  # of the kernel


def check_address(address: str) -> None:
    """Raises: UsageError (no such form of address)."""
    if address.startswith("unix:"):
        if len(address) == len("unix:"):
            # gRPC would listen at a name that the kernel makes up and nobody can know.
            raise UsageError(f"address {address!r} names no socket file")
        if len(os.fsencode(address.removeprefix("unix:"))) > _SOCKET_PATH_BYTES_MAX:
            raise UsageError(
                f"the socket path of {address} is too long: at most {_SOCKET_PATH_BYTES_MAX} bytes"
            )
        return
    host, _, port = address.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() else -1
    if not host or not 0 <= number <= 65535:
        raise UsageError(f"address {address!r} is neither host:port nor unix:/path")


def check_local(address: str) -> None:
    """Refuses an address without protection that is not this machine.

    Raises: UsageError, RefusedError.
    """
    check_address(address)
    if address.startswith("unix:"):
        return
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise RefusedError(
            f"{address} is not this machine and what is said there would not be protected: use "
            "a loopback address or a Unix socket"
        )
