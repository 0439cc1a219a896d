"""Plan, fetch, apply, prove: with real deltas over a real server, files only (serve none)."""

from __future__ import annotations

import errno
import threading
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from device_agent.store import Store
from device_agent.store.blobs import Blobs
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import Digest
from edge_sdk.delta.container import (
    PREAMBLE_BYTES,
    parse_prefix,
    prefix_length,
    put_header,
    put_prefix,
)
from edge_sdk.manifest import Requirements
from tests.support.artifacts import ArtifactBytes, changed, make_artifact, noise
from tests.support.updater_rig import Rig

MIB = 1 << 20
BASE = noise(5 * MIB, "base")


def version(number: int, data: bytes = BASE, **more: object) -> ArtifactBytes:
    files = {"weights.bin": data, "labels.txt": b"zero\none\n", "empty": b""}
    return make_artifact(files, version=f"{number}.0.0", **more)  # type: ignore[arg-type]


V1, V2 = version(1), version(2, changed(BASE))


def test_first_and_second_version_arrive(rig: Rig) -> None:
    """A device holding nothing gets the whole, then only what changed; every file is right."""
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    assert rig.files_of(V1) == dict(V1.files)
    whole = rig.server.sent_bytes
    assert whole >= len(BASE)
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "committed"
    assert rig.files_of(V2) == dict(V2.files)
    assert rig.server.sent_bytes - whole < len(BASE) / 10
    assert rig.server.states(V2) == [
        "assigned",
        "planned",
        "fetching",
        "proved",
        "tried",
        "switched",
        "on_probation",
        "committed",
    ]


def test_files_shared_by_versions_exist_once(rig: Rig) -> None:
    """The label file of both versions is one inode, and both trees hold it."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    rig.server.assign(V2)
    rig.wait_for_end(V2)
    store = Store(rig.state)
    inodes = {(store.tree(one.artifact) / "labels.txt").stat().st_ino for one in (V1, V2)}
    assert len(inodes) == 1


def test_a_version_of_files_held_already_needs_no_bytes(rig: Rig) -> None:
    """A new version with the files of the one before arrives without fetching anything."""
    same = version(3)
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    sent = rig.server.sent_bytes
    rig.server.assign(same)
    assert rig.wait_for_end(same) == "committed"
    assert rig.files_of(same) == dict(same.files)
    assert rig.server.sent_bytes == sent
    states = ["assigned", "planned", "proved", "tried", "switched", "on_probation", "committed"]
    assert rig.server.states(same) == states


def test_c28_numbers_of_events_grow_by_one(rig: Rig) -> None:
    """Events are numbered without a gap, also over a restart."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    rig.stop()
    rig.start()
    rig.server.assign(V2)
    rig.wait_for_end(V2)
    numbers = [event.number for event in rig.server.events]
    assert numbers == list(range(1, len(numbers) + 1))


def test_c4_a_cut_stream_goes_on_where_it_was(rig: Rig) -> None:
    """A stream that ends early is no damage: the missing bytes are fetched, none twice."""
    rig.server.cut_after_bytes = 2 * MIB
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    delta = rig.server.delta(None, V1.artifact, used_methods(rig))
    assert len(rig.server.fetches) == 2
    assert rig.server.sent_bytes == len(rig.server.deltas[delta])


def test_c5_resume_after_a_restart_fetches_at_most_one_chunk_again(rig: Rig) -> None:
    """An updater that ends in the middle goes on behind the last proved chunk."""
    rig.server.gate, rig.server.gate_after_bytes = threading.Event(), 3 * MIB + 1000
    rig.server.assign(V1)
    rig.start()
    rig.wait(rig.server.held_back.is_set, "the stream to be held back")
    rig.wait(lambda: proved_bytes(rig) >= 2 * MIB, "2 MiB proved")
    rig.stop()
    rig.server.gate.set()
    rig.server.gate = None
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    delta = rig.server.delta(None, V1.artifact, used_methods(rig))
    size = len(rig.server.deltas[delta])
    _, offset, length = rig.server.fetches[-1]
    assert offset >= 2 * MIB
    assert offset + length == size
    assert rig.files_of(V1) == dict(V1.files)


