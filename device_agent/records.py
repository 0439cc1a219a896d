"""The values that travel on the socket between updater and inference process. Pure.

One AF_UNIX SOCK_SEQPACKET pair, made by the supervisor, one JSON object in each packet. The
supervisor keeps both ends open for life, so a packet sent while the other process is down
waits for its successor: every message names model and artifact, and asking twice for what
is already done is answered as done. Prepare and Switch carry a ``number`` that no other one
had, also of an updater before this one; whatever answers or observes them carries it too.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from edge_sdk.base.digest import Digest
from edge_sdk.base.errors import FormatError
from edge_sdk.manifest.model import TensorSpec, Tolerance

PROTOCOL = 1
PACKET_BYTES_MAX = 160 << 10  # a packet must fit the default socket buffer of 208 KiB


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages; the JSON key ``type`` holds the class name."""


class Prepare(_Message, frozen=True, kw_only=True, tag=True):
    """Updater: load this artifact beside what serves; answer with Prepared.

    ``folder`` is the artifact's tree, ``entry`` the model file relative to it.
    """

    model: str
    artifact: Digest
    version: str
    variant: str
    folder: str
    entry: str
    engine: str
    golden_path: str | None
    tolerances: dict[str, Tolerance]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    number: int = 0


class Switch(_Message, frozen=True, kw_only=True, tag=True):
    """Updater: serve this prepared artifact from the next request on; answer with Switched.

    The artifact that served before stays loaded until Drop names it. ``probation`` asks for
    Observed messages about this artifact until the next Switch or Drop of the model.
    ``mode`` other than "switch": what served before goes on serving, and the artifact answers
    ``share`` of the requests ("canary"), or gets copies of them all ("shadow").
    """

    model: str
    artifact: Digest
    probation: bool
    number: int = 0
    mode: str = "switch"
    share: float = 1.0


class Drop(_Message, frozen=True, kw_only=True, tag=True):
    """Updater: unload that artifact (None: the whole model) once its last request has ended."""

    model: str
    artifact: Digest | None


class Ask(_Message, frozen=True, kw_only=True, tag=True):
    """Updater, at its start: say Hello again (an updater that was restarted missed the first)."""


class Loading(_Message, frozen=True, kw_only=True, tag=True):
    """Inference, while it starts: it loads this artifact of a slot from now on.

    Where no Hello of the same process follows, that is what the process died of.
    """

    pid: int
    model: str
    artifact: Digest


class Hello(_Message, frozen=True, kw_only=True, tag=True):
    """Inference: on every start after its slots were loaded, and as the answer to Ask.

    ``serving``: model to the artifact that answers now. ``damaged``: artifacts named by a
    slot whose files did not prove.
    """

    protocol: int
    pid: int
    serving: dict[str, Digest]
    damaged: tuple[Digest, ...]


class Prepared(_Message, frozen=True, kw_only=True, tag=True):
    """Inference: loaded (``ok``) or not; ``reason`` is an error name, empty while ok."""

    model: str
    artifact: Digest
    ok: bool
    reason: str = ""
    message: str = ""
    load_ms: float = 0.0
    memory_bytes: int = 0
    number: int = 0


class Switched(_Message, frozen=True, kw_only=True, tag=True):
    """Inference: the artifact answers from now on (``ok``), or why not."""

    model: str
    artifact: Digest
    ok: bool
    reason: str = ""
    message: str = ""
    number: int = 0


class Dropped(_Message, frozen=True, kw_only=True, tag=True):
    """Inference: unloaded."""

    model: str
    artifact: Digest | None


class Observed(_Message, frozen=True, kw_only=True, tag=True):
    """Inference, about every half second while an artifact is on probation.

    ``requests`` and ``errors`` count what the candidate served since its Switch (totals);
    the compute times are the samples new since the last Observed, golden inputs replayed
    alternately on both loaded versions.

    In a canary or shadow there is more: ``before_…`` of the version that serves; requests that
    were ``mirrored`` (copied and run on both), of which ``agreed`` gave the same within the
    golden sample's tolerances, with their times as pairs; ``rows`` of outputs that are a choice,
    of which ``rows_agreed`` choose the same; and those ``dropped`` since both cannot keep up.
    A shadow's ``requests`` are those that were mirrored. All but the times are totals.
    """

    model: str
    artifact: Digest
    requests: int
    errors: int
    active_compute_ns: tuple[int, ...]
    candidate_compute_ns: tuple[int, ...]
    rss_bytes: int
    number: int = 0
    before_requests: int = 0
    before_errors: int = 0
    mirrored: int = 0
    agreed: int = 0
    rows: int = 0
    rows_agreed: int = 0
    dropped: int = 0
    difference_max: float = 0.0
    paired_active_ns: tuple[int, ...] = ()
    paired_candidate_ns: tuple[int, ...] = ()


