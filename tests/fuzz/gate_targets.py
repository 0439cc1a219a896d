"""What is fed with hostile bytes of whoever publishes: files at the gate for code, evidence."""

from __future__ import annotations

from edge_sdk.evidence import Required, find_evidence
from edge_sdk.formats import code_in
from tests.fuzz.file_targets import written
from tests.support.artifacts import make_artifact
from tests.support.evidence import AT, BUILDER, authority, certificate_pem, key, pem
from tests.support.evidence_record import FILES

_NAMES = ("model", "model.onnx", "model.tflite", "model.ort", "saved_model.pb", "model.pkl")
_ABOUT = make_artifact(FILES).manifest
_KEY = pem(key())
_REQUIRED = (
    Required(
        kind="model-signing",
        keys=(_KEY,),
        authorities=(certificate_pem(authority()),),
        identities=("*",),
    ),
    Required(kind="slsa-provenance", keys=(_KEY,), builders=(BUILDER,)),
)


def gate(data: bytes) -> None:
    """A file behind a byte, its name: there is an answer, which people can read."""
    name = _NAMES[(data[0] if data else 0) % len(_NAMES)]
    for reason in code_in(written("model", data[1:]), name):
        assert len(reason) < 400


def evidence(data: bytes) -> None:
    """As the only evidence of an artifact: whoever is named as its signer is believed."""
    for required in (*((one,) for one in _REQUIRED), ()):
        (found,) = find_evidence(
            [(data, AT)], [one for one in required if _asks(one, data)], _ABOUT
        )
        assert not found.signer or required


def _asks(required: Required, data: bytes) -> bool:
    """Whether it is about evidence of this kind; of another it would be missing."""
    (found,) = find_evidence([(data, AT)], (), _ABOUT)
    return found.kind == required.kind
