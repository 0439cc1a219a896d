"""The distributor keeps no version without the evidence that its policy requires."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edge_sdk.audit import Entry, decode_entry
from edge_sdk.base import (
    EdgeError,
    FormatError,
    ProofError,
    RefusedError,
    TrustError,
    UsageError,
)
from edge_sdk.evidence import EVIDENCE_BYTES_MAX, EVIDENCE_MAX
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.protos.operators_v1_pb2_grpc import AuditServiceStub, ContentServiceStub
from edge_sdk.rpc import Credentials, open_channel, typed_errors
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.evidence import (
    BUILDER,
    bundle,
    key,
    model_statement,
    pem,
    provenance,
    write_policy,
)
from tests.support.fleet_server import FleetServer, fleet_server, publish_parts

FILES = {"a.bin": b"graph", "b.bin": b"weights"}
RULES = (
    {"kind": "model-signing", "namespaces": ["team"], "keys": [pem(key())]},
    {
        "kind": "slsa-provenance",
        "namespaces": ["team", "built"],
        "keys": [pem(key(1))],
        "builders": [BUILDER],
    },
)
SIGNATURE = bundle(model_statement(FILES), key())
BUILD = bundle(provenance(FILES), key(1))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FleetServer]:
    """Namespace ``team`` brings a signature and provenance, ``built`` provenance, others nothing."""
    policy = write_policy(tmp_path / "policy", *RULES)
    with fleet_server(tmp_path / "data", evidence_policy=str(policy)) as one:
        yield one


def artifact(version: str = "1.0.0", *, model: str = "team/digits") -> ArtifactBytes:
    return make_artifact(FILES, model=model, version=version)


def publish(
    stub: FleetServiceStub,
    made: ArtifactBytes,
    evidence: Sequence[bytes] = (),
    *,
    files: bool = True,
) -> fleet.PublishResponse:
    first, *rest = publish_parts(made)
    said = [fleet.PublishRequest(evidence=one) for one in evidence]
    with typed_errors("the distributor"):
        return stub.Publish(iter([first, *said, *(rest if files else ())]), timeout=30)


def published(stub: FleetServiceStub) -> list[str]:
    answer = stub.ListModels(fleet.ListModelsRequest(), timeout=30)
    return [f"{one.model} {one.version}" for one in answer.artifacts]


def entries(server: FleetServer) -> list[Entry]:
    with open_channel(server.serving.operator_address, Credentials(operator="alice")) as channel:
        answer = AuditServiceStub(channel).ListEntries(wire.ListEntriesRequest(), timeout=30)
        return [decode_entry(one) for part in answer for one in part.documents]


def kept(server: FleetServer, made: ArtifactBytes) -> list[bytes]:
    with open_channel(server.serving.operator_address, Credentials(operator="alice")) as channel:
        request = wire.FetchEvidenceRequest(artifact=made.artifact.raw)
        answer = ContentServiceStub(channel).FetchEvidence(request, timeout=30)
        return [one.document for one in answer]


def test_with_all_that_is_required_it_is_kept(server: FleetServer) -> None:
    """The evidence is kept with the version, byte for byte, and the audit log says which it was
    and who signed it."""
    made = artifact()
    answer = publish(server.operator(), made, [SIGNATURE, BUILD])
    assert answer.created
    assert [one.kind for one in answer.evidence] == ["model-signing", "slsa-provenance"]
    assert sorted(kept(server, made)) == sorted([SIGNATURE, BUILD])
    (entry,) = entries(server)
    signer = answer.evidence[0].signer
    assert entry.action == "artifact.publish"
    assert entry.facts["evidence 1"] == (
        f"model-signing {answer.evidence[0].digest.hex()} by {signer}"
    )
    assert entry.facts["evidence 2"].startswith("slsa-provenance ")


REFUSED: list[tuple[list[bytes], type[EdgeError]]] = [
    ([], RefusedError),
    ([SIGNATURE], RefusedError),
    ([BUILD], RefusedError),
    ([bundle(model_statement(FILES), key(1)), BUILD], TrustError),
    ([SIGNATURE, bundle(provenance(FILES, builder="https://else"), key(1))], TrustError),
    ([bundle(model_statement({"a.bin": b"graph"}), key()), BUILD], ProofError),
    ([SIGNATURE, bundle(provenance({"a.bin": b"graph"}), key(1))], ProofError),
    ([SIGNATURE, BUILD, bundle(model_statement(FILES, predicateType="x"), key())], FormatError),
    ([b"\xff", SIGNATURE, BUILD], FormatError),
    ([SIGNATURE] * (EVIDENCE_MAX + 1), UsageError),
    ([b"0" * (EVIDENCE_BYTES_MAX + 1)], UsageError),
]


def test_anything_else_is_refused(server: FleetServer) -> None:
    """Before a byte of the files is asked for, and nothing of it stays."""
    stub = server.operator()
    for evidence, error in REFUSED:
        with pytest.raises(error):
            publish(stub, artifact(), evidence, files=False)
    assert published(stub) == []
    assert entries(server) == []


def test_namespaces_differ(server: FleetServer) -> None:
    """Each brings what is asked of it, and one of which nothing is asked brings nothing."""
    stub = server.operator()
    publish(stub, artifact(model="built/digits"), [BUILD])
    publish(stub, artifact(model="free/digits"))
    with pytest.raises(RefusedError, match="no policy here asks for evidence"):
        publish(stub, artifact(model="free/more"), [BUILD])
    answer = stub.EvidencePolicy(fleet.EvidencePolicyRequest(namespace="built"), timeout=30)
    (one,) = answer.required
    assert (one.kind, list(one.keys), list(one.builders)) == (
        "slsa-provenance",
        [pem(key(1))],
        [BUILDER],
    )


def test_publishing_again_needs_nothing_and_may_bring_more(tmp_path: Path) -> None:
    """What is there passed by the policy of its day; evidence that comes later is judged, kept
    beside it and logged, once."""
    data, made = tmp_path / "data", artifact()
    with fleet_server(data) as before:
        publish(before.operator(), made)
    policy = write_policy(tmp_path / "policy", RULES[0])
    with fleet_server(data, evidence_policy=str(policy)) as server:
        stub = server.operator()
        assert not publish(stub, made).created
        with pytest.raises(TrustError):
            publish(stub, made, [bundle(model_statement(FILES), key(1))])
        assert kept(server, made) == []
        for _ in range(2):
            answer = publish(stub, made, [SIGNATURE], files=False)
            assert not answer.created
            assert len(answer.evidence) == 1
        assert kept(server, made) == [SIGNATURE]
        assert [one.action for one in entries(server)] == ["artifact.publish", "artifact.evidence"]
        with pytest.raises(RefusedError):
            publish(stub, artifact("2.0.0"))


def test_a_policy_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """Rather than letting in what it was to keep out."""
    file = tmp_path / "evidence.toml"
    file.write_text("[[evidence]]\nkind = 'model-signing'\n")
    with (
        pytest.raises(FormatError, match="no policy of evidence"),
        fleet_server(tmp_path / "data", evidence_policy=str(file)),
    ):
        pass
