"""``edge-agent metadata`` over HTTP: the options and exit codes that conformance suites use."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from device_agent.cli.program import cli
from tests.support.tuf_repository import Repository


@pytest.fixture
def repository() -> Repository:
    made = Repository(hashes=True)
    made.add("path/file.txt", b"content")
    made.release("targets")
    return made


@pytest.fixture
def url(repository: Repository) -> Iterator[str]:
    """Where the repository is served."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, kind, name = self.path.split("/", 2)
            files = repository.served if kind == "metadata" else repository.artifacts
            self.send_response(200 if name in files else 404)
            self.end_headers()
            self.wfile.write(files.get(name, b""))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str | Path) -> int:
    """The exit code."""
    code = cli.main(["metadata", *map(str, arguments)], standalone_mode=False)
    return 0 if code is None else int(code)


def test_init_refresh_download(
    tmp_path: Path, repository: Repository, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way, with options in the suites' order; what is refused ends with 1."""
    folder, downloads, root = tmp_path / "m", tmp_path / "d", tmp_path / "root.json"
    folder.mkdir()
    downloads.mkdir()
    root.write_bytes(repository.served["1.root.json"])
    assert run("--metadata-dir", folder, "init", root) == 0
    assert (folder / "root.json").read_bytes() == root.read_bytes()
    there = ["--metadata-url", f"{url}/metadata", "--metadata-dir", folder]
    assert run(*there, "refresh") == 0
    assert {path.name for path in folder.glob("*.json")} == {
        f"{role}.json" for role in ("root", "timestamp", "snapshot", "targets")
    }
    wanted = ["--target-dir", downloads, "--target-base-url", f"{url}/targets"]
    assert run(*there, "--target-name", "path/file.txt", *wanted, "download", "--json") == 0
    (file,) = downloads.iterdir()
    assert json.loads(capsys.readouterr().out) == {"file": str(file)}
    assert file.read_bytes() == b"content"
    assert run(*there, "--target-name", "missing", *wanted, "download") == 1
    repository.resign("timestamp.json", [])
    assert run(*there, "refresh") == 1


def test_without_init(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is trusted, and nobody is asked; with ``--json`` that is a document."""
    there = ["--metadata-url", f"{url}/metadata", "--metadata-dir", tmp_path]
    assert run(*there, "refresh", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 1
    assert list(tmp_path.iterdir()) == []
