"""A device whose cached metadata were damaged, in front of an attacker: the whole matrix.

The device was at the newest state of a repository (root 3, an artifact replaced by a newer one).
Then any of its six cached files are damaged, and an attacker serves what it can: the state
before, as it was or bound together anew with the keys that it holds.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from device_agent.trust.client import TrustedMetadata, size_max
from device_agent.trust.fetcher import GuardedFetcher
from edge_sdk.base import TrustError
from tests.support.tuf_repository import METADATA_URL, Repository, RepositoryFetcher
from tests.support.unsynced_files import UnsyncedFiles

PATH = "team/digits/1.0.0/fp32.json"
CACHED = (
    "root_history/2.root.json",
    "root_history/3.root.json",
    "timestamp.json",
    "snapshot.json",
    "targets.json",
    "ns_team.json",
)
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda data: None,
    "emptied": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
}
Attacker = Literal[
    "no keys",
    "timestamp key",
    "timestamp and snapshot keys",
    "rotated-out timestamp key",
    "rotated-out timestamp and snapshot keys",
    "rotated-out keys that sign anew",
]
# The subsets of cached files that let the old artifact through where nothing is marked: how many
# of the 64, and the smallest one.
WITHOUT_MARKS: dict[Attacker, tuple[int, tuple[str, ...]]] = {
    "no keys": (16, ("timestamp.json", "snapshot.json")),
    "timestamp key": (16, ("timestamp.json", "snapshot.json")),
    "timestamp and snapshot keys": (32, ("snapshot.json",)),
    "rotated-out timestamp key": (16, ("root_history/2.root.json", "snapshot.json")),
    "rotated-out timestamp and snapshot keys": (32, ("root_history/2.root.json",)),
    "rotated-out keys that sign anew": (32, ("root_history/2.root.json",)),
}
ATTACKERS = tuple(WITHOUT_MARKS)


def subsets() -> Iterator[tuple[str, ...]]:
    """All 64, the smallest first."""
    for size in range(len(CACHED) + 1):
        yield from itertools.combinations(CACHED, size)


@dataclass
class Served:
    """What a client gets; as much of a repository as a fetcher needs."""

    served: dict[str, bytes]
    artifacts: dict[str, bytes]
    asked: list[str]


class World:
    """A repository before and after, a device that has seen both, and an attacker's copy."""

    def __init__(self, attacker: Attacker) -> None:
        repository = Repository(hashes=True)
        repository.delegate("targets", "ns_team", ["team/*/*/*"])
        repository.add(PATH, b"old", "ns_team")
        repository.release("ns_team", "targets")
        old = dict(repository.served)
        stolen = {role: list(keys) for role, keys in repository.keys.items()}
        rotated = {
            "rotated-out timestamp key": ("timestamp",),
            "rotated-out timestamp and snapshot keys": ("timestamp", "snapshot"),
            "rotated-out keys that sign anew": ("timestamp", "snapshot"),
        }.get(attacker, ())
        for role in rotated:
            repository.rotate(role)
        repository.publish("root")
        repository.publish("root")
        repository.add(PATH, b"new", "ns_team")
        for _ in range(3):
            repository.release("ns_team", "targets")
        self.factory_root = repository.served["1.root.json"]
        self.honest = dict(repository.served)
        attack = _Attack(repository, old, stolen)
        self.attacked: dict[str, bytes] = attack.serve(attacker, withhold=bool(rotated))
        self.served = self.honest

    def device(self, folder: Path) -> TrustedMetadata:
        served: Any = Served(self.served, {}, [])
        fetcher = GuardedFetcher(RepositoryFetcher(served).fetch, size_max=size_max)
        return TrustedMetadata(
            folder, self.factory_root, fetcher, files=UnsyncedFiles(), base_url=METADATA_URL
        )


class _Attack:
    """What can be served with old files, and with keys that sign what they answer for."""

    def __init__(
        self, repository: Repository, old: dict[str, bytes], keys: dict[str, list[Any]]
    ) -> None:
        self._repository = repository
        self._old = old
        self._keys = keys

    def serve(self, attacker: Attacker, *, withhold: bool) -> dict[str, bytes]:
        files = dict(self._old)
        if not withhold:
            roots = [name for name in self._repository.served if name.endswith(".root.json")]
            files.update({name: self._repository.served[name] for name in roots})
        if attacker == "timestamp key":
            self._bind(files, sign_snapshot=False)
        elif ("snapshot keys" in attacker and not withhold) or "anew" in attacker:
            self._bind(files, sign_snapshot=True)
        return files

    def _bind(self, files: dict[str, bytes], *, sign_snapshot: bool) -> None:
        """The old targets under a new timestamp, and under a new snapshot where it can sign one:
        with versions above all that the device has seen."""
        forged = Repository(hashes=True)
        forged.served = files
        forged.keys = self._keys
        version = max(int(name.split(".")[0]) for name in files if ".snapshot." in name)
        forged.roles["snapshot"].version = version
        for role in ("targets", "ns_team"):
            newest = max(int(name.split(".")[0]) for name in files if f".{role}." in name)
            forged.roles.setdefault(role, None)
            forged.serve(role, newest, files[f"{newest}.{role}.json"])
        if sign_snapshot:
            forged.roles["snapshot"].version = self._repository.roles["snapshot"].version + 10
            forged.publish("snapshot")
        else:
            forged.serve("snapshot", version, files[f"{version}.snapshot.json"])
        forged.roles["timestamp"].version = self._repository.roles["timestamp"].version + 10
        forged.publish("timestamp")


class Matrix:
    """Runs on one device's folder, made anew from memory for each of them."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        world.served = world.honest
        world.device(folder).refresh().target(PATH)
        self._state = {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    def installs_old(
        self,
        damaged: tuple[str, ...],
        damage: str,
        *,
        marks: bool = True,
        beside: tuple[str, ...] = (),
    ) -> bool:
        """Whether the attacker gets the old artifact in. ``marks`` False is the control.

        beside: files of the trust folder that are damaged in the same way, with the cache.
        """
        self._world.served = self._world.attacked
        return self._run(damaged, damage, marks=marks, beside=beside) == b"old"

    def recovers(self, damaged: tuple[str, ...], damage: str) -> bool:
        """Whether an honest repository brings the new artifact, after the same damage."""
        self._world.served = self._world.honest
        return self._run(damaged, damage, marks=True, beside=()) == b"new"

    def _run(
        self, damaged: tuple[str, ...], damage: str, *, marks: bool, beside: tuple[str, ...]
    ) -> bytes | None:
        self._write({Path("metadata", name) for name in damaged} | set(map(Path, beside)), damage)
        device = self._world.device(self._folder)
        if not marks:
            device.put_back = lambda *_: None  # type: ignore[method-assign]
        try:
            found = device.refresh().target(PATH)
        except TrustError:
            return None
        assert found is not None
        return next(data for data in (b"old", b"new") if _is(found.hashes["sha256"], data))

    def _write(self, damaged: set[Path], damage: str) -> None:
        shutil.rmtree(self._folder)
        for path, data in self._state.items():
            left = DAMAGES[damage](data) if path in damaged else data
            target = self._folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if left is not None:
                target.write_bytes(left)


def _is(digest: str, data: bytes) -> bool:

    return hashlib.sha256(data).hexdigest() == digest