def test_c6_a_rebuilt_delta_does_not_start_at_zero(rig: Rig) -> None:
    """The chunks are proved against the manifest, so another delta goes on behind them."""
    target = version(2, noise(5 * MIB, "other"))
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    rig.server.gate, rig.server.gate_after_bytes = threading.Event(), 3 * MIB
    rig.server.assign(target)
    rig.wait(lambda: proved_bytes(rig) >= 2 * MIB, "2 MiB proved")
    rig.stop()
    rig.server.gate.set()
    rig.server.gate = None
    del rig.server.published[V1.artifact]  # nothing can be built on it any more
    before, fetches = rig.server.sent_bytes, len(rig.server.fetches)
    rig.start()
    assert rig.wait_for_end(target) == "committed"
    assert rig.files_of(target) == dict(target.files)
    whole = rig.server.delta(None, target.artifact, used_methods(rig))
    assert rig.server.fetches[fetches - 1][0] != whole
    assert {delta for delta, _, _ in rig.server.fetches[fetches:]} == {whole}
    # The first brings the other delta's header and index, and is stopped as soon as they are
    # here, with some frames on their way; the others ask for just what is missing.
    missing = len(rig.server.deltas[whole]) - 2 * MIB
    _, *others = rig.server.fetches[fetches:]
    assert 0 < sum(length for _, _, length in others) <= missing
    assert rig.server.sent_bytes - before <= missing + MIB


def test_a_damaged_frame_never_becomes_a_model(rig: Rig) -> None:
    """Bytes changed on the way: refused, fetched again, and the update is right in the end."""
    damaged = []

    def damage(delta: Digest, offset: int, frame: bytes) -> bytes:
        if offset >= 2 * MIB and not damaged:
            damaged.append(offset)
            return frame[:100] + bytes([frame[100] ^ 1]) + frame[101:]
        return frame

    rig.server.damage = damage
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    assert damaged
    assert rig.files_of(V1) == dict(V1.files)
    assert rig.server.fetches[-1][1] >= MIB // 2  # what was proved before is kept


def test_c10_a_delta_damaged_where_it_lies_ends_in_a_terminal_state(rig: Rig) -> None:
    """The same damage again and again: failed with a proof's or delta's error, old one serves."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)

    def turn(delta: Digest, offset: int, frame: bytes) -> bytes:
        middle = (
            len(frame) // 2
        )  # at the end there is only the end mark: all would be made and proved
        return frame[:middle] + bytes([frame[middle] ^ 1]) + frame[middle + 1 :]

    rig.server.damage = turn
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "failed"
    event = rig.server.last_event(V2)
    assert event is not None
    assert event.reason in ("DeltaError", "ProofError")
    assert rig.active() == V1.artifact
    tried = {rig.server.sources_of[delta] for delta, _, _ in rig.server.fetches}
    assert tried == {None, V1.artifact}  # the whole was tried too


def test_a_failed_transfer_is_not_remembered(rig: Rig) -> None:
    """Once the distributor is sound again, the same order is carried out."""
    rig.server.damage = lambda delta, offset, frame: frame[:-1] + bytes([frame[-1] ^ 1])
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "failed"
    rig.server.damage = None
    assert rig.wait_for_end(V1, "committed") == "committed"


def test_a_rotten_source_is_quarantined_and_the_whole_is_fetched(rig: Rig) -> None:
    """A byte changed in a source file is found when the proof fails; the update goes on."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    rot(Store(rig.state).tree(V1.artifact) / "weights.bin")
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "committed"
    assert rig.files_of(V2) == dict(V2.files)
    assert "SourceRottenError" in [event.reason for event in rig.server.events]
    sources = [sources for target, sources in rig.server.plans if target == V2.artifact]
    assert sources == [(V1.artifact,), ()]  # the second plan was asked without it


def test_a_source_that_cannot_be_read_now_is_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of descriptors while it was to be proved: it stays a source, and nobody is blamed."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    is_rotten, refused = Blobs.is_rotten, []

    def once_refused(blobs: Blobs, digest: Digest) -> bool:
        if not refused:
            refused.append(digest)
            raise OSError(errno.EMFILE, "Too many open files", str(blobs.path(digest)))
        return is_rotten(blobs, digest)

    def damage(delta: Digest, offset: int, frame: bytes) -> bytes:
        return frame if refused else frame[:-1] + bytes([frame[-1] ^ 1])

    monkeypatch.setattr(Blobs, "is_rotten", once_refused)
    rig.server.damage = damage
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "committed"
    assert len(refused) == 1
    assert rig.files_of(V2) == dict(V2.files)
    reasons = {event.reason for event in rig.server.events}
    assert "ResourceError" in reasons
    assert not reasons & {"SourceRottenError", "ProofError", "DeltaError"}
    assert {rig.server.sources_of[delta] for delta, _, _ in rig.server.fetches[1:]} == {V1.artifact}


