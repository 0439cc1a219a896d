"""PostgreSQL for tests: a server of its own, and a database for each folder that wants a catalog.

``python -m tests.support.postgres COMMAND...`` starts a server in a temporary folder, runs the
command with ``EDGE_TEST_DATABASE_URL`` set, and takes everything away again.
"""

from __future__ import annotations

import atexit
import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url

VARIABLE = "EDGE_TEST_DATABASE_URL"
_INSTALLED = "/usr/lib/postgresql/*/bin"  # where Debian puts what is not on the path
_START_S = 60.0
_MADE: dict[Path, URL] = {}
_SETTINGS = {
    "fsync": "off",  # nothing here outlives the tests
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "",
}


def chosen() -> URL | None:
    """The server that tests are to use; None: catalogs are files."""
    text = os.environ.get(VARIABLE, "")
    return make_url(text).set(drivername="postgresql+psycopg") if text else None


def database_of(folder: Path, *, template: str = "template1") -> URL:
    """The database of ``folder``, made like ``template`` where there is none yet; gone when
    this process ends."""
    server = chosen()
    assert server is not None
    if folder not in _MADE:
        name = f"edge_{os.getpid()}_{len(_MADE)}"
        _on_server(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        atexit.register(_on_server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        _MADE[folder] = server.set(database=name)
    return _MADE[folder]


def _on_server(statement: str) -> None:
    server = chosen()
    assert server is not None
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def find_program(name: str) -> str | None:
    """``initdb`` or ``postgres`` of the newest release that is installed."""
    installed = sorted(glob.glob(f"{_INSTALLED}/{name}"), key=lambda path: int(path.split("/")[4]))  # noqa: PTH207
    return shutil.which(name) or next(reversed(installed), None)


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """A server in ``folder`` that only this machine reaches; its URL.

    PostgreSQL does not run as root: then it is nobody's.
    """
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    data, sockets = folder / "data", folder / "sockets"
    for one in (data, sockets):
        one.mkdir(mode=0o700)
        os.chown(one, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    made = [find_program("initdb"), "-D", data, "-U", "edge", "-A", "trust", "-E", "UTF8"]
    # Texts sort otherwise than bytes, as in most installations: nothing may depend on it.
    made += ["--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8", "--no-sync"]
    _run(made, user.pw_uid, user.pw_gid)
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [str(find_program("postgres")), "-D", data, "-k", sockets, *settings],
        stdout=log,
        stderr=log,
        cwd="/",
        **_as(user.pw_uid, user.pw_gid),
    )
    try:
        _wait(data / "postmaster.pid", server, folder / "log")
        yield f"postgresql://edge@/postgres?host={sockets}"
    finally:
        server.send_signal(signal.SIGINT)  # ends sessions that are left
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


def _as(uid: int, gid: int) -> dict[str, int]:
    return {"user": uid, "group": gid} if os.geteuid() == 0 else {}


def _run(command: Sequence[object], uid: int, gid: int) -> None:
    done = subprocess.run(
        [str(one) for one in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        **_as(uid, gid),
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _wait(pid_file: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server says in its file that it takes connections."""
    end = time.monotonic() + _START_S
    while True:
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) > 7 and lines[7].strip() == "ready":
            return
        if server.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"PostgreSQL does not start:\n{log.read_text()}")
        time.sleep(0.05)


def main(command: Sequence[str]) -> int:
    """Runs the command with a server of its own; its exit code."""
    if find_program("initdb") is None or find_program("postgres") is None:
        print(
            "!!! SKIPPED: no PostgreSQL on this machine; nothing was tested on it", file=sys.stderr
        )
        return 0
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as url:
        return subprocess.run(command, env={**os.environ, VARIABLE: url}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
