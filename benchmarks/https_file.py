"""The plain way: one file over HTTPS, downloaded, hashed, loaded. The anchor of every row.

Standard library on both sides; the certificate is made for this run.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import http.server
import ipaddress
import multiprocessing
import os
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PIECE_BYTES = 64 << 10


class HttpsServer:
    """Serves the files of one folder from a process of its own; a context manager."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._ready, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(folder, certificate, theirs), daemon=True
        )
        self.address = ""

    def __enter__(self) -> HttpsServer:
        self._process.start()
        if not self._ready.poll(30):
            raise TimeoutError("the HTTPS server did not start within 30 s")
        self.address = f"127.0.0.1:{self._ready.recv()}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()
        self._ready.close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its own name)
        """Says nothing: the benchmark prints its own lines."""


def _serve(folder: Path, certificate: Path, ready: Connection) -> None:
    handler = functools.partial(_QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    ready.send(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    thread.join()


def make_certificate(path: Path) -> None:
    """Writes a key and a self-signed certificate for 127.0.0.1, good for one day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    path.chmod(0o600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    seconds: float
    load_s: float


def download_and_load(
    address: str, name: str, sha256: str, certificate: Path, target: Path
) -> Downloaded:
    """From the request to a proved file that an engine has loaded, as a careful client does it.

    Raises: ValueError where the bytes are not those expected.
    """
    import onnxruntime

    trust = ssl.create_default_context(cafile=str(certificate))
    began = time.perf_counter()
    digest = hashlib.sha256()
    request = urllib.request.Request(f"https://{address}/{name}")
    with urllib.request.urlopen(request, context=trust) as answer, target.open("wb") as out:
        while piece := answer.read(_PIECE_BYTES):
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != sha256:
        raise ValueError(f"{name}: the bytes that came are not those that were asked for")
    loading = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession(str(target), options)
    ended = time.perf_counter()
    return Downloaded(seconds=ended - began, load_s=ended - loading)
