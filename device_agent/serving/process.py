"""The inference process as a whole: start from slots, door open, then obey the socket."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from device_agent.access import AppTokens, Guard, access_of
from device_agent.config import AgentConfig
from device_agent.records import (
    PACKET_BYTES_MAX,
    PROTOCOL,
    Hello,
    Loading,
    Message,
    decode_message,
    encode_message,
)
from device_agent.serving import memory
from device_agent.serving.cache import FileLevel, ResponseCache, remove_others
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.doors.fast_lane import FastLaneDoor
from device_agent.serving.doors.open_inference import InferenceDoor
from device_agent.serving.generation import Generation
from device_agent.serving.hot_swap import Swapper, complain, is_passing
from device_agent.serving.load import Loader, order_of
from device_agent.serving.model_table import ModelTable
from device_agent.serving.on_page import Beat
from device_agent.statistics_page import PageWriter, private_page
from device_agent.store import Slot, Store
from device_agent.store.quota import CACHE_FOLDER, PLANS_FOLDER, room
from edge_sdk.base import Digest, EdgeError, FormatError, ProofError
from edge_sdk.engines import PlanRoom
from edge_sdk.engines.tensorrt import Plans
from edge_sdk.tensor_pool import TensorPool

CHECK_VARIABLE = "EDGE_POOL_CHECK"  # "1": every tensor must lie in the pool


class InferenceProcess:
    """Owns everything; ``run`` returns when the socket closes or a byte comes on ``wake``.

    ``wake`` is what a signal writes to: one that arrives just before the wait for a message
    would not interrupt it.
    """

    def __init__(
        self,
        config: AgentConfig,
        updater: socket.socket,
        wake: socket.socket | None = None,
        page: memoryview | None = None,
    ) -> None:
        """``page``: where other processes read statistics; None: nobody does."""
        self._config = config
        self._updater = updater
        self._wake = [wake] if wake is not None else []
        self._send_lock = threading.Lock()
        self._damaged: list[Digest] = []
        self._store = Store(Path(config.state_dir))
        self.pool = TensorPool(
            budget_bytes=config.memory_bytes or memory.total_bytes(),
            check=os.environ.get(CHECK_VARIABLE) == "1",
        )
        self.table = ModelTable()
        self._caches = {
            model: ResponseCache(wanted.memory_bytes, self._second_level(model))
            for model, wanted in config.caches.items()
        }
        statistics = PageWriter(
            private_page() if page is None else page,
            pid=os.getpid(),
            trace_every=config.trace_every if config.otlp_endpoint else None,
        )
        self._loader = Loader(
            self.pool,
            threads=config.engine_threads,
            caches=self._caches,
            models=config.models,
            memory_bytes=config.memory_bytes,
            page=statistics,
            plans=self._plan_room(),
        )
        self._swapper = Swapper(
            self.table, self._loader, send=self._send, hello=self._hello, caches=self._caches
        )
        dispatcher = Dispatcher(
            self.table, running_max=max(1, os.cpu_count() or 1), models=config.models
        )
        self._access = access_of(config.local.infer_group)
        self._door = InferenceDoor(
            self.table,
            dispatcher,
            models=config.models,
            shared_memory_prefix=config.shared_memory_prefix,
            access=self._access,
            tracer=statistics.tracer,
        )
        self._lane = FastLaneDoor(dispatcher, self.pool)
        self._beat = Beat(statistics, self.table, self.pool, dispatcher.scheduler)

    def run(self, *, when_loaded: Callable[[], None] | None = None) -> None:
        """Serves until the other end of the socket is gone. Raises: ConflictError (address).

        ``when_loaded`` is called once what the slots name is loaded, before the first request.
        """
        self._open_door()
        folder = self._store.root / CACHE_FOLDER
        remove_others(
            folder, {_cache_path(folder, m) for m, c in self._config.caches.items() if c.file_bytes}
        )
        self._tidy_plans()
        try:
            self._open_lane()
            for slot in self._store.slots():
                self._start_slot(slot)
            if when_loaded is not None:
                when_loaded()
            self.table.set_ready()
            self._beat.start()
            self._swapper.start()
            self._swapper.say_hello()
            self._obey()
        finally:
            self._lane.close()
            self._door.close()
            for cache in self._caches.values():
                cache.close()

    def _second_level(self, model: str) -> FileLevel | None:
        file_bytes = self._config.caches[model].file_bytes
        if not file_bytes:
            return None
        return FileLevel(
            _cache_path(self._store.root / CACHE_FOLDER, model),
            file_bytes,
            room_bytes=self._free_bytes,
        )

    def _plan_room(self) -> PlanRoom:
        return PlanRoom(
            folder=self._store.root / PLANS_FOLDER,
            room_bytes=self._free_bytes,
            held=self._store.artifacts.all,
        )

    def _tidy_plans(self) -> None:
        """Plans of artifacts that are gone take room, and do no other harm."""
        plans = self._plan_room()
        try:
            if plans.folder.is_dir():
                Plans(plans).tidy()
        except (EdgeError, OSError) as error:
            _say(f"plans that are not needed any more could not be removed: {error}")

    def _free_bytes(self) -> int:
        return room(
            self._store,
            quota_bytes=self._config.disk_quota_bytes,
            reserve_bytes=self._config.disk_reserve_bytes,
        ).free_bytes

    def _open_door(self) -> None:
        """On a socket the group says who may ask; over TCP each call's token does."""
        uri = self._config.inference_uri
        unix = uri.startswith("unix:")
        guard = None if unix else Guard(tokens=AppTokens(self._store.root))
        self._door.open(uri, guard=guard)

    def _open_lane(self) -> None:
        """Apps find the other door where this one cannot be opened, or is not wanted."""
        if not self._config.lane_uri:
            return
        try:
            self._lane.open(self._config.lane_uri, self._access)
        except EdgeError as error:
            _say(f"no fast lane: {error.message}")

    def _obey(self) -> None:
        while True:
            ready, _, _ = select.select([self._updater, *self._wake], [], [])
            packet = self._updater.recv(PACKET_BYTES_MAX) if self._updater in ready else b""
            if not packet:
                return
            try:
                message = decode_message(packet)
            except FormatError as error:
                _say(f"{error.message}; the message was passed over")
                continue
            self._swapper.handle(message)

    def _start_slot(self, slot: Slot) -> None:
        """Loads what a slot names, else the artifact before it; each is proved first."""
        wanted = (slot.previous,) if slot.on_probation else (slot.active, slot.previous)
        for artifact in wanted:
            if artifact is None:
                continue
            try:
                generation = self._load_proved(artifact)
            except EdgeError as error:
                if isinstance(error, ProofError):
                    self._damaged.append(artifact)
                _say(f"{slot.model}: {artifact.short} cannot serve: {error.message}")
                continue
            except Exception as error:  # noqa: BLE001 - one model must not keep all from serving
                complain(f"{slot.model}: {artifact.short} cannot serve", error)
                continue
            if generation is not None:
                self._swapper.adopt(generation)
            return

    def _load_proved(self, artifact: Digest) -> Generation | None:
        """None where the artifact is not for this process (``serve`` is none).

        Raises: ProofError (its bytes are not the published ones), and what loading raises.
        """
        self._store.prove(artifact)
        manifest = self._store.manifest(artifact)
        if manifest.serve != "inference":
            return None
        order = order_of(artifact, manifest, self._store.tree(artifact))
        self._send(Loading(pid=os.getpid(), model=order.model, artifact=artifact))
        return self._loader.load(order)

    def _hello(self) -> Message:
        return Hello(
            protocol=PROTOCOL,
            pid=os.getpid(),
            serving={one.identity.model: one.identity.artifact for one in self.table.active()},
            damaged=tuple(self._damaged),
        )

    def _send(self, message: Message) -> None:
        """A passing message is lost where the updater does not read; the others wait for it."""
        flags = socket.MSG_DONTWAIT if is_passing(message) else 0
        try:
            with self._send_lock:
                self._updater.send(encode_message(message), flags)
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            _say("the supervisor is gone")


def _cache_path(folder: Path, model: str) -> Path:
    return folder / f"{Digest.of(model.encode()).raw.hex()}.responses"


def _say(text: str) -> None:
    sys.stderr.write(f"inference: {text}\n")
    sys.stderr.flush()
