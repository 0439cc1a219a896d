"""Names, versions and paths: the one place where each is checked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import total_ordering
from typing import NoReturn

from edge_sdk.base.errors import FormatError

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_SEMVER = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?\Z",
    re.ASCII,
)
_PATH_BYTES_MAX = 1024
_PATH_SEGMENTS_MAX = 16
_PATH_SEGMENT_BYTES_MAX = 255  # what file systems can name


def check_segment(text: str, what: str) -> str:
    """A namespace, model, device, variant or label name. Raises: FormatError."""
    if not _SEGMENT.match(text):
        raise FormatError(
            f"{what} {text!r} is not a name: use 1 to 63 of a-z 0-9 . _ - and begin with a-z or 0-9"
        )
    return text


class _Text:
    """A checked string, immutable.

    Not a dataclass: msgspec would take one apart where a name is one string in JSON.
    """

    __slots__ = ("text",)
    text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "text", text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __reduce__(self) -> tuple[type[_Text], tuple[str]]:
        return type(self), (self.text,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


@total_ordering
class ModelName(_Text):
    """A model within its namespace, written ``namespace/name``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Raises: FormatError."""
        namespace, slash, name = text.partition("/")
        if not slash:
            raise FormatError(f"model {text!r} lacks its namespace: write it as namespace/name")
        check_segment(namespace, "namespace")
        check_segment(name, "model")
        return cls(text)

    @property
    def namespace(self) -> str:
        return self.text.partition("/")[0]

    @property
    def name(self) -> str:
        return self.text.partition("/")[2]

    def __lt__(self, other: ModelName) -> bool:
        return self.text < other.text


@total_ordering
class Version(_Text):
    """A semantic version (semver.org 2.0.0), ordered by its precedence rules.

    Build metadata is refused: two versions of equal precedence would be two artifacts.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises: FormatError."""
        match = _SEMVER.match(text)
        if not match or len(text) > 64:
            raise FormatError(f"version {text!r} is not a semantic version such as 1.4.0")
        if match[5] is not None:
            raise FormatError(f"version {text!r} has build metadata after '+'; leave it out")
        return cls(text)

    def _precedence(self) -> tuple[object, ...]:
        core, _, pre = self.text.partition("-")
        numbers = tuple(int(part) for part in core.split("."))
        if not pre:
            return (*numbers, 1, ())
        parts = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split(".")
        )
        return (*numbers, 0, parts)

    def __lt__(self, other: Version) -> bool:
        return self._precedence() < other._precedence()


def check_path(path: str) -> str:
    """A relative POSIX path within an artifact. Raises: FormatError.

    Refused: absolute, ``.``, ``..`` or empty segments, drives, backslashes, control
    characters, text that is not in Unicode form NFC (two spellings of one name fall together
    on some disks), and more than 16 segments, 255 bytes in one or 1,024 bytes in all.
    """
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError(f"path {path!r} is not valid Unicode") from None
    segments, shown = encoded.split(b"/"), path[:200]
    for count, limit, what in (
        (len(encoded), _PATH_BYTES_MAX, "{} bytes"),
        (len(segments), _PATH_SEGMENTS_MAX, "{} segments"),
        (max(map(len, segments)), _PATH_SEGMENT_BYTES_MAX, "a segment of {} bytes"),
    ):
        if count > limit:
            has = what.format(count)
            raise FormatError(f"path {shown!r} has {has}; at most {limit} are allowed", path=shown)
    bad = (
        any(segment in (b"", b".", b"..") for segment in segments)
        or "\\" in path
        or ":" in path
        or not (path.isprintable() or _is_plain(path))
        or unicodedata.normalize("NFC", path) != path
    )
    if bad:
        raise FormatError(f"path {shown!r} is not a plain relative path", path=shown)
    return path


def _is_plain(path: str) -> bool:
    return all(unicodedata.category(character) not in ("Cc", "Cf", "Cs") for character in path)


def check_paths(paths: Iterable[str]) -> None:
    """Checks each path and that all can stand beside each other on any disk. Raises: FormatError.

    No two may fall together when case is ignored, and none may be a folder of another.
    """
    seen: dict[str, str] = {}
    for path in paths:
        folded = unicodedata.normalize("NFC", check_path(path).casefold())
        if folded in seen:
            raise FormatError(
                f"paths {seen[folded]!r} and {path!r} fall together on a case-insensitive disk"
            )
        seen[folded] = path
    for folded, path in seen.items():
        parts = folded.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            if folder in seen:
                raise FormatError(f"path {seen[folder]!r} is both a file and a folder of {path!r}")
