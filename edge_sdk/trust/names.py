"""Names in the signed metadata: of targets, of roles, of files on the wire."""

from __future__ import annotations

import re

from edge_sdk.base import FormatError, ModelName, Version, check_segment

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
ASSIGNMENTS = "assignments"  # delegated, has no document: it names the keys that assign
ASSIGNMENT_PATHS = "@assignments/*"  # matches no artifact: "@" begins no name
NAMESPACE_PREFIX, BIN_PREFIX = "ns_", "bin_"
_FILE = re.compile(r"(?:(0|[1-9][0-9]{0,15})\.)?([a-z0-9_.-]{1,96})\.json", re.ASCII)


def target_path(model: ModelName, version: Version, variant: str) -> str:
    """Where an artifact's manifest stands in the metadata: ``team/digits/1.0.0/fp32.json``."""
    return f"{model}/{version}/{check_segment(variant, 'variant')}.json"


def namespace_role(namespace: str) -> str:
    """The role that answers for every target of ``namespace``."""
    return NAMESPACE_PREFIX + check_segment(namespace, "namespace")


def namespace_paths(namespace: str) -> str:
    """The pattern of its targets; a ``*`` of a pattern never matches a slash."""
    return f"{check_segment(namespace, 'namespace')}/*/*/*"


def bin_prefix(namespace: str) -> str:
    """Of the roles that its targets are spread over by hash."""
    return BIN_PREFIX + check_segment(namespace, "namespace")


def namespace_of(role: str) -> str | None:
    """The namespace that ``role`` belongs to; None for roles of the top level.

    Raises: FormatError where it is no role of ours.
    """
    if role in (ROOT, TARGETS, SNAPSHOT, TIMESTAMP):
        return None
    if role.startswith(NAMESPACE_PREFIX):
        return check_segment(role.removeprefix(NAMESPACE_PREFIX), "namespace")
    if role.startswith(BIN_PREFIX):
        name, dash, _ = role.removeprefix(BIN_PREFIX).rpartition("-")
        if dash:
            return check_segment(name, "namespace")
    raise FormatError(f"{role!r} is no role of the metadata here")


def file_name(role: str, version: int) -> str:
    """``4.root.json``; the timestamp alone has no version in its name."""
    return "timestamp.json" if role == TIMESTAMP else f"{version}.{role}.json"


def parse_file_name(name: str) -> tuple[str, int | None]:
    """Role and version of a metadata file. Raises: FormatError."""
    match = _FILE.fullmatch(name)
    if match is None:
        raise FormatError(f"{name[:100]!r} is no name of a metadata file")
    version, role = match.groups()
    if (version is None) != (role == TIMESTAMP):
        raise FormatError(f"{name!r} is no name of a metadata file")
    namespace_of(role)
    return role, None if version is None else int(version)
