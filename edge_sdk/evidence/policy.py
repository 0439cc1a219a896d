"""Which evidence a namespace has to bring, and whom to believe: a TOML file.

[[evidence]]
kind = "model-signing"              # or "slsa-provenance"
namespaces = ["team"]               # "*": every one
keys = ["team-models.pub"]          # PEM, beside this file; or authorities and identities
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import msgspec

from edge_sdk.base import FormatError, UsageError, explain_os_error
from edge_sdk.evidence.signers import read_authorities, read_keys
from edge_sdk.evidence.statement import Kind

EVERY_NAMESPACE = "*"
_POLICY_BYTES_MAX = 1 << 20
_KEYS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """One piece of evidence that an artifact has to come with.

    keys: public keys in PEM. authorities: certificates in PEM, one or more in each, which vouch
    for signers; identities: those of them that are believed ("*": all), by a name of the
    certificate or its subject. builders: of SLSA provenance, those that are believed.
    """

    kind: Kind
    keys: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises: UsageError (nothing could ever satisfy it, or anything would), FormatError."""
        if self.kind not in get_args(Kind):
            raise UsageError(f"evidence is of kind {' or '.join(get_args(Kind))}, not {self.kind}")
        if not self.keys and not self.authorities:
            raise UsageError(f"{self.kind}: name keys or authorities to believe")
        if bool(self.authorities) != bool(self.identities):
            raise UsageError(
                f"{self.kind}: authorities and identities belong together: whom of those that "
                'the authority vouches for to believe ("*": all)'
            )
        if bool(self.builders) != (self.kind == "slsa-provenance"):
            raise UsageError("slsa-provenance, and no other evidence, names builders to believe")
        if len(self.keys) + len(self.authorities) > _KEYS_MAX:
            raise UsageError(f"{self.kind}: more than {_KEYS_MAX} keys and authorities")
        for one in self.keys:
            read_keys(one)
        for one in self.authorities:
            read_authorities(one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    namespaces: frozenset[str]
    required: Required


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePolicy:
    """What namespaces have to bring; by itself nothing."""

    rules: tuple[Rule, ...] = field(default=())

    def of(self, namespace: str) -> tuple[Required, ...]:
        """All of it."""
        wanted = {namespace, EVERY_NAMESPACE}
        return tuple(one.required for one in self.rules if one.namespaces & wanted)


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind
    namespaces: list[str]
    keys: list[str] = []
    authorities: list[str] = []
    identities: list[str] = []
    builders: list[str] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    evidence: list[_Rule]


def load_policy(file: Path) -> EvidencePolicy:
    """Reads a policy and the keys that it names. Raises: UsageError, FormatError, NotFoundError."""
    try:
        said = msgspec.toml.decode(_read(file), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FormatError(f"{file} is no policy of evidence: {error}") from None
    try:
        return EvidencePolicy(rules=tuple(_rule(one, file.parent) for one in said.evidence))
    except UsageError as error:
        raise UsageError(f"{file}: {error.message}") from None


def _rule(said: _Rule, folder: Path) -> Rule:
    if not said.namespaces:
        raise UsageError(f'{said.kind}: namespaces are missing ("*": every one)')
    required = Required(
        kind=said.kind,
        keys=_texts(folder, said.keys),
        authorities=_texts(folder, said.authorities),
        identities=tuple(said.identities),
        builders=tuple(said.builders),
    )
    required.check()
    return Rule(namespaces=frozenset(said.namespaces), required=required)


def _texts(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_read(folder / one).decode("utf-8", "replace") for one in names)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_POLICY_BYTES_MAX + 1)
    except OSError as error:
        raise explain_os_error(error, file) from error
    if len(data) > _POLICY_BYTES_MAX:
        raise FormatError(f"{file} has more than {_POLICY_BYTES_MAX} bytes")
    return data
