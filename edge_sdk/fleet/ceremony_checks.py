"""What a ceremony's folder may hold before anybody signs it, and names of keys that cannot lie.

The folder went through other people's hands. What is shown of it must be all that it changes:
so targets of the top level hold namespaces with their own paths and nothing else, and a key is
shown by the digest of itself, whatever id the document gives it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Role, Root, Targets

from edge_sdk.base import FormatError, RefusedError
from edge_sdk.trust import (
    ASSIGNMENTS,
    ROOT,
    TARGETS,
    namespace_of,
    namespace_paths,
    namespace_role,
    parse_file_name,
)

_ASSIGNMENT_PATHS = "@assignments/*"


def check_folder(documents: Mapping[str, Metadata[Any]]) -> None:
    """Each role once, and nothing in it that is not shown. Raises: RefusedError, FormatError."""
    roles = [parse_file_name(name)[0] for name in documents]
    for role in roles:
        if roles.count(role) > 1:
            raise RefusedError(f"the folder holds {role} more than once; sign one after the other")
    for name, document in documents.items():
        role = parse_file_name(name)[0]
        _check_keys(name, document.signed)
        if role == TARGETS:
            _check_top(name, document.signed)
        elif role != ROOT:
            _check_namespace(name, role, document.signed)


def shown_key(key: Key) -> str:
    """The digest of the key itself; with the id that it goes by where that is another one.

    Documents choose ids freely: by its id alone somebody else's key would look like one's own.
    """
    said = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
    own = hashlib.sha256(str(encode_canonical(said)).encode()).hexdigest()
    return own if own == key.keyid else f"{own} (id {key.keyid[:64]})"


def _check_keys(name: str, signed: Root | Targets) -> None:
    """Each key that may sign is there, to be shown. Raises: FormatError."""
    roles: list[Role]
    if isinstance(signed, Root):
        keys, roles = signed.keys, list(signed.roles.values())
    elif signed.delegations is not None:
        keys = signed.delegations.keys
        roles = [*(signed.delegations.roles or {}).values()]
        roles += [one for one in (signed.delegations.succinct_roles,) if one is not None]
    else:
        return
    if not all(one in keys for role in roles for one in role.keyids):
        raise FormatError(f"{name} names a key that it does not hold")


def _check_top(name: str, targets: Targets) -> None:
    delegations = targets.delegations
    if targets.targets or delegations is None or delegations.roles is None:
        raise RefusedError(f"{name} names artifacts itself, or no namespaces: do not sign it")
    for role, said in delegations.roles.items():
        if role == ASSIGNMENTS:
            wanted = _ASSIGNMENT_PATHS
        else:
            namespace = namespace_of(role)
            if namespace is None or role != namespace_role(namespace):
                raise RefusedError(f"{name} delegates to {role}, no namespace: do not sign it")
            wanted = namespace_paths(namespace)
        if said.paths != [wanted] or not said.terminating:
            raise RefusedError(
                f"{name} lets {role} answer for other paths than {wanted}: do not sign it"
            )


def _check_namespace(name: str, role: str, targets: Targets) -> None:
    """A namespace hands nothing on but to its own bins, which it signs itself."""
    delegations = targets.delegations
    if delegations is not None and (
        delegations.succinct_roles is None or role != namespace_role(namespace_of(role) or "")
    ):
        raise RefusedError(f"{name} delegates to others than its own bins: do not sign it")
