"""A socket has one owner at a time, and appears only to those it is for."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from device_agent.access import Access, OwnSocket, access_of, remove_dead
from edge_sdk.base import ConflictError, NotFoundError, RefusedError, UsageError
from tests.support.open_folder import open_folder
from tests.support.source_tree import ROOT


@contextmanager
def listening(own: OwnSocket) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(own.bind_path))
        listener.listen()
        own.show()
        yield listener


def reaches(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(str(path)) == 0


def test_a_live_path_is_kept(tmp_path: Path) -> None:
    """Whoever comes second is refused, and the first goes on being reached."""
    path = tmp_path / "a.sock"
    with OwnSocket(f"unix:{path}") as own, listening(own):
        for _ in range(2):
            with pytest.raises(ConflictError, match="another process already listens"):
                OwnSocket(f"unix:{path}")
        assert reaches(path)
    with OwnSocket(f"unix:{path}") as own, listening(own):
        assert reaches(path)
    assert list(tmp_path.iterdir()) == []


def test_the_path_is_ones_own_before_it_listens(tmp_path: Path) -> None:
    """From the moment that one asks for it, nobody else gets it: no race to the bind."""
    with OwnSocket(f"unix:{tmp_path}/a.sock"), pytest.raises(ConflictError):
        OwnSocket(f"unix:{tmp_path}/a.sock")


def test_one_of_many_gets_it(tmp_path: Path) -> None:
    """However many begin in the same moment, also while an owner leaves: one at a time."""
    inside, most = [], []
    gate = threading.Barrier(8)

    def begin(_: int) -> int:
        gate.wait()
        got = 0
        for _ in range(50):
            with suppress(ConflictError), OwnSocket(f"unix:{tmp_path}/a.sock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                got += 1
        return got

    with ThreadPoolExecutor(8) as pool:
        got = sum(pool.map(begin, range(8)))
    assert got
    assert max(most) == 1


def test_one_who_takes_no_lock_keeps_it_too(tmp_path: Path) -> None:
    """A program that is not ours, also with its queue full, or of another kind of socket."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        path = tmp_path / f"{kind}.sock"
        with (
            socket.socket(socket.AF_UNIX, kind) as other,
            socket.socket(socket.AF_UNIX, kind) as waiting,
        ):
            other.bind(str(path))
            other.listen(0)
            waiting.connect(str(path))
            for _ in range(2):
                with pytest.raises(ConflictError, match="already listens"):
                    OwnSocket(f"unix:{path}")


_KILLED = """
import os, signal, socket, sys
from device_agent.access import OwnSocket
own = OwnSocket("unix:" + sys.argv[1])
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(own.bind_path))
listener.listen()
if sys.argv[2] == "shown":
    own.show()
print("listening", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("when", ["shown", "bound"])
def test_what_a_killed_process_left_is_replaced(tmp_path: Path, when: str) -> None:
    """Its lock goes with it; its socket, lock file and half-made folder are in nobody's way."""
    path = tmp_path / "a.sock"
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path), when], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        with pytest.raises(ConflictError):
            OwnSocket(f"unix:{path}")
        process.kill()
    with OwnSocket(f"unix:{path}") as own, listening(own):
        assert reaches(path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as one:
        yield one


def test_a_group_and_nobody_else(folder: Path) -> None:
    """The socket has the group and 0660, or is the owner's with 0600, from its first moment on."""
    for one, mode in ((access_of(str(os.getgid())), 0o660), (Access(), 0o600)):
        path = folder / f"{mode}.sock"
        with OwnSocket(f"unix:{path}", one) as own, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(own.bind_path))
            listener.listen()
            assert not path.exists()
            assert stat.S_IMODE(own.bind_path.parent.stat().st_mode) == 0o700
            own.show()
            status = path.stat()
            assert stat.S_IMODE(status.st_mode) == mode
            assert status.st_gid == os.getgid()


