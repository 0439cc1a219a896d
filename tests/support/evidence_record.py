"""Records what the model_signing command writes, for tests of ``edge_sdk.evidence``.

Not run by tests: model-signing is no dependency. In an environment of its own, with this
repository on PYTHONPATH: ``pip install model-signing==1.1.1 pyOpenSSL securesystemslib``, then
``python -m tests.support.evidence_record``. Keys and certificates are those of
``tests.support.evidence``; a bundle that is made there is shown to model_signing, too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.evidence import (
    authority,
    bundle,
    certificate_pem,
    key,
    model_statement,
    pem,
    vouched,
)

BUNDLES = Path(__file__).parent / "evidence_bundles"
FILES = {"a.onnx": b"graph", "sub/w.bin": b"weights"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for path, data in FILES.items():
            file = here / "model" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        for number in (0, 3):
            private = key(number).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (here / f"key{number}.pem").write_bytes(private)
        own, between = vouched()
        (here / "own.pem").write_text(certificate_pem(own))
        (here / "between.pem").write_text(certificate_pem(between))
        (here / "authority.pem").write_text(certificate_pem(authority()))
        (here / "public.pem").write_text(pem(key()))
        by_key = ["--private_key", "key0.pem", "--signature"]
        _run(here, "sign", "key", "model", *by_key, str(BUNDLES / "by-key.json"))
        _run(here, "sign", "key", "model/a.onnx", *by_key, str(BUNDLES / "one-file.json"))
        _run(
            *(here, "sign", "certificate", "model", "--private_key", "key3.pem"),
            *("--signing_certificate", "own.pem", "--certificate_chain", "between.pem"),
            *("--signature", str(BUNDLES / "by-certificate.json")),
        )
        (here / "own.sig").write_bytes(bundle(model_statement(FILES), key(), publicKey={}))
        _run(
            *(here, "verify", "key", "model", "--public_key", "public.pem"),
            *("--signature", "own.sig"),
        )


def _run(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "model_signing", *arguments], cwd=folder, check=True)


if __name__ == "__main__":
    main()
