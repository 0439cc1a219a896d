"""The one test switch that lets devices and operators talk to a distributor unprotected."""

from __future__ import annotations

import logging
import os

from edge_sdk.base import RefusedError
from edge_sdk.rpc.address import check_local

SWITCH = "EDGE_TEST_PLAINTEXT"

_LOG = logging.getLogger(__name__)


def plaintext_for_tests() -> bool:
    """Whether this process was started with the switch."""
    return os.environ.get(SWITCH) == "1"


def allow_plaintext(address: str) -> None:
    """Only under the switch, only to this machine, and never quietly.

    Raises: RefusedError, UsageError.
    """
    check_plaintext(address)
    _LOG.warning("%s=1: %s is UNPROTECTED and whoever calls is believed", SWITCH, address)


def check_plaintext(address: str) -> None:
    """The same before it is known whether ``address`` can be used. Raises: as above."""
    if not plaintext_for_tests():
        raise RefusedError(
            f"nobody can be known at {address} without certificates: enrol first, with "
            "'edge-agent run --token-file FILE' or 'edge-fleet login --token-file FILE'"
        )
    check_local(address)