_CONNECT = """
import os, socket, sys
os.setgroups([int(one) for one in sys.argv[2:]])
os.setgid(60_001)
os.setuid(60_001)
print(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_comes_in_by_the_group_alone(folder: Path) -> None:
    """A user outside of the group gets no connection; a member of it does."""

    def answer(path: Path, groups: list[int]) -> int:
        ended = subprocess.run(
            [sys.executable, "-S", "-c", _CONNECT, str(path), *map(str, groups)],
            capture_output=True,
            check=True,
            timeout=30,
        )
        return int(ended.stdout)

    group = 60_002
    for access, allowed in ((Access(gid=group), True), (Access(), False)):
        with OwnSocket(f"unix:{folder}/a.sock", access) as own, listening(own):
            assert answer(own.path, []) == errno.EACCES
            assert (answer(own.path, [group]) == 0) is allowed


def test_a_group_that_there_is_not() -> None:
    """It is said by its name; a number needs no name; none is the owner alone."""
    with pytest.raises(UsageError, match="no group 'nobody-here'"):
        access_of("nobody-here")
    assert access_of("4711").gid == 4711
    assert access_of("").gid is None


def test_a_group_that_the_agent_is_not_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said what to do, and nothing is left where the socket would be."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    own = OwnSocket(f"unix:{folder}/a.sock", Access(gid=4711))
    with closing(own), pytest.raises(UsageError, match="must be a member"), listening(own):
        pass
    assert list(folder.iterdir()) == []


def test_a_folder_that_the_group_cannot_enter(folder: Path) -> None:
    """It is said at the start, not found out by each app; folders above count as well."""
    closed = folder / "closed"
    closed.mkdir(0o700)
    (closed / "inside").mkdir(0o755)
    for one in (closed, closed / "inside"):
        with pytest.raises(RefusedError, match="cannot come to a socket"):
            OwnSocket(f"unix:{one}/a.sock", Access(gid=os.getgid()))
    closed.chmod(0o710)
    with closing(OwnSocket(f"unix:{closed}/a.sock", Access(gid=os.getgid()))):
        pass


def test_a_folder_that_everybody_writes_to(tmp_path: Path) -> None:
    """There anybody could put a socket of theirs in its place; with the sticky bit nobody can."""
    tmp_path.chmod(0o777)
    with pytest.raises(RefusedError, match="everybody may replace"):
        OwnSocket(f"unix:{tmp_path}/a.sock")
    tmp_path.chmod(0o1777)
    with closing(OwnSocket(f"unix:{tmp_path}/a.sock")):
        pass


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    """A file at the path is not touched; a folder that is not there is named."""
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(UsageError, match="is no socket"):
        OwnSocket(f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_bytes() == b"precious"
    with pytest.raises(NotFoundError):
        OwnSocket(f"unix:{tmp_path}/none/x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_successor_is_left_alone(tmp_path: Path) -> None:
    """Whoever closes removes only the socket that it showed."""
    path = tmp_path / "a.sock"
    own = OwnSocket(f"unix:{path}")
    with listening(own):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            own.close()
            assert reaches(path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Where the private folder would be, a link to somewhere else: nothing there is removed."""
    path = tmp_path / "a.sock"
    with OwnSocket(f"unix:{path}") as own:
        private = own.bind_path.parent
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "s").write_bytes(b"precious")
    private.symlink_to(elsewhere)
    with pytest.raises(ConflictError, match="cannot make"):
        OwnSocket(f"unix:{path}")
    assert (elsewhere / "s").read_bytes() == b"precious"


def test_only_the_dead_are_removed(tmp_path: Path) -> None:
    """``remove_dead`` takes what a killed process left, and nothing that lives or is no socket."""
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    remove_dead(f"unix:{path}")
    assert not path.exists()
    with OwnSocket(f"unix:{path}") as own, listening(own):
        remove_dead(f"unix:{path}")
        assert reaches(path)
    (tmp_path / "file").write_bytes(b"")
    for address in (f"unix:{tmp_path}/file", "127.0.0.1:1", "", f"unix:{tmp_path}/none"):
        remove_dead(address)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_long_path_still_fits(folder: Path) -> None:
    """Whatever path is allowed, the place where it is bound is not too long for the kernel."""
    long = folder / ("d" * (96 - len(str(folder))))
    long.mkdir()
    path = long / "a.s"
    assert len(str(path)) == 100 + 1
    with OwnSocket(f"unix:{path}") as own, listening(own):
        assert reaches(path)


def test_tcp_passes_through() -> None:
    """A port is the kernel's to guard."""
    with OwnSocket("127.0.0.1:7") as own:
        own.show()
        assert own.bind_address == own.address == "127.0.0.1:7"
