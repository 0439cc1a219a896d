"""The inference process as a real process: start from slots, swap under load, memory."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from device_agent.config import AgentConfig, CacheConfig
from device_agent.records import PROTOCOL, Ask, Cached, Hello, Loading, Observed, decode_message
from device_agent.serving import Generation, InferenceProcess
from device_agent.serving.load import LoadOrder
from device_agent.store import Slot, Store
from device_agent.store.quota import room
from edge_sdk.base import Digest, EdgeError, UnavailableError
from edge_sdk.client import Client, connect
from tests.support import onnx_models
from tests.support.held_models import ENTRY, damage, hold, ones
from tests.support.inference_process import Inference, inference
from tests.support.processes import unmeasured, wait_for

MODEL = "team/digits"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "state")


def ask(client: triton.InferenceServerClient, version: str = "") -> tuple[float, str]:
    """First output element for ones, and the version that the answer names."""
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(ones())
    result = client.infer(MODEL, [tensor], model_version=version)
    return float(result.as_numpy("y")[0, 0]), result.get_response().model_version


def client_of(running: Inference) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(running.address, channel_args=[("grpc.enable_retries", 0)])


def test_nothing_held_is_said_in_hello(store: Store) -> None:
    """A device without models starts, says so, and is ready."""
    with inference(store) as running:
        assert running.hello == Hello(
            protocol=PROTOCOL, pid=running.process.pid, serving={}, damaged=()
        )
        with client_of(running) as client:
            assert client.is_server_ready()


@pytest.mark.processes_measured
def test_slots_alone_start_what_serves(store: Store) -> None:
    """After a start the active artifacts answer without a word of the updater."""
    one = hold(store, onnx_models.linear(2.0), version="1.2.3")
    files_only = hold(store, onnx_models.linear(9.0), name="team/files", serve="none")
    store.slot_files.put(Slot(model=MODEL, active=one))
    store.slot_files.put(Slot(model="team/files", active=files_only))
    with inference(store) as running:
        assert running.hello is not None
        assert running.hello.serving == {MODEL: one}
        with client_of(running) as client:
            assert ask(client) == (2.0, "1.2.3")


def test_on_probation_a_start_takes_the_previous(store: Store) -> None:
    """A candidate that may be the reason of the restart is not loaded again by itself."""
    one = hold(store, onnx_models.linear(2.0))
    two = hold(store, onnx_models.linear(3.0), version="2.0.0")
    store.slot_files.put(Slot(model=MODEL, active=two, previous=one, on_probation=True))
    with inference(store) as running:
        assert running.hello is not None
        assert running.hello.serving == {MODEL: one}
        assert running.hello.damaged == ()


def test_a_damaged_active_file_is_found_before_it_is_loaded(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    """One changed byte: the previous artifact serves, Hello names the damaged one."""
    one = hold(store, onnx_models.linear(2.0))
    two = hold(store, onnx_models.linear(3.0), version="2.0.0")
    store.slot_files.put(Slot(model=MODEL, active=two, previous=one))
    damage(store.tree(two) / ENTRY)
    with inference(store) as running:
        assert running.hello is not None
        assert running.hello.serving == {MODEL: one}
        assert running.hello.damaged == (two,)
        with client_of(running) as client:
            assert ask(client) == (2.0, "1.0.0")
    assert two.short in capfd.readouterr().err


def test_an_updater_that_does_not_read_stops_nothing(store: Store) -> None:
    """With the socket full of observations, requests are answered and the process can end."""
    one = hold(store, onnx_models.linear(2.0))
    with inference(store) as running:
        running.updater.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        assert running.prepare(one).ok
        assert running.switch(one, probation=True).ok
        with client_of(running) as client:
            end = time.monotonic() + 3.0
            while time.monotonic() < end:
                assert ask(client) == (2.0, "1.0.0")
        running.process.terminate()
        assert running.process.wait(timeout=30) == 0


def test_a_slot_that_makes_no_sense_keeps_nobody_from_serving(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody foresaw while one model loads leaves the other one serving."""
    one = hold(store, onnx_models.linear(2.0))
    other = hold(store, onnx_models.linear(3.0), name="team/other")
    store.slot_files.put(Slot(model=MODEL, active=one))
    store.slot_files.put(Slot(model="team/other", active=other))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        config = AgentConfig(state_dir=str(store.root), device="test-1")
        process = InferenceProcess(config, theirs)
        right = process._loader.load

        def load(order: LoadOrder) -> Generation:
            return right(order) if order.model == "team/other" else 1 // 0  # type: ignore[return-value]

        monkeypatch.setattr(process._loader, "load", load)
        for slot in store.slots():
            process._start_slot(slot)
        assert [one.identity.model for one in process.table.active()] == ["team/other"]
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_what_is_loaded_at_the_start_is_said_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that takes the process down leaves word of the artifact that it did it with."""
    one = hold(store, onnx_models.linear(2.0))
    store.slot_files.put(Slot(model=MODEL, active=one))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        process = InferenceProcess(AgentConfig(state_dir=str(store.root), device="test-1"), theirs)
        said: list[object] = []
        monkeypatch.setattr(
            process._loader, "load", lambda order: said.append(decode_message(ours.recv(1 << 16)))
        )
        monkeypatch.setattr(process._swapper, "adopt", lambda generation: None)
        process._start_slot(store.slots()[0])
    assert said == [Loading(pid=os.getpid(), model=MODEL, artifact=one)]


def test_nothing_whole_serves_nothing(store: Store) -> None:
    """With every artifact damaged, both are named and no model answers."""
    one = hold(store, onnx_models.linear(2.0))
    two = hold(store, onnx_models.linear(3.0), version="2.0.0")
    store.slot_files.put(Slot(model=MODEL, active=two, previous=one))
    for artifact in (one, two):
        damage(store.tree(artifact) / ENTRY)
    with inference(store) as running:
        assert running.hello is not None
        assert running.hello.serving == {}
        assert set(running.hello.damaged) == {one, two}
        with client_of(running) as client, pytest.raises(triton.InferenceServerException) as no:
            ask(client)
        assert no.value.status() == "StatusCode.NOT_FOUND"


def test_ask_is_answered_with_hello_again(store: Store) -> None:
    """An updater that was restarted hears what serves now, not at the start."""
    one = hold(store, onnx_models.linear(2.0))
    with inference(store) as running:
        assert running.prepare(one).ok
        assert running.switch(one).ok
        running.tell(Ask())
        again = running.expect(Hello)
        assert again.pid == running.process.pid
        assert again.serving == {MODEL: one}


def test_the_use_of_a_cache_is_told(store: Store) -> None:
    """Soon after it changed, and again to an updater that asks; after a switch nothing is held
    and the new version answers."""
    one = hold(store, onnx_models.linear(2.0))
    two = hold(store, onnx_models.linear(3.0), version="2.0.0")
    store.slot_files.put(Slot(model=MODEL, active=one))
    caches = {MODEL: CacheConfig(memory_bytes=1 << 20)}
    with inference(store, caches=caches) as running, client_of(running) as client:
        for _ in range(4):
            assert ask(client) == (2.0, "1.0.0")
        while (said := running.expect(Cached)).memory_hits < 3:
            pass
        assert (said.model, said.misses, said.entries, said.file_bytes) == (MODEL, 1, 1, 0)
        running.tell(Ask())
        running.expect(Hello)
        assert running.expect(Cached) == said
        running.prepare(two)
        running.switch(two)
        assert running.expect(Cached).entries == 0
        assert ask(client) == (3.0, "2.0.0")


def test_answers_in_the_file_outlive_the_process(store: Store) -> None:
    """The next process answers from the file without a run; with another artifact it runs, and
    without a second level the file goes."""
    one = hold(store, onnx_models.linear(2.0))
    two = hold(store, onnx_models.linear(3.0), version="2.0.0")
    store.slot_files.put(Slot(model=MODEL, active=one))
    caches = {MODEL: CacheConfig(memory_bytes=1 << 20, file_bytes=1 << 20)}

    def one_answer() -> tuple[tuple[float, str], int, int]:
        with inference(store, caches=caches) as running, client_of(running) as client:
            wait_for(lambda: sizes() == [1 << 20], "the file")
            while running.expect(Cached).file_bytes == 0:
                pass
            got = ask(client)
            while not (said := running.expect(Cached)).entries:
                pass
            return got, said.misses, said.file_hits

    def sizes() -> list[int]:
        return [path.stat().st_size for path in (store.root / "cache").glob("*")]

    assert one_answer() == ((2.0, "1.0.0"), 1, 0)
    assert one_answer() == ((2.0, "1.0.0"), 0, 1)
    store.slot_files.put(Slot(model=MODEL, active=two))
    assert one_answer() == ((3.0, "2.0.0"), 1, 0)
    assert room(store, quota_bytes=0, reserve_bytes=0).used_bytes >= 1 << 20
    with inference(store, caches={MODEL: CacheConfig()}):
        assert sizes() == []


def test_an_unreadable_packet_is_passed_over(store: Store) -> None:
    """A packet of nonsense does not stop the process."""
    with inference(store) as running:
        running.updater.send(b"{nonsense")
        running.tell(Ask())
        assert running.expect(Hello).pid == running.process.pid


def test_a_taken_address_is_said_and_ends_the_process(store: Store) -> None:
    """The second process on one address ends with exit code 7. Beside TCP the lane is in the
    state folder, for the agent's own user alone."""
    with inference(store, inference_address="127.0.0.1:0"):
        assert (store.root / "inference.sock.lane").stat().st_mode & 0o777 == 0o600
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with inference(store, hello=False, inference_address=address) as running:
            assert running.process.wait(timeout=60) == 7


