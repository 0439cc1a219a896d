"""What evidence states: an in-toto statement, of the two kinds that are known here.

https://github.com/in-toto/attestation/tree/main/spec/v1, with predicates of
https://github.com/ossf/model-signing-spec and https://slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from edge_sdk.base import Digest, FormatError, ProofError
from edge_sdk.evidence.bundle import decode
from edge_sdk.manifest import GOLDEN_PATH, FileEntry, Manifest

Kind = Literal["model-signing", "slsa-provenance"]

_STATEMENT = "https://in-toto.io/Statement/v1"
_MODEL_SIGNING = "https://model_signing/signature/v1.0"
_PROVENANCE = "https://slsa.dev/provenance/v1"
_ONLY_FILE = "."  # how a model that is one file is called in its signature
_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSignature:
    """OpenSSF model signing: these files, and no others. ``files``: SHA-256 by path."""

    kind: ClassVar[Kind] = "model-signing"
    files: Mapping[str, Digest]
    builder: str = ""

    def check_states(self, manifest: Manifest) -> None:
        """Raises: ProofError where the artifact is not exactly what was signed."""
        stated = _without_sample(manifest, self.files)
        if [*self.files] == [_ONLY_FILE] and len(stated) == 1:
            files = {stated[0].path: self.files[_ONLY_FILE]}
        else:
            files = dict(self.files)
        _refuse(
            "of the artifact's files the signature does not cover",
            [one.path for one in stated if one.path not in files],
        )
        _refuse(
            "the signature covers other bytes of",
            [one.path for one in stated if files[one.path] != one.sha256],
        )
        _refuse(
            "the signature covers what is no file of the artifact:",
            sorted(set(files) - {one.path for one in stated}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """SLSA provenance: ``builder`` made files of these digests, whatever they are called."""

    kind: ClassVar[Kind] = "slsa-provenance"
    digests: frozenset[Digest]
    builder: str

    def check_states(self, manifest: Manifest) -> None:
        """Raises: ProofError where the artifact has a file that the build did not make."""
        _refuse(
            "the provenance does not speak of the bytes of",
            [one.path for one in _without_sample(manifest, ()) if one.sha256 not in self.digests],
        )


Statement = ModelSignature | Provenance


class _Subject(msgspec.Struct):
    name: str = ""
    digest: dict[str, str] = {}


class _Statement(msgspec.Struct, rename={"type_": "_type", "predicate_type": "predicateType"}):
    type_: str
    predicate_type: str
    subject: list[_Subject]
    predicate: msgspec.Raw


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: str


class _Serialization(msgspec.Struct):
    method: str
    hash_type: str


class _SignaturePredicate(msgspec.Struct):
    serialization: _Serialization
    resources: list[_Resource]


class _Builder(msgspec.Struct):
    id: str


class _RunDetails(msgspec.Struct):
    builder: _Builder


class _ProvenancePredicate(msgspec.Struct, rename="camel"):
    run_details: _RunDetails


def read_statement(payload: bytes) -> Statement:
    """Raises: FormatError, also for every other kind of statement."""
    statement = decode(payload, _Statement)
    if statement.type_ != _STATEMENT:
        raise FormatError(f"evidence states {statement.type_[:80]!r}, which is not {_STATEMENT}")
    if statement.predicate_type == _MODEL_SIGNING:
        return _model_signature(statement)
    if statement.predicate_type == _PROVENANCE:
        predicate = decode(bytes(statement.predicate), _ProvenancePredicate)
        return Provenance(
            digests=frozenset(_sha256s(statement.subject)),
            builder=predicate.run_details.builder.id,
        )
    raise FormatError(
        f"evidence with the predicate {statement.predicate_type[:80]!r} is not known here; "
        f"known are {_MODEL_SIGNING} and {_PROVENANCE}"
    )


def _model_signature(statement: _Statement) -> ModelSignature:
    predicate = decode(bytes(statement.predicate), _SignaturePredicate)
    how = predicate.serialization
    if (how.method, how.hash_type) != ("files", "sha256") or any(
        one.algorithm != "sha256" for one in predicate.resources
    ):
        raise FormatError(
            f"the model is signed by {how.method[:40]} and {how.hash_type[:40]}; sign it file by "
            "file with SHA-256, as model_signing does by itself"
        )
    files = {one.name: Digest.parse(one.digest) for one in predicate.resources}
    if len(files) != len(predicate.resources):
        raise FormatError("the model's signature names a file twice")
    together = hashlib.sha256(b"".join(one.raw for one in files.values()))
    if [*_sha256s(statement.subject)] != [Digest(together.digest())]:
        raise FormatError("the model's signature does not hang together: subject and files differ")
    return ModelSignature(files=files)


def _sha256s(subjects: Iterable[_Subject]) -> Iterable[Digest]:
    return (Digest.parse(one.digest["sha256"]) for one in subjects if "sha256" in one.digest)


def made_sample(manifest: Manifest) -> FileEntry | None:
    """The golden sample where publishing puts the one that it makes: no evidence speaks of it,
    so whoever takes the artifact has to prove that it is a sample and nothing else."""
    if manifest.golden is None or manifest.golden.path != GOLDEN_PATH:
        return None
    return None if manifest.entry == GOLDEN_PATH else manifest.file(GOLDEN_PATH)


def _without_sample(manifest: Manifest, stated: Iterable[str]) -> list[FileEntry]:
    """The files that evidence has to speak of: the golden sample is made when publishing, after
    whoever signed, and no engine loads it. One that was there before is a file like others."""
    sample = made_sample(manifest)
    exempt = "" if sample is None or sample.path in stated else sample.path
    return [one for one in manifest.files if one.path != exempt]


def _refuse(what: str, paths: list[str]) -> None:
    if paths:
        more = f" and {len(paths) - _SHOWN_MAX} more" if len(paths) > _SHOWN_MAX else ""
        shown = ", ".join(one[:200] for one in paths[:_SHOWN_MAX])
        raise ProofError(f"{what} {shown}{more}")
