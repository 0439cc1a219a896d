"""Holds evidence against an artifact and against what a policy requires."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from edge_sdk.base import Digest, EdgeError, FormatError, RefusedError, TrustError
from edge_sdk.evidence.bundle import Signed, read_signed
from edge_sdk.evidence.policy import Required
from edge_sdk.evidence.signers import (
    read_authorities,
    read_keys,
    signer_by_certificate,
    signer_by_key,
)
from edge_sdk.evidence.statement import Kind, Provenance, Statement, read_statement
from edge_sdk.manifest import Manifest

EVIDENCE_MAX = 8  # of one artifact at a time
# Of one artifact altogether: more can be attached to what is published.
EVIDENCE_KEPT_MAX = 32
EVIDENCE_KEPT_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Evidence that speaks of exactly one artifact. ``digest``: of ``document``.

    signer: the key or the certificate that was believed; empty where nobody is.
    """

    kind: Kind
    digest: Digest
    signer: str
    builder: str
    document: bytes = field(repr=False)


def check_evidence(
    documents: Iterable[bytes], required: Sequence[Required], manifest: Manifest, *, at: datetime
) -> tuple[Evidence, ...]:
    """What an artifact is published with: all that is ``required``, and nothing else.

    at: when certificates have to be valid.
    Raises: RefusedError (something is missing, or nothing asks for it), FormatError,
    TrustError (signed or built by who is not believed), ProofError (it is about other files).
    """
    given = list(dict.fromkeys(documents))
    if len(given) > EVIDENCE_MAX:
        raise RefusedError(f"{len(given)} pieces of evidence; {EVIDENCE_MAX} are allowed")
    judged = [_judge(one, required, manifest, at) for one in given]
    for one in judged:
        if not one.asked:
            raise RefusedError(
                f"no policy here asks for evidence of kind {one.evidence.kind} in namespace "
                f"{manifest.model.namespace}, so nobody would check it: leave it out",
                kind=one.evidence.kind,
            )
        if not one.satisfied:
            raise one.failed[0]
    _refuse_missing(required, judged, manifest)
    return tuple(one.evidence for one in judged)


def find_evidence(
    kept: Iterable[tuple[bytes, datetime]],
    required: Sequence[Required],
    manifest: Manifest,
) -> tuple[Evidence, ...]:
    """What was published with an artifact and when, proved as far as ``required`` names whom
    to believe; of what nothing asks for, or somebody else signed, the signer stays empty.

    Raises: as ``check_evidence``, where something that is required does not hold.
    """
    judged = [_judge(document, required, manifest, at) for document, at in kept]
    _refuse_missing(required, judged, manifest)
    return tuple(one.evidence for one in judged)


def missing_evidence(wanted: Iterable[Required], namespace: str, name: str) -> RefusedError:
    """What whoever publishes ``name`` without all of it is told."""
    kinds = list(dict.fromkeys(one.kind for one in wanted))
    return RefusedError(
        f"namespace {namespace} has to bring evidence of kind {' and '.join(kinds)}, and {name} "
        f"comes without: publish it with {' '.join(['--evidence FILE'] * len(kinds))}",
        kind=", ".join(kinds),
    )


def claimed_kind(document: bytes) -> Kind:
    """What a piece of evidence says that it is; nothing of it is proved.

    Raises: FormatError.
    """
    return read_statement(read_signed(document).payload).kind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """``asked``: something requires such evidence. ``failed``: why it does not satisfy it."""

    evidence: Evidence
    asked: bool
    satisfied: frozenset[Required]
    failed: tuple[EdgeError, ...]


def _judge(
    document: bytes, required: Sequence[Required], manifest: Manifest, at: datetime
) -> _Judged:
    """Raises: FormatError, ProofError."""
    signed = read_signed(document)
    statement = read_statement(signed.payload)
    asked = [one for one in required if one.kind == statement.kind]
    answers = {one: _signer_or_why_not(signed, statement, one, at) for one in asked}
    signers = {one: answer for one, answer in answers.items() if isinstance(answer, str)}
    statement.check_states(manifest)
    return _Judged(
        evidence=Evidence(
            kind=statement.kind,
            digest=signed.digest,
            signer=next(iter(signers.values()), ""),
            builder=statement.builder,
            document=document,
        ),
        asked=bool(asked),
        satisfied=frozenset(signers),
        failed=tuple(one for one in answers.values() if not isinstance(one, str)),
    )


def _refuse_missing(
    required: Sequence[Required], judged: Sequence[_Judged], manifest: Manifest
) -> None:
    """What is there and not believed says more than that something is missing."""
    satisfied = {one for each in judged for one in each.satisfied}
    missing = [one for one in required if one not in satisfied]
    for wanted in missing:
        for one in judged:
            if one.evidence.kind == wanted.kind and one.failed:
                raise one.failed[0]
    if missing:
        name = f"{manifest.model} {manifest.version} {manifest.variant}"
        raise missing_evidence(missing, manifest.model.namespace, name)


def _signer_or_why_not(
    signed: Signed, statement: Statement, required: Required, at: datetime
) -> str | EdgeError:
    try:
        _check_builder(statement, required)
        return _signer(signed, required, at)
    except (TrustError, FormatError) as error:
        return error


def _signer(signed: Signed, required: Required, at: datetime) -> str:
    """Raises: TrustError, FormatError."""
    keys = [key for pem in required.keys for key in read_keys(pem)]
    signer = signer_by_key(signed, keys)
    if signer is not None:
        return signer
    if required.authorities and signed.certificates:
        authorities = [one for pem in required.authorities for one in read_authorities(pem)]
        return signer_by_certificate(signed, authorities, required.identities, at=at)
    if signed.certificates and signed.logged:
        raise TrustError(
            "the evidence is signed without a lasting key (Sigstore keyless), which is not "
            "believed here: sign it with a key or a certificate that the policy names"
        )
    raise TrustError(f"the {required.kind} is not signed by a key that the policy names")


def _check_builder(statement: Statement, required: Required) -> None:
    if isinstance(statement, Provenance) and statement.builder not in required.builders:
        raise TrustError(
            f"the policy does not name the builder {statement.builder[:200]!r}",
            builder=statement.builder[:200],
        )
