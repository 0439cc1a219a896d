"""Of a golden sample that publishing makes no evidence speaks: so it is one, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from edge_sdk.base import EdgeError, FormatError, ProofError
from edge_sdk.formats import write_safetensors
from edge_sdk.manifest import GOLDEN_PATH, Golden
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.rpc import typed_errors
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.evidence import BUILDER, bundle, key, pem, provenance, write_policy
from tests.support.fleet_server import FleetServer, fleet_server, publish_parts

RULE = {
    "kind": "slsa-provenance",
    "namespaces": ["team"],
    "keys": [pem(key())],
    "builders": [BUILDER],
}


def tensors(*names: str) -> bytes:
    stream = io.BytesIO()
    write_safetensors(stream, {one: np.ones(2, np.float32) for one in names})
    return stream.getvalue()


def part(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def model(location: str) -> bytes:
    """ONNX with one tensor of which the values are in another file."""
    place = part(1, b"location") + part(2, location.encode())
    weights = b"\x08\x02\x10\x01" + part(8, b"w") + part(13, place) + b"\x70\x01"
    return b"\x08\x09" + part(7, part(2, b"g") + part(5, weights))


SAMPLE = tensors("input.x", "output.y")
MODEL = model("weights.bin")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    """Namespace ``team`` brings provenance, others nothing."""
    folder = tmp_path_factory.mktemp("sample")
    policy = write_policy(folder / "policy", RULE)
    with fleet_server(folder / "data", evidence_policy=str(policy)) as one:
        yield one


def with_golden(files: dict[str, bytes], path: str, version: str = "1.0.0") -> ArtifactBytes:
    made = make_artifact(files, version=version)
    golden = Golden(path=path, origin="given", tolerances={})
    return replace(made, manifest=replace(made.manifest, golden=golden, entry="model.onnx"))


def publish(server: FleetServer, made: ArtifactBytes, built: dict[str, bytes]) -> bool:
    first, *rest = publish_parts(made)
    evidence = fleet.PublishRequest(evidence=bundle(provenance(built), key()))
    with typed_errors("the distributor"):
        return server.operator().Publish(iter([first, evidence, *rest]), timeout=30).created


def test_a_sample_needs_no_evidence(server: FleetServer) -> None:
    """It is made after the model was built, and compared with what the model answers."""
    built = {"model.onnx": MODEL, "weights.bin": b"8 bytes!"}
    assert publish(server, with_golden({**built, GOLDEN_PATH: SAMPLE}, GOLDEN_PATH), built)


REFUSED: list[tuple[bytes, str, bytes, type[EdgeError], str]] = [
    (MODEL, "weights.bin", SAMPLE, ProofError, "does not speak of the bytes of weights.bin"),
    (MODEL, GOLDEN_PATH, b"anything", FormatError, "golden.safetensors: "),
    (MODEL, GOLDEN_PATH, tensors("input.x", "w"), ProofError, "no golden sample"),
    (model(GOLDEN_PATH), GOLDEN_PATH, SAMPLE, ProofError, "takes weights"),
    (model("./Golden.SafeTensors"), GOLDEN_PATH, SAMPLE, ProofError, "takes weights"),
    (
        b"\x08\x09" + part(7, b"\x12\x7f"),
        GOLDEN_PATH,
        SAMPLE,
        FormatError,
        "model.onnx: byte 4",
    ),
]


def test_nothing_else_is_let_in_as_a_sample(server: FleetServer) -> None:
    """Neither a file of another name, nor one that is no sample, nor one that the model loads."""
    for graph, path, data, error, says in REFUSED:
        made = with_golden({"model.onnx": graph, path: data}, path, version="2.0.0")
        with pytest.raises(error, match=says):
            publish(server, made, {"model.onnx": graph})
