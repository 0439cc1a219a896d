"""Whatever is asked, rolled out, committed and evicted in whatever order: catalog and store
agree, the budget holds, and nothing that is needed goes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distributor import rollouts
from distributor.catalog import (
    CatalogDelta,
    add_delta,
    delta_bytes,
    list_deltas,
    unknown_blobs,
)
from distributor.planning import needed_pairs
from distributor.services.keeping import Keeper, shelves
from distributor.storage import Blobs
from edge_sdk.base import Digest, file_digest
from edge_sdk.delta import FORMAT_VERSION
from tests.support.artifacts import make_artifact, noise
from tests.support.catalog import AT_MS, MODEL, Catalog, open_catalog

pytestmark = pytest.mark.unmeasured

BUDGET_BYTES = 2_000
LINE = [make_artifact({"m.bin": noise(50, f"{n}")}, version=f"{n}.0.0") for n in range(1, 13)]
versions = st.integers(1, len(LINE))
devices = st.sampled_from(["a", "b", "c", "d"])


class Keeping(RuleBasedStateMachine):
    """A catalog and a store in which deltas are only bytes of their size."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.catalog: Catalog = self.stack.enter_context(open_catalog(self.folder))
        for one in LINE:
            self.catalog.add(one)
        self.blobs = Blobs(self.folder / "objects")
        self.keeper = self._keeper()
        self.runs: dict[str, int] = {}
        self.open: dict[str, tuple[str, int]] = {}  # by device: its rollout and version
        self.event = 0

    def teardown(self) -> None:
        self.stack.close()

    @rule(device=devices, version=versions)
    def check_in(self, device: str, version: int) -> None:
        """A device runs some version, and says so."""
        self.runs[device] = version
        self.catalog.check_in(device, active=LINE[version - 1].artifact, version=f"{version}.0.0")

    @rule(since=st.none() | versions, until=versions, size=st.integers(1, 900))
    def build(self, since: int | None, until: int, size: int) -> None:
        """A delta is built, as the builder does: room first, then blob, then row."""
        start = None if since is None else LINE[since - 1].artifact
        end = LINE[until - 1].artifact
        built = [one for one in self._deltas() if (one.source, one.target) == (start, end)]
        if since == until or built:
            return
        data = noise(size, f"{since} {until}")
        delta = CatalogDelta(
            source=start,
            target=end,
            capability=f"v{FORMAT_VERSION} literal 1024",
            delta=file_digest([Digest.of(data)]),
            size_bytes=size,
            decoder_memory_bytes=1,
            methods=("literal",),
            build_ms=1,
            built_ms=AT_MS,
        )
        self._run(self._store(delta, data))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), version=versions)
    def roll_out(self, data: st.DataObject, version: int) -> None:
        """A rollout brings a device somewhere; the one before is over for it."""
        device = data.draw(st.sampled_from(sorted(self.runs)))
        made = self.catalog.roll_out(f"{version}.0.0", device)
        self.open.pop(device, None)
        if made.state != "done":
            self.open[device] = (made.rollout, version)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """A device arrives."""
        device = data.draw(st.sampled_from(sorted(self.open)))
        _, version = self.open.pop(device)
        self.event += 1
        self.catalog.report(device, self.catalog.event(device, self.event, "committed"))
        self.runs[device] = version

    @rule(short_bytes=st.integers(1, 3_000))
    def disk_is_full(self, short_bytes: int) -> None:
        """Room is asked for; what is said to have come free did."""
        before = self._blob_bytes()
        freed_bytes = self._run(self.keeper.free(short_bytes))
        assert before - self._blob_bytes() == freed_bytes

    @rule()
    def start_again(self) -> None:
        """Another process takes over."""
        self.keeper = self._keeper()
        self._run(self.keeper.make())

    @invariant()
    def catalog_and_store_agree(self) -> None:
        """No row without its blob, no blob without a row; the sum is what lies there."""
        names = {Digest.parse(path.name) for path in self._paths()}
        assert {one.delta for one in self._deltas()} == names
        assert self.catalog.read(unknown_blobs, names) == []
        assert self.catalog.read(delta_bytes) == self._blob_bytes()

    @invariant()
    def only_what_is_needed_must_stay(self) -> None:
        """What rollouts need cannot go, all else can, the least useful first."""
        (shelf,) = self.catalog.read(shelves, MODEL, {})
        needed = needed_pairs(self.catalog.read(rollouts.under_way), shelf.history)
        for kept in shelf.kept:
            assert kept.could_go == (kept.stored.pair not in needed)
        orders = [kept.order for kept in shelf.kept]
        assert orders == sorted(orders)

    async def _store(self, delta: CatalogDelta, data: bytes) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield data

        needed = {
            kept.stored.pair
            for shelf in self.catalog.read(shelves, MODEL, {})
            for kept in shelf.kept
            if not kept.could_go
        }
        await self.keeper.make(delta.size_bytes)
        left = self._deltas()
        assert needed <= {(one.source, one.target) for one in left}
        optional = [one for one in left if (one.source, one.target) not in needed]
        assert not optional or self._blob_bytes() + delta.size_bytes <= BUDGET_BYTES
        async with self.blobs.stage() as staging:
            await staging.write(delta.delta, parts())
            async with self.blobs.settling:
                await staging.keep()
                await self.catalog.database.write(add_delta, delta)

    def _keeper(self) -> Keeper:
        return Keeper(self.catalog.database, self.blobs, budget_bytes=BUDGET_BYTES, asked_s=0)

    def _deltas(self) -> list[CatalogDelta]:
        return self.catalog.read(list_deltas, [one.artifact for one in LINE])

    def _paths(self) -> list[Path]:
        return list((self.folder / "objects" / "blobs").glob("*/*"))

    def _blob_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._paths())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
