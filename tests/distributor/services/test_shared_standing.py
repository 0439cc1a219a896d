"""What one process decides about keys and operators takes effect in the others on its database."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distributor import identity, operators
from distributor.errors import UnauthenticatedError
from distributor.operators import Grant
from distributor.services import SharedStanding, Standing
from distributor.storage import initialise
from edge_sdk.base import TrustError
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos.delivery_v1_pb2_grpc import DeliveryServiceStub
from edge_sdk.rpc import Credentials, open_channel, typed_errors
from tests.support.catalog import AT_MS, Catalog, database_setting, open_catalog, url_of
from tests.support.enrolled import SecuredFleet, secured_fleet
from tests.support.fleet_server import FleetServer, config_for, wait_until
from tests.support.thrown_out import throw_out


@contextmanager
def beside(fleet: SecuredFleet, data: Path) -> Iterator[FleetServer]:
    """A second distributor on the catalog of the first, with the same authority and keys."""
    setting = database_setting(fleet.data) or url_of(fleet.data).render_as_string()
    config = config_for(data, database=setting)
    initialise(data, setting)
    for name in ("identity", "keys", "audit"):
        shutil.copytree(fleet.data / name, data / name, dirs_exist_ok=True)
    server = FleetServer(config)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_a_device_revoked_here_is_refused_there(tmp_path: Path) -> None:
    """Its watch at the other process ends within seconds, and its next call is refused."""
    with secured_fleet(tmp_path) as fleet, beside(fleet, tmp_path / "other") as other:
        device = fleet.enrolled("gate-1")
        fleet.device(device).check_in()
        address = other.serving.device_address
        with open_channel(address, Credentials(tls=device.tls())) as channel:
            stub = DeliveryServiceStub(channel)
            stub.CheckIn(delivery.CheckInRequest(), timeout=20)
            watch = stub.Watch(delivery.WatchRequest(), timeout=20)
            wait_until(lambda: other.serving.wakeups.watched("device gate-1"))
            with fleet.operator() as operator:
                operator.identities.revoke("gate-1", reason="sto\0len")  # text columns take none
            with pytest.raises(TrustError, match="stolen"), typed_errors("the distributor"):
                list(watch)
            with pytest.raises(TrustError, match="stolen"), typed_errors("the distributor"):
                stub.CheckIn(delivery.CheckInRequest(), timeout=20)


def ended(catalog: Catalog, change: Callable[[], None]) -> str:
    """Why a stream of ada's pipeline ends when another process makes ``change`` before anybody
    here looked; "": it goes on."""

    async def act() -> str:
        standing = Standing()
        shared = SharedStanding(catalog.database, standing)
        await shared.look()
        grants = catalog.read(operators.find_operator, "ada").grants
        with standing.following("", None, operator="ada", grants=grants) as stream:
            change()
            await shared.look()
            first = stream.ended
            await shared.look()
            assert stream.ended == first
            return first

    return asyncio.run(act())


def add(catalog: Catalog, *roles: str) -> None:
    grants = [Grant.parse(one) for one in ("admin", *roles)]
    catalog.write(operators.add_operator, "root", grants[:1], at_ms=AT_MS, by="test")
    catalog.write(operators.add_operator, "ada", grants[1:], at_ms=AT_MS, by="test")


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        (["viewer", "publisher@team"], ""),
        (["viewer", "publisher@team", "deployer"], ""),
        (["viewer"], "roles of this operator were taken away"),
        (None, "this operator was removed"),
    ],
)
def test_what_an_operator_lost_elsewhere(tmp_path: Path, roles: list[str] | None, why: str) -> None:
    """Its streams end here as well, and only then."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "viewer", "publisher@team")

        def change() -> None:
            if roles is None:
                catalog.write(operators.remove_operator, "ada")
            else:
                grants = [Grant.parse(one) for one in roles]
                catalog.write(operators.set_grants, "ada", grants)

        assert ended(catalog, change) == why


def test_a_role_that_a_stream_has_no_use_for(tmp_path: Path) -> None:
    """A pipeline whose token says less than its operator may goes on when the rest is taken."""

    async def act(catalog: Catalog) -> str:
        standing = Standing()
        only = [Grant.parse("publisher@team")]
        with standing.following("", None, operator="ada", grants=only) as stream:
            catalog.write(operators.set_grants, "ada", only)
            await SharedStanding(catalog.database, standing).look()
            return stream.ended

    with open_catalog(tmp_path) as catalog:
        add(catalog, "viewer", "publisher@team")
        assert asyncio.run(act(catalog)) == ""


def test_keys_refused_before_are_not_refused_again(tmp_path: Path) -> None:
    """Only what is new since the last look counts; a key stays refused."""

    async def act(catalog: Catalog) -> None:
        rows = catalog.read(identity.refused)
        standing = Standing({one.key: one.reason for one in rows})
        shared = SharedStanding(catalog.database, standing)
        await shared.look()
        assert standing.known == 1
        throw_out(catalog, "b", reason="lost")
        await shared.look()
        assert standing.known == 2
        for one in catalog.read(identity.refused):
            with pytest.raises(UnauthenticatedError, match=one.reason):
                standing.check(one.key)

    with open_catalog(tmp_path) as catalog:
        throw_out(catalog, "a")
        asyncio.run(act(catalog))


def test_a_failed_look_is_repeated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A database that cannot be asked for once ends nothing."""

    async def act(catalog: Catalog) -> None:
        standing = Standing()
        shared = SharedStanding(catalog.database, standing, every_s=0.01)
        look, failures = shared.look, [TrustError("away"), LookupError("a defect")]

        async def fails() -> None:
            if failures:
                raise failures.pop()
            await look()

        shared.look = fails  # type: ignore[method-assign]
        throw_out(catalog, "a")
        shared.start()
        async with asyncio.timeout(20):
            while not standing.known:
                await asyncio.sleep(0.01)
        await shared.close()

    with open_catalog(tmp_path) as catalog:
        asyncio.run(act(catalog))
    assert caplog.text.count("cannot be looked up") == 2
