"""Lists of keys as files: which role a key signs for, its public half, and where the private is.

A key in a file beside the list is named ``file:NAME``, so that the folder can be moved; every
other URI is one of securesystemslib's schemes or ``edge-key:`` with a whole path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key

from edge_sdk.base import FormatError, NotFoundError, UsageError, explain_os_error, whole_file

IN_FOLDER = "file:"
_FORMAT = 1

Passphrase = Callable[[str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """One key of ``role``; ``uri`` says where its private half is."""

    role: str
    uri: str
    public: Key

    @property
    def key_id(self) -> str:
        return self.public.keyid


def read_key_list(path: Path) -> tuple[ListedKey, ...]:
    """Raises: NotFoundError, FormatError, UsageError."""
    try:
        said = json.loads(path.read_bytes())
        if said["format"] != _FORMAT:
            raise FormatError(f"{path} has format {said['format']!r}, which this release does not")
        return tuple(_listed(one) for one in said["keys"])
    except FileNotFoundError:
        raise NotFoundError(f"there is no list of keys {path}") from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} cannot be read as a list of keys: {error}") from None


def write_key_list(path: Path, keys: Iterable[ListedKey]) -> None:
    """Replaces the list, whole or not at all. Raises: ResourceError, NotFoundError."""
    document = {
        "format": _FORMAT,
        "keys": [
            {"role": one.role, "uri": one.uri, "key_id": one.key_id, "public": one.public.to_dict()}
            for one in keys
        ],
    }
    with whole_file(path, replace=True) as stream:
        stream.write(json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def file_beside(path: Path, uri: str) -> Path:
    """The file that a ``file:NAME`` of the list ``path`` means. Raises: FormatError."""
    name = uri.removeprefix(IN_FOLDER)
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise FormatError(f"{uri!r} is no file beside {path}")
    return path.parent / name


def environment_passphrase(name: str) -> bytes | None:
    """EDGE_KEY_PASSPHRASE, or the first line of the file EDGE_KEY_PASSPHRASE_FILE; None where
    neither is set. Raises: NotFoundError, UsageError."""
    text = os.environ.get("EDGE_KEY_PASSPHRASE")
    if text:
        return text.encode()
    file = os.environ.get("EDGE_KEY_PASSPHRASE_FILE")
    if not file:
        return None
    path = Path(file)
    try:
        line = path.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise explain_os_error(error, path) from error
    if not line:
        raise UsageError(f"{path}, which should hold the {name}, is empty")
    return line


def _listed(said: Any) -> ListedKey:
    public = Key.from_dict(str(said["key_id"]), dict(said["public"]))
    return ListedKey(role=str(said["role"]), uri=str(said["uri"]), public=public)
