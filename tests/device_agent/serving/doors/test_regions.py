"""Shared memory of apps: only what was registered, only under the prefix, and never mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agent.access import OWNER, Access
from device_agent.serving.doors import regions as room
from device_agent.serving.doors.regions import REGIONS_MAX, Region, Regions
from edge_sdk.base import ConflictError, EdgeError, NotFoundError, ResourceError, UsageError

SIZE = 8192


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /dev/shm, with one object in it."""
    (tmp_path / "app-one").write_bytes(bytes(range(256)) * (SIZE // 256))
    monkeypatch.setattr(room, "_FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def regions(folder: Path) -> Iterator[Regions]:
    made = Regions("app-")
    yield made
    made.close()


def region(name: str = "r", key: str = "/app-one", offset: int = 0, size: int = SIZE) -> Region:
    return Region(name=name, key=key, offset=offset, size_bytes=size)


def test_parts_are_read_and_written(regions: Regions, folder: Path) -> None:
    """Offsets of region and part add up; arrays of any rank are filled and written."""
    regions.register(region(offset=256, size=512))
    with regions.use() as use:
        part = use.part("r", 2, 4)
        assert part.read() == b"\2\3\4\5"
        array = np.zeros((2, 2), np.uint8)
        part.read_into(array)
        assert array.tolist() == [[2, 3], [4, 5]]
        part.write(array[::-1].copy())
        part.write(b"")
        part.write(np.array(7, np.uint8))
    assert (folder / "app-one").read_bytes()[256:263] == b"\0\1\7\5\2\3\6"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        *(("/other", "begin with 'app-'"), ("/app-/../app-one", "no slash")),
        *(("/app-none", "No such file"), ("/app-link", "symbolic"), ("", "begin with")),
        *(("/app-folder", "directory"), ("/app-one\0", "begin with"), ("//app-one", "begin")),
    ],
)
def test_nothing_beyond_the_prefix_is_opened(
    regions: Regions, folder: Path, key: str, says: str
) -> None:
    """Another name, a path, a link, a folder: none is opened."""
    (folder / "other").write_bytes(bytes(SIZE))
    (folder / "app-link").symlink_to(folder / "other")
    (folder / "app-folder").mkdir()
    with pytest.raises(EdgeError, match="Unable to open shared memory region") as refused:
        regions.register(region(key=key))
    assert says in refused.value.message
    assert regions.status("") == ()


def test_a_pipe_is_no_shared_memory(regions: Regions, folder: Path) -> None:
    """Opening one does not wait for its other end, and it is refused."""
    os.mkfifo(folder / "app-pipe")
    with pytest.raises(UsageError, match="failed to register"):
        regions.register(region(key="/app-pipe", size=1))


@pytest.mark.parametrize(
    "wrong",
    [
        *(region(size=SIZE + 1), region(offset=1), region(size=0), region(name="")),
        *(region(offset=(1 << 64) - 1, size=1), region(size=1 << 63)),
    ],
)
def test_a_region_lies_in_its_object(regions: Regions, wrong: Region) -> None:
    """What reaches beyond the object's size is refused, and no descriptor stays."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UsageError):
        regions.register(wrong)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_name_is_taken_once(regions: Regions) -> None:
    """The same object may be registered under another."""
    regions.register(region())
    with pytest.raises(ConflictError):
        regions.register(region(size=16))
    regions.register(region("s", size=16))
    assert {one.name for one in regions.status("")} == {"r", "s"}
    assert regions.status("s")[0].size_bytes == 16
    with pytest.raises(NotFoundError):
        regions.status("t")


def test_descriptors_are_bounded(regions: Regions) -> None:
    """One region too many is refused; after one went there is room again."""
    for number in range(REGIONS_MAX):
        regions.register(region(f"r{number}"))
    with pytest.raises(ResourceError):
        regions.register(region("more"))
    regions.unregister("r0")
    regions.register(region("more"))


@pytest.mark.parametrize(
    ("offset", "size", "says"),
    [
        *((0, SIZE + 1, "Invalid offset + byte size"), (SIZE - 1, 2, "Invalid offset + byte")),
        *((SIZE, 0, "Invalid offset for"), (-1, 4, "Invalid offset for"), (0, -1, "byte size")),
    ],
)
def test_a_part_lies_in_its_region(regions: Regions, offset: int, size: int, says: str) -> None:
    """What leads out of a region is refused, and leaves it unused."""
    regions.register(region())
    with regions.use() as use, pytest.raises(UsageError) as refused:
        use.part("r", offset, size)
    assert says in refused.value.message
    regions.unregister("r")


def test_a_region_in_use_stays(regions: Regions) -> None:
    """Twice used, it goes once both have let go; the others go at once."""
    regions.register(region())
    regions.register(region("idle"))
    with regions.use() as first:
        first.part("r", 0, 1)
        with regions.use() as second:
            second.part("r", 0, 1)
            second.part("r", 1, 1)
        with pytest.raises(EdgeError, match="currently in use"):
            regions.unregister("r")
        with pytest.raises(EdgeError, match=r"Failed to unregister the following.*: r$"):
            regions.unregister_all()
        assert [one.name for one in regions.status("")] == ["r"]
        assert first.part("r", 255, 1).read() == b"\xff"
    regions.unregister("r")
    regions.unregister("r")
    assert regions.status("") == ()


def test_an_object_that_shrinks_is_an_error_of_its_request(regions: Regions, folder: Path) -> None:
    """Its client made it smaller after it was registered: no signal ends this process."""
    regions.register(region())
    os.truncate(folder / "app-one", 100)
    with regions.use() as use:
        part = use.part("r", 0, SIZE)
        with pytest.raises(UsageError, match="smaller than it was registered"):
            part.read()
        with pytest.raises(UsageError, match="smaller than it was registered"):
            part.read_into(np.zeros(SIZE, np.uint8))


def test_what_does_not_fit_is_not_written(regions: Regions, folder: Path) -> None:
    """Not even its beginning."""
    regions.register(region())
    before = (folder / "app-one").read_bytes()
    with regions.use() as use, pytest.raises(EdgeError, match="should be at least 8 bytes"):
        use.part("r", 0, 7).write(bytes(8))
    assert (folder / "app-one").read_bytes() == before


def test_an_object_of_somebody_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that may open everything opens for apps only what they could open themselves:
    what is its own user's, the group's of those who may ask, or everybody's."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    group = Access(gid=os.getgid())
    cases = [(OWNER, 0o600, False), (OWNER, 0o660, False), (OWNER, 0o606, True)]
    cases += [(group, 0o600, False), (group, 0o640, False), (group, 0o660, True)]
    for access, mode, opened in cases:
        (folder / "app-one").chmod(mode)
        regions = Regions("app-", access)
        if opened:
            regions.register(region())
        else:
            with pytest.raises(EdgeError, match="neither the agent's user's nor"):
                regions.register(region())
        regions.close()