def test_a_source_that_rotted_while_the_agent_was_down_is_found(rig: Rig) -> None:
    """The active version is proved at the start, so its damage is known, and mended or not,
    the next version arrives right."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    rig.stop()
    rot(Store(rig.state).tree(V1.artifact) / "weights.bin")
    rig.start()
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "committed"
    assert rig.files_of(V2) == dict(V2.files)
    assert "SourceRottenError" in [event.reason for event in rig.server.events]


def test_c17_bytes_changed_in_a_partial_file_never_become_a_model(rig: Rig) -> None:
    """What lies here half-done is proved again before it gets its name."""
    rig.server.gate, rig.server.gate_after_bytes = threading.Event(), 3 * MIB
    rig.server.assign(V1)
    rig.start()
    rig.wait(lambda: proved_bytes(rig) >= 2 * MIB, "2 MiB proved")
    rig.stop()
    rig.server.gate.set()
    rig.server.gate = None
    partial = rig.state / "partial" / str(V1.artifact)
    rot(next(path for path in partial.iterdir() if path.name == "file.2"))
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    assert rig.files_of(V1) == dict(V1.files)


def test_c11_a_disk_too_small_is_known_before_the_download(rig: Rig) -> None:
    """Nothing is fetched, the reason is reported, the old version goes on."""
    rig.configure(disk_quota_bytes=7 * MIB)
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    fetched = len(rig.server.fetches)
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "failed"
    event = rig.server.last_event(V2)
    assert event is not None
    assert event.reason == "ResourceError"
    assert "bytes of disk" in event.message
    assert len(rig.server.fetches) == fetched
    assert rig.active() == V1.artifact


def test_c12_c13_no_attempt_until_space_changed(rig: Rig) -> None:
    """A full disk is not asked again and again; when there is room, the update goes on."""
    rig.configure(disk_quota_bytes=3 * MIB)
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "failed"
    plans = len(rig.server.plans)
    rig.updater.loop.ask(lambda: None)
    assert len(rig.server.plans) == plans
    rig.updater.loop.ask(lambda: give_room(rig))
    assert rig.wait_for_end(V1, "committed") == "committed"


def test_c60_memory_for_both_is_known_before_the_download(rig: Rig) -> None:
    """Candidate and active version must fit together; nothing is fetched otherwise."""
    rig.configure(memory_bytes=100 * MIB)
    big = version(1, requires=Requirements(engine="onnxruntime", memory_bytes=101 * MIB))
    big = ArtifactBytes(manifest=served(big), files=big.files)
    rig.server.assign(big)
    rig.start()
    assert rig.wait_for_end(big) == "failed"
    event = rig.server.last_event(big)
    assert event is not None
    assert (event.reason, rig.server.fetches) == ("ResourceError", [])
    assert "memory" in event.message


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        (Requirements(engine="litert"), "not installed"),
        (Requirements(architectures=("vax",)), "is for vax"),
        (Requirements(engine="onnxruntime", ir_version=99), "IR version 99"),
        (Requirements(engine="onnxruntime", opsets={"": 99}), "operator set ai.onnx 99"),
        (Requirements(accelerators=("npu",)), "no npu"),
    ],
)
def test_c61_what_cannot_run_here_is_refused_before_the_download(
    rig: Rig, requires: Requirements, said: str
) -> None:
    """Engine, architecture, model format limits and accelerators are checked here too."""
    unfit = version(1, requires=requires)
    unfit = ArtifactBytes(manifest=served(unfit), files=unfit.files)
    rig.server.assign(unfit)
    rig.start()
    assert rig.wait_for_end(unfit) == "failed"
    event = rig.server.last_event(unfit)
    assert event is not None
    assert event.reason == "RefusedError"
    assert said in event.message
    assert rig.server.fetches == []


def test_two_steps_by_a_hub(rig: Rig) -> None:
    """A plan in two steps leaves only its target; the hub in between is collected."""
    hub = version(9, changed(BASE, 70_000))
    rig.server.publish(hub)
    rig.server.hubs[V2.artifact] = hub.artifact
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "committed"
    assert rig.files_of(V2) == dict(V2.files)
    store = Store(rig.state)
    rig.wait(lambda: not store.trees.path(hub.artifact).exists(), "the hub to be collected")


def test_the_distributor_down_and_back(rig: Rig) -> None:
    """Killed in the middle of a stream: the agent retries and finishes when it is back."""
    rig.server.gate, rig.server.gate_after_bytes = threading.Event(), 2 * MIB
    rig.server.assign(V1)
    rig.start()
    rig.wait(rig.server.held_back.is_set, "the stream to be held back")
    rig.server.stop()
    rig.server.gate = None
    rig.wait(lambda: rig.updater.updates["team/digits"].retries > 1, "retries")
    rig.server.start()
    assert rig.wait_for_end(V1) == "committed"
    assert rig.files_of(V1) == dict(V1.files)


def test_a_distributor_that_stays_away_is_waited_for(rig: Rig) -> None:
    """However often it could not be reached: the update is never given up for that."""
    rig.server.assign(V1)
    rig.server.plan_error = grpc.StatusCode.UNAVAILABLE
    rig.start()
    rig.wait(lambda: len(rig.server.plans) > 15, "many tries")
    rig.server.plan_error = None
    assert rig.wait_for_end(V1) == "committed"
    assert "failed" not in [event.state for event in rig.server.events]


def test_a_plan_that_is_refused_is_not_asked_for_again(rig: Rig) -> None:
    """The distributor's refusal is reported at once; the answer would be the same."""
    rig.server.assign(V1)
    rig.server.plan_error = grpc.StatusCode.FAILED_PRECONDITION
    rig.start()
    assert rig.wait_for_end(V1) == "failed"
    event = rig.server.last_event(V1)
    assert event is not None
    assert (event.reason, len(rig.server.plans)) == ("RefusedError", 1)


