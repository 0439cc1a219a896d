"""MetadataService: signed metadata for devices and operators, and what publishers put.

Devices have no way to put anything: their listener answers with a class that only gets.
"""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc

from distributor import signing
from distributor.audit import recorded
from distributor.operators import EVERYWHERE
from distributor.services.access import Permit, permitted, rights
from distributor.services.driver import now_ms
from distributor.services.interceptor import caller
from distributor.signing import OnlineKeys
from distributor.storage import Database
from edge_sdk.base import EdgeError, TrustError, UsageError
from edge_sdk.protos import metadata_v1_pb2 as metadata
from edge_sdk.protos import metadata_v1_pb2_grpc as metadata_grpc
from edge_sdk.rpc import FRAME_BYTES
from edge_sdk.trust import ROOT, namespace_of, parse_file_name

_LOG = logging.getLogger(__name__)
_NAMES_MAX = 500
_LOOK_EVERY_S = 60.0  # at what is due; a failed renewal is tried again as soon


class DeviceMetadata(metadata_grpc.MetadataServiceServicer):
    """What devices may ask: metadata files, by name."""

    def __init__(self, database: Database, keys: OnlineKeys) -> None:
        self._database = database
        self._keys = keys

    async def Get(
        self, request: metadata.GetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[metadata.MetadataFrame]:
        """A metadata file. Nobody has to believe it: it proves itself."""
        document = await self._database.read(signing.metadata_file, request.name)
        # Hexadecimal digests in JSON: an eighth of the bytes is left on the wire.
        context.set_compression(grpc.Compression.Gzip)
        for start in range(0, len(document), FRAME_BYTES):
            yield metadata.MetadataFrame(data=document[start : start + FRAME_BYTES])

    async def Put(
        self, request: metadata.PutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> metadata.PutResponse:
        raise TrustError("metadata are put by operators, on their own listener")

    async def OnlineKeys(
        self, request: metadata.OnlineKeysRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> metadata.OnlineKeysResponse:
        raise TrustError("online keys are shown to operators, on their own listener")


class OperatorMetadata(DeviceMetadata):
    """What operators may do besides: put what they signed, and see the online keys."""

    async def Put(
        self, request: metadata.PutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> metadata.PutResponse:
        """Keeps files signed elsewhere, all or none, and signs a snapshot over them."""
        permit = _permitted(request)
        roles = {parse_file_name(one.name)[0] for one in request.files}
        if ROOT in roles and not await self._database.read(signing.find_root, b""):
            # Nothing proves it: whoever puts it decides whom this fleet believes.
            rights().check_lasting("the first root of a fleet")
        act = permit.act(
            "metadata.put",
            " ".join(one.name for one in request.files)[:_NAMES_MAX],
            {"files": str(len(request.files))},
            at_ms=now_ms(),
        )
        done = await self._database.write(
            recorded(signing.put, act),
            [(one.name, one.data) for one in request.files],
            self._keys,
            now=now(),
            by=caller().name,
        )
        _LOG.info("%s put metadata of %s", caller().name, ", ".join(done.roles))
        return metadata.PutResponse(unsigned_roles=done.unsigned_roles)

    async def OnlineKeys(
        self, request: metadata.OnlineKeysRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> metadata.OnlineKeysResponse:
        """The public halves of the online keys."""
        found = await self._database.read(signing.online_keys, self._keys)
        return metadata.OnlineKeysResponse(
            keys=[
                metadata.OnlineKey(
                    role=one.role,
                    key_id=one.key_id,
                    key=json.dumps(one.public.to_dict(), sort_keys=True).encode(),
                    in_use=in_use,
                )
                for one, in_use in found
            ]
        )


def _permitted(request: metadata.PutRequest) -> Permit:
    """That the caller may put these files: in each namespace, or everywhere for the top level.

    Raises: ForbiddenError, FormatError, UsageError (no file).
    """
    roles = [parse_file_name(one.name)[0] for one in request.files]
    permits = [permitted(namespace_of(role) or EVERYWHERE) for role in dict.fromkeys(roles)]
    if not permits:
        raise UsageError("there is no file to put")
    return permits[-1]


class Renewal:
    """Signs timestamp and snapshot again before they expire, as long as this process lives."""

    def __init__(self, database: Database, keys: OnlineKeys) -> None:
        self._database = database
        self._keys = keys
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Renews what is due at once: a distributor that was off comes back with good ones."""
        await self._renew()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self._renew()

    async def _renew(self) -> None:
        try:
            if await self._database.write(signing.renew, self._keys, now=now()):
                _LOG.info("signed a new timestamp")
        except EdgeError as error:
            _LOG.error("the timestamp cannot be signed again: %s", error.message)
        except Exception:  # noqa: BLE001 - logged, and tried again
            # Devices would refuse every update a day later: this loop must not end.
            _LOG.exception("the timestamp cannot be signed again")


def now() -> datetime:
    """This second: metadata know no smaller parts of time."""
    return datetime.now(UTC).replace(microsecond=0)
