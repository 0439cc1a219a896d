"""Puts the distributor together and runs it until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

import grpc

from distributor.audit import HeadSigner, audit_signer
from distributor.builds import Builder
from distributor.catalog import unknown_blobs
from distributor.config import DistributorConfig
from distributor.services import (
    Access,
    Audit,
    Contents,
    Delivery,
    DeviceMetadata,
    Fleet,
    IdentityServices,
    Keeper,
    Listener,
    OperatorMetadata,
    Operators,
    Renewal,
    RolloutDriver,
    ServerCredentials,
    SharedStanding,
    Wakeups,
    Ways,
    make_identity_services,
    now_ms,
    open_listener,
)
from distributor.signing import OnlineKeys, find_root
from distributor.storage import Blobs, Database, DataFolder, catalog_of, remember_catalog, upgrade
from edge_sdk.protos.delivery_v1_pb2_grpc import add_DeliveryServiceServicer_to_server
from edge_sdk.protos.fleet_v1_pb2_grpc import add_FleetServiceServicer_to_server
from edge_sdk.protos.identity_v1_pb2_grpc import (
    add_EnrolmentServiceServicer_to_server,
    add_IdentityServiceServicer_to_server,
    add_RenewalServiceServicer_to_server,
)
from edge_sdk.protos.metadata_v1_pb2_grpc import add_MetadataServiceServicer_to_server
from edge_sdk.protos.operators_v1_pb2_grpc import (
    add_AuditServiceServicer_to_server,
    add_ContentServiceServicer_to_server,
    add_OperatorServiceServicer_to_server,
)

_METADATA = "edge.metadata.v1.MetadataService"
_OPERATING = tuple(
    f"edge.operators.v1.{one}" for one in ("OperatorService", "AuditService", "ContentService")
)
_ENDING = (signal.SIGTERM, signal.SIGINT)
_GRACE_S = 5.0  # for calls under way once watches have said goodbye


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A distributor that serves, and what tests look at inside it."""

    device_address: str
    operator_address: str
    enrolment_address: str  # "" under the switch for tests
    operator_token: str  # file with the token of a first operator; "": there is one
    pid: int
    builder: Builder
    wakeups: Wakeups
    keeper: Keeper


async def serve(config: DistributorConfig, ready: Callable[[Serving], None]) -> signal.Signals:
    """Serves until SIGTERM or SIGINT, and says which; ``ready`` is called once both listeners
    answer. The process is to end then: more of these signals are ignored from there on.

    The loop's own handlers give way to Python's when it is closed. A second Ctrl-C (people are
    impatient, and a parent that gets one passes it on) then interrupted whatever was being put
    away, gRPC's tasks among it, and a traceback was the last word.
    """
    loop = asyncio.get_running_loop()
    ended_by: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if not ended_by.done():
            ended_by.set_result(number)

    def heard(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop, signal.Signals(number))

    for number in _ENDING:
        signal.signal(number, heard)
    try:
        async with running(config) as serving:
            ready(serving)
            return await ended_by
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


@asynccontextmanager
async def running(config: DistributorConfig) -> AsyncIterator[Serving]:
    """A distributor for as long as the block lasts.

    Raises: NotFoundError (no data folder), ConflictError (it or a port is in use),
    RefusedError (an address that is not this machine), UsageError.
    """
    folder = DataFolder(config.data)
    folder.check()
    async with AsyncExitStack() as stack:
        stack.enter_context(folder.owned())
        url = catalog_of(folder, config.database)
        database = Database(url)
        stack.callback(database.close)
        await asyncio.to_thread(upgrade, database)
        remember_catalog(folder, url)  # of a folder that an earlier release made
        blobs = Blobs(folder.objects)
        await _tidy_up(database, blobs)
        keeper = Keeper(database, blobs, budget_bytes=config.delta_storage_bytes)
        await keeper.make()  # the budget may be smaller than it was
        builder = Builder(database, blobs, folder.work, workers=config.build_workers, room=keeper)
        stack.push_async_callback(builder.close)
        wakeups = Wakeups()
        ways = Ways(database, builder)
        driver = RolloutDriver(database, ways, wakeups)
        stack.push_async_callback(driver.close)
        keys = OnlineKeys(folder.keys)
        renewal = Renewal(database, keys)
        stack.push_async_callback(renewal.close)
        root = partial(_trust_root, database)
        own = await make_identity_services(config, database, root=root, wakeups=wakeups)
        delivery = Delivery(
            database,
            blobs,
            ways=ways,
            driver=driver,
            wakeups=wakeups,
            keys=keys,
            config=config,
            standing=own.standing,
            should_renew=own.should_renew,
        )
        fleet = Fleet(database, blobs, driver=driver, wakeups=wakeups, keeper=keeper, config=config)
        key = partial(audit_signer, uri=config.audit_key, public=config.audit_public)
        signer = await asyncio.to_thread(key, folder.audit_key)
        heads = HeadSigner(database, signer, clock_ms=now_ms, every_s=config.audit_head_s)
        stack.push_async_callback(heads.close)
        doors = _doors(own, database, blobs, keys, delivery=delivery, fleet=fleet, heads=heads)
        listeners = await _open_listeners(config, doors)
        stack.push_async_callback(_end, listeners, wakeups)
        await asyncio.to_thread(keys.create)  # not before both addresses were found to be good
        await renewal.start()
        for listener in listeners:
            await listener.start()
        shared = SharedStanding(database, own.standing)
        stack.push_async_callback(shared.close)
        shared.start()
        await driver.resume()
        heads.start()
        enrolment_address, operator_token = await _introduce(own, database, listeners)
        yield Serving(
            device_address=listeners[0].address,
            operator_address=listeners[1].address,
            enrolment_address=enrolment_address,
            operator_token=operator_token,
            pid=os.getpid(),
            builder=builder,
            wakeups=wakeups,
            keeper=keeper,
        )