def test_after_a_kill_the_next_one_takes_the_socket(store: Store) -> None:
    """A socket file that a killed process left behind does not keep its successor out."""
    one = hold(store, onnx_models.linear(2.0))
    store.slot_files.put(Slot(model=MODEL, active=one))
    with inference(store) as running:
        running.process.kill()
        running.process.wait()
    with inference(store) as running, client_of(running) as client:
        assert ask(client) == (2.0, "1.0.0")


def test_the_process_ends_when_its_supervisor_is_gone(store: Store) -> None:
    """Closing the other end of the socket ends it, with exit code 0."""
    with inference(store) as running:
        running.updater.shutdown(2)
        running.updater.close()
        assert running.process.wait(timeout=60) == 0


APP = """
import sys, time
import numpy as np
from edge_sdk.client import connect
with connect(inference=sys.argv[1]) as client:
    model = client.model("team/digits")
    model.infer({"x": np.ones((1, 4), np.float32)})
    print("asked", flush=True)
    while True:
        model.infer({"x": np.ones((1, 4), np.float32)})
"""


def lane_memories(pid: int) -> int:
    """Slots that a process has mapped."""
    with open(f"/proc/{pid}/maps") as maps:
        return sum("memfd:edge-slot" in line for line in maps)


def test_an_app_that_is_killed_leaves_nothing(store: Store) -> None:
    """Apps killed in the middle of requests: their slots are gone, and the next app is served."""
    store.slot_files.put(Slot(model=MODEL, active=hold(store, onnx_models.linear(2.0))))
    with inference(store) as running:
        for _ in range(3):
            app = subprocess.Popen(
                [sys.executable, "-c", APP, running.address],
                stdout=subprocess.PIPE,
                env=unmeasured(),
            )
            assert app.stdout is not None
            assert app.stdout.readline() == b"asked\n"
            assert lane_memories(running.process.pid) == 1
            app.kill()
            app.wait()
            app.stdout.close()
            wait_for(lambda: lane_memories(running.process.pid) == 0, "the slot's end")
        with connect(inference=running.address) as client:
            assert (client.model(MODEL).infer({"x": ones()}).outputs["y"] == 2).all()
            assert lane_memories(running.process.pid) == 1


