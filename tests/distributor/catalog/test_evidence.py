"""Evidence stays with its version: added once, in order, and never exchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.catalog import add_with_evidence, evidence_of, get_evidence
from edge_sdk.base import ConflictError, Digest, RefusedError
from edge_sdk.evidence import EVIDENCE_KEPT_BYTES_MAX, EVIDENCE_KEPT_MAX, Evidence
from tests.support.artifacts import make_artifact
from tests.support.catalog import open_catalog


def evidence(document: bytes) -> Evidence:
    return Evidence(
        kind="model-signing",
        digest=Digest.of(document),
        signer="key 1",
        builder="",
        document=document,
    )


def test_evidence_is_added_once(tmp_path: Path) -> None:
    """With its version or later; what is there already is not new, and keeps its day."""
    made = make_artifact({"a": b"a"})

    with open_catalog(tmp_path) as catalog:

        def add(*documents: bytes, at_ms: int) -> tuple[bool, list[bytes]]:
            added = catalog.write(
                add_with_evidence,
                made.document,
                made.manifest,
                [evidence(one) for one in documents],
                at_ms=at_ms,
                by="ada",
            )
            return added.created, [one.document for one in added.evidence]

        assert add(b"one", at_ms=1) == (True, [b"one"])
        assert add(b"one", b"two", at_ms=2) == (False, [b"two"])
        assert add(at_ms=3) == (False, [])
        digests = catalog.read(evidence_of, made.artifact)
        kept = [catalog.read(get_evidence, made.artifact, one) for one in digests]
        assert [(one.document, one.added_ms) for one in kept] == [(b"one", 1), (b"two", 2)]
        assert catalog.read(evidence_of, Digest.of(b"other")) == []


def test_a_conflict_adds_no_evidence(tmp_path: Path) -> None:
    """What is not kept brings nothing along."""
    first, other = make_artifact({"a": b"a"}), make_artifact({"a": b"b"})
    with open_catalog(tmp_path) as catalog:
        catalog.write(add_with_evidence, first.document, first.manifest, [], at_ms=1, by="ada")
        with pytest.raises(ConflictError):
            catalog.write(
                add_with_evidence,
                other.document,
                other.manifest,
                [evidence(b"one")],
                at_ms=2,
                by="ada",
            )
        assert catalog.read(evidence_of, other.artifact) == []


def test_evidence_has_an_end(tmp_path: Path) -> None:
    """One signature can be written in any number of ways: a version has so many pieces, and so
    many bytes, and what is too much leaves everything as it was."""
    made = make_artifact({"a": b"a"})
    with open_catalog(tmp_path) as catalog:

        def add(*documents: bytes) -> None:
            catalog.write(
                add_with_evidence,
                made.document,
                made.manifest,
                [evidence(one) for one in documents],
                at_ms=1,
                by="ada",
            )

        add(bytes(EVIDENCE_KEPT_BYTES_MAX - EVIDENCE_KEPT_MAX))
        with pytest.raises(RefusedError):
            add(b"x" * (EVIDENCE_KEPT_MAX + 1))
        for one in range(EVIDENCE_KEPT_MAX - 1):
            add(b"%c" % one)
        add(b"%c" % 0)
        with pytest.raises(RefusedError, match="at most 32 pieces"):
            add(b"x")
        assert len(catalog.read(evidence_of, made.artifact)) == EVIDENCE_KEPT_MAX