class Cached(_Message, frozen=True, kw_only=True, tag=True):
    """Inference, when it changed, at most every half second: the use of a model's response cache.

    Counts are requests since the process started, by where their answer came from (``shared``:
    the run of an identical one, ``misses``: a run of their own); bytes and entries are held now.
    """

    model: str
    memory_hits: int = 0
    file_hits: int = 0
    shared: int = 0
    misses: int = 0
    entries: int = 0
    memory_bytes: int = 0
    file_bytes: int = 0


Message = (
    Prepare
    | Switch
    | Drop
    | Ask
    | Loading
    | Hello
    | Prepared
    | Switched
    | Dropped
    | Observed
    | Cached
)


def encode_message(message: Message) -> bytes:
    """One packet. Raises: FormatError where it would not fit into one."""
    data = msgspec.json.encode(message, enc_hook=_to_json)
    if len(data) > PACKET_BYTES_MAX:
        raise FormatError(f"a {type(message).__name__} of {len(data)} bytes does not fit a packet")
    return data


def decode_message(data: bytes) -> Message:
    """Raises: FormatError."""
    try:
        return cast(Message, msgspec.json.decode(data, type=Message, dec_hook=_from_json))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(
            f"a packet between updater and inference is unreadable: {error}"
        ) from None


def _to_json(value: object) -> object:
    if isinstance(value, Digest):
        return str(value)
    raise NotImplementedError(type(value))


def _from_json(wanted: type, value: object) -> Any:
    if wanted is Digest and isinstance(value, str):
        return Digest.parse(value)
    raise NotImplementedError(wanted)


# -- What the updater says to AgentService, in the same process but across a room's border. --


class AgentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered event; ``artifact`` as 64 hexadecimal digits."""

    number: int
    at_ms: int
    model: str
    version: str
    artifact: str
    state: str
    reason: str
    message: str
    facts: dict[str, str]


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate on probation, and what was seen so far (as in Observed). ``share``: of the
    requests, those that it answers; ``ratio``: its time over the active version's, 0: unknown."""

    mode: str
    share: float
    requests: int = 0
    errors: int = 0
    before_requests: int = 0
    before_errors: int = 0
    mirrored: int = 0
    agreed: int = 0
    rows: int = 0
    rows_agreed: int = 0
    dropped: int = 0
    ratio: float = 0.0


class Unserved(msgspec.Struct, frozen=True, kw_only=True):
    """Why inference does not answer with the artifact that a slot names; ``instead``: with
    which one it does."""

    artifact: Digest
    reason: str
    message: str
    instead: Digest | None = None


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model as it stands: ``version`` (and whether it ``serves``), and what became of the
    candidate. ``state``, ``reason`` and ``message`` are the candidate's where there is one."""

    model: str
    version: str = ""
    variant: str = ""
    artifact: Digest | None = None
    previous_version: str = ""
    previous_artifact: Digest | None = None
    state: str = ""
    candidate_version: str = ""
    candidate_artifact: Digest | None = None
    done_bytes: int = 0
    total_bytes: int = 0
    wire_bytes: int = 0
    reason: str = ""
    message: str = ""
    serve: str = ""
    cache: Cached | None = None  # None: it has none, or nothing was heard of it yet
    watching: Watching | None = None  # None: no candidate is on probation
    serves: bool = False  # inference answers with ``version`` now
    unserved_reason: str = ""  # why not; empty also where nothing has to be served
    unserved_message: str = ""


class NoContact(msgspec.Struct, frozen=True, kw_only=True):
    """Why the distributor was not spoken to at last: ``reason`` is the name of the error's class,
    ``since_ms`` when that began, as far as this process knows, ``remedy`` what a person can do."""

    reason: str
    message: str
    since_ms: int
    remedy: str
    refused: bool  # it answered, and will have nothing to do with this device


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    agent_version: str
    distributor: str
    connected: bool
    no_contact: NoContact | None = None  # None: all is well, or nothing was tried yet
    assignment_counter: int
    refusal: str = ""  # why no newer assignment is taken up; empty: there is nothing to say
    disk_free_bytes: int
    inference_address: str
    lane_address: str
    inference_ready: bool
    models: tuple[ModelStatus, ...]


class HeldTree(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that stays in place until the lease ``number`` is let go."""

    number: int
    folder: str
    version: str
    artifact: Digest
    files: tuple[str, ...]