def test_the_lane_outlives_the_agent(store: Store) -> None:
    """An app goes on over the lane after inference was killed and started again."""
    store.slot_files.put(Slot(model=MODEL, active=hold(store, onnx_models.linear(2.0))))
    with inference(store) as running, connect(inference=running.address) as client:
        model = client.model(MODEL)
        assert (model.infer({"x": ones()}).outputs["y"] == 2).all()
        running.process.kill()
        running.process.wait()
        with pytest.raises(UnavailableError):
            model.infer({"x": ones()}, deadline_s=2.0)
        with inference(store) as again:
            wait_for(lambda: answers(client), "an answer")
            wait_for(lambda: answers(client) and lane_memories(again.process.pid) == 1, "the lane")


def answers(client: Client) -> bool:
    try:
        return bool((client.model(MODEL).infer({"x": ones()}).outputs["y"] == 2).all())
    except UnavailableError:
        return False


def test_swaps_under_load_lose_no_request_of_the_lane(store: Store) -> None:
    """An app without pause across switches: no error, and each version's own value."""
    values = {"1.0.0": 2.0, "2.0.0": 3.0}
    held = {v: hold(store, onnx_models.linear(x), version=v) for v, x in values.items()}
    store.slot_files.put(Slot(model=MODEL, active=held["1.0.0"]))
    seen: list[tuple[str, float]] = []
    problems: list[BaseException] = []
    over = threading.Event()

    def load() -> None:
        with connect(inference=running.address) as client:
            model = client.model(MODEL)
            while not over.is_set():
                try:
                    result = model.infer({"x": ones()})
                except EdgeError as error:
                    problems.append(error)
                    return
                seen.append((result.version, float(result.outputs["y"][0, 0])))

    with inference(store, check=False) as running:
        thread = threading.Thread(target=load)
        thread.start()
        try:
            wait_for(lambda: len(seen) > 100, "the first answers")
            assert lane_memories(running.process.pid) == 1
            for turn in range(10):
                version, before = ("2.0.0", "1.0.0") if turn % 2 == 0 else ("1.0.0", "2.0.0")
                assert running.prepare(held[version]).ok
                assert running.switch(held[version]).ok
                assert running.drop(MODEL, held[before]).artifact == held[before]
                goal = len(seen) + 100
                wait_for(lambda goal=goal: len(seen) > goal or problems, "a hundred more")
        finally:
            over.set()
            thread.join()
    assert problems == []
    assert all(values[version] == value for version, value in seen)
    versions = [version for version, _ in seen]
    assert sum(a != b for a, b in itertools.pairwise(versions)) == 10