def test_c56_a_busy_distributor_is_no_failure_of_the_version(rig: Rig) -> None:
    """Plans and downloads that it refuses for now are asked for later; nothing is remembered."""
    rig.server.busy = 16
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    assert rig.server.busy == 0
    assert "failed" not in rig.server.states(V1)


def test_back_from_a_version_that_did_not_fit(rig: Rig) -> None:
    """The order to run what runs already, after one that did not fit, is done at once."""
    rig.configure(memory_bytes=100 * MIB)
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    big = version(7, requires=Requirements(engine="onnxruntime", memory_bytes=101 * MIB))
    big = ArtifactBytes(manifest=served(big), files=big.files)
    rig.server.assign(big)
    assert rig.wait_for_end(big) == "failed"
    rig.server.assign(V1, rollout="back")
    rig.wait(
        lambda: any((e.rollout, e.state) == ("back", "committed") for e in rig.server.events),
        "the end of the order to go back",
    )


def test_a_device_goes_back_without_bytes(rig: Rig) -> None:
    """An artifact that is still held costs no plan and no byte."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    rig.server.assign(V2)
    rig.wait_for_end(V2)
    sent, plans = rig.server.sent_bytes, len(rig.server.plans)
    said = len(rig.server.states(V1))
    rig.server.assign(V1, attempt=2)
    rig.wait(lambda: rig.server.states(V1)[said:][-1:] == ["committed"], "v1 again")
    assert (rig.server.sent_bytes, len(rig.server.plans)) == (sent, plans)
    assert rig.active() == V1.artifact


def test_c18_plans_that_do_not_fit_are_not_followed(rig: Rig) -> None:
    """A plan whose manifest is not the assigned artifact's writes nothing."""
    rig.server.assign(V1)
    lying = rig.server.published[V1.artifact]
    rig.server.published[V1.artifact] = _Lying(manifest=V2.manifest, files=lying.files)
    rig.start()
    rig.wait(lambda: len(rig.server.plans) > 3, "some plans")
    assert rig.active() is None
    assert rig.server.fetches == []
    assert not list((rig.state / "blobs").iterdir())


class _Lying(ArtifactBytes):
    """Says it is something else."""


def used_methods(rig: Rig) -> tuple[str, ...]:
    return tuple(rig.updater.context.capabilities.delta_methods)


def proved_bytes(rig: Rig) -> int:
    update = rig.updater.updates.get("team/digits")
    application = None if update is None else update.application
    return 0 if application is None else application.partial.proved_bytes


