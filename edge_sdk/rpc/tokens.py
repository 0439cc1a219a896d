"""The token of an app, as it travels: metadata ``authorization: Bearer TOKEN``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edge_sdk.base import UsageError, explain_os_error

AUTHORIZATION = "authorization"
TOKEN_VARIABLE = "EDGE_APP_TOKEN"  # noqa: S105 - the name, not a token
TOKEN_FILE_VARIABLE = "EDGE_APP_TOKEN_FILE"  # noqa: S105
_BEARER = "bearer "
_TOKEN_LENGTH_MAX = 1024


def app_token(given: str | None = None) -> str | None:
    """``given``, else what the environment says, directly or by the name of a file.

    Raises: UsageError (no token, or one that cannot travel), NotFoundError (no such file).
    """
    token = given or os.environ.get(TOKEN_VARIABLE)
    file = os.environ.get(TOKEN_FILE_VARIABLE)
    if not token and file:
        try:
            token = Path(file).read_text("ascii", "replace")
        except OSError as error:
            raise explain_os_error(error, Path(file)) from None
    if not token:
        return None
    token = token.strip()
    if not (token and token.isascii() and token.isprintable() and len(token) <= _TOKEN_LENGTH_MAX):
        raise UsageError("the app's token is none: it has printable ASCII on one line")
    return token


def bearer_token(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """What a call shows; empty where it shows none, or more than one."""
    shown = [value for key, value in metadata or () if key == AUTHORIZATION]
    if len(shown) != 1 or not isinstance(shown[0], str):
        return ""
    return _token_in(shown[0])


def _token_in(header: str) -> str:
    """The token of an ``Authorization`` header's value; empty where it has none."""
    if not header.lower().startswith(_BEARER):
        return ""
    token = header[len(_BEARER) :].strip()
    return token if len(token) <= _TOKEN_LENGTH_MAX else ""