def test_a_lane_that_cannot_be_opened_stops_nothing(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    """Something in the way of its socket is said, and gRPC serves."""
    (store.root / "inference.sock.lane").write_text("precious")
    store.slot_files.put(Slot(model=MODEL, active=hold(store, onnx_models.linear(2.0))))
    with inference(store) as running, connect(inference=running.address) as client:
        assert answers(client)
    assert (store.root / "inference.sock.lane").read_text() == "precious"
    assert "no fast lane" in capfd.readouterr().err


def test_a_lane_that_is_not_wanted_is_not_there(store: Store) -> None:
    """The setting turns it off, and gRPC serves."""
    with inference(store, fast_lane=False):
        assert (store.root / "inference.sock").exists()
        assert not (store.root / "inference.sock.lane").exists()


class Load(threading.Thread):
    """An open-loop stock client, without retries: sends on schedule, keeps every answer."""

    def __init__(self, running: Inference, per_s: float) -> None:
        super().__init__()
        self.running, self.per_s = running, per_s
        self.answers: list[tuple[float, float, str]] = []
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        with client_of(self.running) as client:
            begin = time.monotonic()
            sent = 0
            while not self.over.is_set():
                time.sleep(max(0.0, begin + sent / self.per_s - time.monotonic()))
                sent += 1
                try:
                    value, version = ask(client)
                    self.answers.append((time.monotonic(), value, version))
                except triton.InferenceServerException as error:
                    self.failures.append(str(error))


@pytest.mark.processes_measured
def test_swaps_under_load_fail_no_request(store: Store) -> None:
    """At 200 requests a second across switches, none fails and each has its version's value."""
    values = {"1.0.0": 2.0, "2.0.0": 3.0}
    held = {v: hold(store, onnx_models.linear(x), version=v) for v, x in values.items()}
    store.slot_files.put(Slot(model=MODEL, active=held["1.0.0"]))
    with inference(store, check=False) as running:
        loads = [Load(running, 150.0), Load(running, 150.0)]
        for load in loads:
            load.start()
        try:
            begin = time.monotonic()
            wait_for(lambda: all(load.answers for load in loads), "the first answers")
            for turn in range(8):
                version, before = ("2.0.0", "1.0.0") if turn % 2 == 0 else ("1.0.0", "2.0.0")
                assert running.prepare(held[version]).ok
                assert running.switch(held[version]).ok
                assert running.drop(MODEL, held[before]).artifact == held[before]
                goals = [len(load.answers) + 50 for load in loads]
                wait_for(
                    lambda goals=goals: all(
                        len(load.answers) > goal or load.failures
                        for load, goal in zip(loads, goals, strict=True)
                    ),
                    "fifty more answers",
                )
            seconds = time.monotonic() - begin
        finally:
            for load in loads:
                load.over.set()
            for load in loads:
                load.join()
    for load in loads:
        assert load.failures == []
        assert all(values[version] == value for _, value, version in load.answers)
        versions = [version for _, _, version in load.answers]
        assert sum(a != b for a, b in itertools.pairwise(versions)) == 8
    assert sum(len(load.answers) for load in loads) / seconds >= 200


def test_memory_is_back_after_swaps(store: Store) -> None:
    """Twenty-four swaps leave at most two models more than four did, where a leak leaves twenty.

    Two, because the engine's own arena fills with used or fresh pages as it happens.
    """
    model_bytes = 4 * (1000 * 1000 + 1000 * 4)
    held = [
        hold(store, onnx_models.mlp((1000, 1000, 4), seed=seed), version=f"{seed}.0.0")
        for seed in (1, 2)
    ]
    sizes = []
    with inference(store, check=False) as running:
        for turn in range(24):
            now, before = held[turn % 2], held[(turn + 1) % 2]
            assert running.prepare(now).ok
            assert running.switch(now).ok
            running.drop(MODEL, before)
            sizes.append(running.anonymous_bytes())
    assert max(sizes[-6:]) - min(sizes[4:10]) < 2.5 * model_bytes, sizes


def test_probation_observes_both_versions(store: Store) -> None:
    """A candidate that is honestly slower shows it against the version before, golden replayed."""
    quick = hold(store, onnx_models.mlp((512, 512, 4)))
    slow = hold(store, onnx_models.mlp((512, 512, 4), repeats=12), version="2.0.0")
    with inference(store) as running:
        for artifact in (quick, slow):
            assert running.prepare(artifact).ok
        assert running.switch(quick).ok
        assert running.switch(slow, probation=True).ok
        seen: list[Observed] = [running.expect(Observed) for _ in range(3)]
        assert all(one.artifact == slow and one.errors == 0 for one in seen)
        assert all(one.rss_bytes > 1_000_000 for one in seen)
        active = [ns for one in seen for ns in one.active_compute_ns]
        candidate = [ns for one in seen for ns in one.candidate_compute_ns]
        assert len(active) == len(candidate) >= 3
        assert np.median(candidate) > 2 * np.median(active)
        # Back to the version before: nobody is observed any more.
        assert running.switch(quick).ok
        running.drop(MODEL, slow)
        running.tell(Ask())
        assert running.expect(Hello).serving == {MODEL: quick}


def test_requests_on_probation_are_counted(store: Store) -> None:
    """Observed counts what the candidate served since its switch."""
    one = hold(store, onnx_models.linear(2.0))
    with inference(store) as running:
        assert running.prepare(one).ok
        assert running.switch(one, probation=True).ok
        with client_of(running) as client:
            for _ in range(5):
                ask(client)
        end = time.monotonic() + 30
        while (last := running.expect(Observed)).requests < 5:
            assert time.monotonic() < end
        assert last.requests == 5
        assert last.active_compute_ns == ()
        assert last.candidate_compute_ns


def test_what_was_not_prepared_is_not_switched_to(store: Store) -> None:
    """Switch to an unknown artifact is refused and what serves stays."""
    one = hold(store, onnx_models.linear(2.0))
    with inference(store) as running:
        assert running.prepare(one).ok
        assert running.switch(one).ok
        other = hold(store, onnx_models.linear(3.0), version="2.0.0")
        refused = running.switch(other)
        assert not refused.ok
        assert refused.reason == "NotFoundError"
        with client_of(running) as client:
            assert ask(client) == (2.0, "1.0.0")


def test_a_model_that_does_not_load_is_reported(store: Store) -> None:
    """Prepare of a file that is no model answers with the reason; what serves stays."""
    one = hold(store, onnx_models.linear(2.0))
    bad = hold(store, onnx_models.linear(3.0), version="2.0.0")
    path = store.tree(bad) / ENTRY
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:40])
    with inference(store) as running:
        assert running.prepare(one).ok
        assert running.switch(one).ok
        answer = running.prepare(bad)
        assert not answer.ok
        assert answer.reason in ("FormatError", "WireError")
        assert "model.onnx" in answer.message
        with client_of(running) as client:
            assert ask(client) == (2.0, "1.0.0")


def test_prepare_and_drop_may_be_said_twice(store: Store) -> None:
    """A repeated Prepare is answered as done, a Drop of what is not loaded too."""
    one = hold(store, onnx_models.linear(2.0))
    with inference(store) as running:
        first = running.prepare(one)
        assert first.ok
        assert first.load_ms > 0
        assert running.prepare(one).ok
        assert running.switch(one).ok
        assert running.switch(one).ok
        assert running.drop(MODEL, None).artifact is None
        assert running.drop(MODEL, Digest.of(b"unknown")).artifact == Digest.of(b"unknown")
        with client_of(running) as client, pytest.raises(triton.InferenceServerException) as gone:
            ask(client, "1.0.0")
        assert gone.value.status() == "StatusCode.UNAVAILABLE"