def rot(path) -> None:  # type: ignore[no-untyped-def]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def give_room(rig: Rig) -> None:
    rig.updater.config = rig.updater.context.config = _with_quota(rig, 0)


def _with_quota(rig: Rig, quota: int):  # type: ignore[no-untyped-def]
    rig.configure(disk_quota_bytes=quota)
    return rig.config


def served(artifact: ArtifactBytes):  # type: ignore[no-untyped-def]
    import dataclasses

    return dataclasses.replace(artifact.manifest, serve="inference")


def test_a_delta_on_files_not_held_ends_and_is_not_asked_for_without_pause(rig: Rig) -> None:
    """A hostile delta names sources that were never here: that is no rot of this device, it
    is tried with back-off, and a whole comes in its place."""
    rig.server.assign(V1)
    rig.start()
    rig.wait_for_end(V1)
    other = version(7, noise(MIB, "never here"))
    rig.server.publish(other)
    rig.server.publish(V2)
    methods = used_methods(rig)
    hostile = rig.server.delta(other.artifact, V2.artifact, methods)
    rig.server._made[(V1.artifact, V2.artifact, methods)] = hostile
    plans = len(rig.server.plans)
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "committed"
    assert len(rig.server.plans) - plans <= 3
    assert not [one for one in rig.server.events if one.reason == "SourceRottenError"]


def test_a_prefix_that_lies_is_not_kept(rig: Rig) -> None:
    """Header and index of one bad answer do not stand in the way of all later good ones."""
    one = make_artifact({"weights.bin": BASE})
    rig.server.publish(one)
    rig.start()
    rig.wait(lambda: rig.server.check_ins, "the first check-in")
    delta = rig.server.deltas[rig.server.delta(None, one.artifact, used_methods(rig))]
    prefix = delta[: prefix_length(delta[:PREAMBLE_BYTES])]
    header = parse_prefix(prefix)
    lie = put_prefix(
        put_header(
            folder=header.folder,
            memory_bytes=header.memory_bytes,
            methods=[1],  # the records use literal
            sources=(),
            targets=header.targets,
        ),
        header.index.body,
    )
    assert len(lie) == len(prefix)

    def lying_once(_delta: Digest, offset: int, frame: bytes) -> bytes:
        if len(rig.server.fetches) > 1 or offset:
            return frame
        return lie + frame[len(lie) :]

    rig.server.damage = lying_once
    rig.server.assign(one)
    assert rig.wait_for_end(one) == "committed"


def test_a_plan_of_many_steps_is_not_followed(rig: Rig) -> None:
    """Two steps lead anywhere; more would fill disk and journal with manifests."""
    ways = [version(number, noise(1000, str(number))) for number in range(10, 14)]
    for one in ways:
        rig.server.publish(one)
    plan = rig.server.Plan

    def long(request, context):  # type: ignore[no-untyped-def]
        answer = plan(request, context)
        hops = [None, *(one.artifact for one in ways), V1.artifact]
        del answer.steps[:]
        for source, target in pairwise(hops):
            answer.steps.append(rig.server._step(source, target, used_methods(rig)))
        return answer

    rig.server.Plan = long  # type: ignore[method-assign]
    rig.server.stop()
    rig.server.start()
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "failed"
    assert Store(rig.state).artifacts.all() == ()


def test_a_full_disk_is_no_crash_of_the_updater(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a manifest or an assignment cannot be written, that is said and tried again."""
    full = {"manifest": 2, "assignment": 1}
    write = FileSystem.write

    def failing(files: FileSystem, path: Path, data: bytes) -> None:
        kind = "manifest" if path.parent.name == "artifacts" else path.name.strip(".")[:10]
        if full.get(kind, 0):
            full[kind] -= 1
            raise OSError(errno.ENOSPC, "full", str(path))
        write(files, path, data)

    monkeypatch.setattr(FileSystem, "write", failing)
    rig.server.assign(V1)
    rig.start()
    rig.wait(lambda: not full["assignment"], "the assignment to be refused")
    done: list[object] = []
    rig.wait(
        lambda: rig.updater.loop.put(lambda: rig.updater.check_in_now(done.append)) or done,
        "another check-in",
    )
    assert rig.wait_for_end(V1, "committed") == "committed"
    assert full == {"manifest": 0, "assignment": 0}
