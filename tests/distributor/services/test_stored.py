"""What a manifest says of files that are here already is proved as for those that come with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import update

from distributor.catalog import stored_bytes
from distributor.storage import Database
from distributor.storage.tables import blobs
from edge_sdk.base import CHUNK_BYTES, Digest, ProofError, UnavailableError
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.rpc import typed_errors
from tests.support.artifacts import ArtifactBytes, make_artifact, noise
from tests.support.catalog import url_of
from tests.support.evidence import bundle, key, model_statement, pem, write_policy
from tests.support.fleet_server import FleetServer, fleet_server, publish_parts

GENUINE = noise(CHUNK_BYTES + 7, "genuine")
OTHER = noise(CHUNK_BYTES + 7, "other")
SIGNED = {"a.bin": b"graph", "b.bin": GENUINE}
RULE = {"kind": "model-signing", "namespaces": ["team"], "keys": [pem(key())]}
SIGNATURE = bundle(model_statement(SIGNED), key())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    """Namespace ``team`` brings a signature, others nothing; ``OTHER`` is here already."""
    folder = tmp_path_factory.mktemp("stored")
    policy = write_policy(folder / "policy", RULE)
    with fleet_server(folder / "data", evidence_policy=str(policy)) as one:
        publish(one, make_artifact({"b.bin": OTHER}, model="free/digits"))
        yield one


def lying(made: ArtifactBytes, path: str, **said: object) -> ArtifactBytes:
    files = tuple(
        replace(one, **said) if one.path == path else one  # type: ignore[arg-type]
        for one in made.manifest.files
    )
    return replace(made, manifest=replace(made.manifest, files=files))


def publish(
    server: FleetServer, made: ArtifactBytes, *evidence: bytes, here: bytes = b""
) -> fleet.PublishResponse:
    """``here``: a file that does not come with it."""
    held = [one.digest for one in made.manifest.files if made.files[one.path] == here]
    first, *rest = publish_parts(made, without=held)
    said = [fleet.PublishRequest(evidence=one) for one in evidence]
    with typed_errors("the distributor"):
        return server.operator().Publish(iter([first, *said, *rest]), timeout=30)


def test_evidence_is_about_the_bytes_that_devices_get(server: FleetServer) -> None:
    """A manifest that names other bytes and the SHA-256 of those that were signed is refused,
    whether the bytes come with it or another namespace brought them."""
    made = make_artifact({**SIGNED, "b.bin": OTHER}, version="6.6.6")
    lie = lying(made, "b.bin", sha256=Digest.of(GENUINE))
    for here in (OTHER, b""):
        with pytest.raises(ProofError):
            publish(server, lie, SIGNATURE, here=here)
    honest = make_artifact(SIGNED, version="1.0.0")
    assert publish(server, honest, SIGNATURE).created
    assert publish(server, make_artifact(SIGNED, version="1.1.0"), SIGNATURE, here=GENUINE).created


def test_nobody_lies_about_a_size(server: FleetServer) -> None:
    """Nor about the SHA-256 where no evidence is asked for: others may trust it."""
    made = make_artifact({"b.bin": OTHER}, model="free/digits", version="2.0.0")
    for said in ({"size_bytes": len(OTHER) + 1}, {"sha256": Digest.of(b"else")}):
        with pytest.raises(ProofError, match="is here already"):
            publish(server, lying(made, "b.bin", **said), here=OTHER)


def test_what_was_stored_before_is_read_once(server: FleetServer) -> None:
    """A file of an earlier release is hashed when a manifest names it, and found out if it is
    damaged: then it comes again."""
    digest = make_artifact({"b.bin": OTHER}).manifest.files[0].digest

    forgotten = update(blobs).where(blobs.c.digest == str(digest)).values(sha256=None)
    database = Database(url_of(server.config.data))
    with database.transaction(write=True) as connection:
        connection.execute(forgotten)
    made = make_artifact({"b.bin": OTHER}, model="free/digits", version="3.0.0")
    with pytest.raises(ProofError):
        publish(server, lying(made, "b.bin", sha256=Digest.of(b"else")), here=OTHER)
    with database.transaction(write=True) as connection:
        known = stored_bytes(connection, [digest])
        assert known[digest] == (len(OTHER), Digest.of(OTHER))
        connection.execute(forgotten)
    database.close()
    path = next(server.config.data.rglob(str(digest)))
    path.chmod(0o644)
    path.write_bytes(OTHER[:-1] + b"x")
    with pytest.raises(UnavailableError, match="damaged"):
        publish(server, made, here=OTHER)
    assert publish(server, made).created
