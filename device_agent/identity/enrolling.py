"""From a token to an identity that is kept: the whole way in."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from device_agent.errors import StateError
from device_agent.identity.kept import KeptIdentity
from edge_sdk.base import TrustError, UnavailableError, UsageError
from edge_sdk.identity import (
    EnrolmentToken,
    FactoryKey,
    Identity,
    Issued,
    Pending,
    enrol,
    fingerprint,
    first_contact,
    to_der,
)
from edge_sdk.rpc.backoff import Backoff

TOKEN_VARIABLE = "EDGE_AGENT_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_BYTES_MAX = 8192
_BACKOFF = Backoff(base_s=0.5, cap_s=60.0)


def read_token(file: str | None, say: Callable[[str], None]) -> EnrolmentToken | None:
    """From a file (``-``: standard input) or EDGE_AGENT_TOKEN, which no child inherits then.

    None: there is none. Raises: UsageError, FormatError.
    """
    given = os.environ.pop(TOKEN_VARIABLE, "")
    if file is None:
        return EnrolmentToken.decode(given) if given else None
    if file == "-":
        return EnrolmentToken.decode(sys.stdin.read(_TOKEN_BYTES_MAX))
    try:
        with Path(file).open(encoding="ascii", errors="replace") as stream:
            if os.fstat(stream.fileno()).st_mode & stat.S_IROTH:
                say(f"anybody here can read the token in {file}: chmod 600 it")
            return EnrolmentToken.decode(stream.read(_TOKEN_BYTES_MAX))
    except OSError as error:
        raise UsageError(f"cannot read the token in {file}: {error.strerror}") from None


def enrol_device(
    kept: KeptIdentity,
    token: EnrolmentToken,
    name: str,
    *,
    factory: FactoryKey | None = None,
    wait: bool = True,
    keep_root: Callable[[bytes], None],
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float],
) -> Identity | None:
    """Enrols, and waits meanwhile for a network or an operator; None where ``wait`` is false
    and an operator has to approve. ``keep_root`` is given the TUF root that the token names.

    Raises: TrustError (not the fleet of the token, or the token is not accepted there),
    ConflictError, RefusedError; UnavailableError where ``wait`` is false.
    """
    _check_name(kept, token, name)
    key = kept.begin(token, name)
    failures = 0
    while True:
        try:
            anchors = first_contact(token)
            answer = enrol(token, anchors, key, name, factory=factory)
        except UnavailableError as error:
            if not wait:
                raise
            failures += 1
            say(f"{error.message}; it is tried again")
            sleep(_BACKOFF.delay_s(failures, chance()))
            continue
        failures = 0
        if isinstance(answer, Issued):
            if anchors.root:
                keep_root(anchors.root)
            kept.keep(answer)
            return kept.load()
        if not wait:
            return None
        _wait(answer, name, say, sleep)


def newer_root(identity: Identity, token: EnrolmentToken) -> bytes:
    """The TUF root that a token names, for a device that came into the same fleet before there
    was one. The token's secret is not said, so none of its uses is spent.

    Raises: UsageError, TrustError (another fleet's, or what answers shows another root),
    UnavailableError.
    """
    _check_for(token, identity.facts.name)
    if not token.root:
        raise UsageError(
            "this token names no root, as the fleet had none when it was made: another one, made "
            "after 'edge-fleet keys init', brings it"
        )
    if token.authority not in {fingerprint(one) for one in to_der(identity.authorities)}:
        raise TrustError("this token is of another fleet than the one this device belongs to")
    return first_contact(token).root


def _wait(
    pending: Pending, name: str, say: Callable[[str], None], sleep: Callable[[float], None]
) -> None:
    say(f"waits until an operator lets it in: edge-fleet devices approve {name}")
    sleep(min(max(pending.retry_after_s, 1.0), 3600.0))


def _check_name(kept: KeptIdentity, token: EnrolmentToken, name: str) -> None:
    """Raises: UsageError, StateError."""
    _check_for(token, name)
    begun = kept.shown().name
    if begun not in ("", name):
        raise StateError(
            f"{kept.root} belongs to device {begun!r}, not {name!r}: give its own name or "
            "another folder"
        )


def _check_for(token: EnrolmentToken, name: str) -> None:
    """Raises: UsageError."""
    if token.kind != "device":
        raise UsageError(f"this token is for an {token.kind}, not for a device")
    if token.name not in ("", name):
        raise UsageError(f"this token is for the device {token.name}, not for {name}")