def _registers(*services: Callable[[grpc.aio.Server], None]) -> Callable[[grpc.aio.Server], None]:
    """The services of one listener."""

    def register(server: grpc.aio.Server) -> None:
        for add in services:
            add(server)

    return register


_Add = Callable[[grpc.aio.Server], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doors:
    """What listeners offer."""

    own: IdentityServices
    access: Access
    for_devices: tuple[_Add, ...]
    for_operators: tuple[_Add, ...]


def _doors(
    own: IdentityServices,
    database: Database,
    blobs: Blobs,
    keys: OnlineKeys,
    *,
    delivery: Delivery,
    fleet: Fleet,
    heads: HeadSigner,
) -> _Doors:
    operators = Operators(database, own.standing, own.addresses)
    return _Doors(
        own=own,
        access=Access(database, clock_ms=now_ms, open_to_all=own.tls is None),
        for_devices=(
            partial(add_DeliveryServiceServicer_to_server, delivery),
            partial(add_MetadataServiceServicer_to_server, DeviceMetadata(database, keys)),
            partial(add_RenewalServiceServicer_to_server, own.renewal),
        ),
        for_operators=(
            partial(add_FleetServiceServicer_to_server, fleet),
            partial(add_MetadataServiceServicer_to_server, OperatorMetadata(database, keys)),
            partial(add_OperatorServiceServicer_to_server, operators),
            partial(add_AuditServiceServicer_to_server, Audit(database, heads)),
            partial(add_ContentServiceServicer_to_server, Contents(database, blobs)),
            partial(add_IdentityServiceServicer_to_server, own.identities),
            partial(add_RenewalServiceServicer_to_server, own.renewal),
        ),
    )


async def _introduce(
    own: IdentityServices, database: Database, listeners: list[Listener]
) -> tuple[str, str]:
    """Tells who makes tokens where the listeners are; the address to enrol at, and the file
    with a first operator's token. Both are "" under the switch for tests."""
    addresses = [one.address for one in listeners]
    enrolment = addresses[2] if own.tls is not None else ""
    own.say_addresses(
        device=addresses[0],
        operator=addresses[1],
        enrolment=enrolment,
        token=addresses[3] if len(addresses) > 3 else "",
    )
    if own.tls is None:
        await asyncio.to_thread(own.folder.create)
        return "", ""
    return enrolment, await own.first_operator_token(database)


async def _open_listeners(config: DistributorConfig, doors: _Doors) -> list[Listener]:
    """For devices, for operators, and, where certificates are asked for, to enrol."""
    own = doors.own

    opened = [
        await open_listener(
            config.device_address,
            ServerCredentials(kind="device", tls=own.tls),
            access=doors.access,
            services=[
                "edge.delivery.v1.DeliveryService",
                "edge.identity.v1.RenewalService",
                _METADATA,
            ],
            register=_registers(*doors.for_devices),
        ),
        await open_listener(
            config.operator_address,
            ServerCredentials(kind="operator", tls=own.tls),
            access=doors.access,
            services=[
                "edge.fleet.v1.FleetService",
                "edge.identity.v1.IdentityService",
                "edge.identity.v1.RenewalService",
                _METADATA,
                *_OPERATING,
            ],
            register=_registers(*doors.for_operators),
        ),
    ]
    if own.tls is not None:
        enrolling = await open_listener(
            config.enrolment_address,
            ServerCredentials(kind=None, tls=own.tls),
            access=doors.access,
            services=["edge.identity.v1.EnrolmentService"],
            register=lambda server: add_EnrolmentServiceServicer_to_server(own.enrolment, server),
        )
        opened.append(enrolling)
    if own.tls is not None and config.token_address:
        by_token = await open_listener(
            config.token_address,
            ServerCredentials(kind="token", tls=own.tls),
            access=doors.access,
            services=["edge.fleet.v1.FleetService", _METADATA, *_OPERATING],
            register=_registers(*doors.for_operators),
        )
        opened.append(by_token)
    return opened


async def _trust_root(database: Database, digest: bytes) -> bytes:
    """What devices begin to trust from; "" where nobody has signed anything yet."""
    return await database.read(find_root, digest)


async def _tidy_up(database: Database, blobs: Blobs) -> None:
    """Removes what a killed process left: staged files, and blobs that no row speaks of.

    Safe because the data folder is ours alone at this moment: nobody else writes blobs.
    """
    await blobs.sweep()
    async for page in blobs.pages():
        await blobs.remove(await database.read(unknown_blobs, page))


async def _end(listeners: list[Listener], wakeups: Wakeups) -> None:
    """Watches first: a server that stops waits its whole grace for each of them otherwise."""
    wakeups.close()
    for listener in listeners:
        with contextlib.suppress(Exception):
            await listener.refuse_new()
    await asyncio.gather(*(listener.stop(_GRACE_S) for listener in listeners))
