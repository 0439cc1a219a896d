"""The cheapest way from what a device holds to a target, within what it can decode.

Two questions, both pure: which deltas are worth building (``wanted``), and, once they are
measured, which of them a device should fetch (``plan``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from distributor.planning.history import History, Pair, route
from distributor.planning.model import (
    ArtifactFacts,
    DecoderFacts,
    DeltaJob,
    DeltaOffer,
    DeviceFacts,
    Plan,
    PlanPolicy,
)
from edge_sdk.base.digest import Digest

_STRANGERS_MAX = 2  # sources of another variant that are tried; each costs a build
_DEFAULT_POLICY = PlanPolicy()
_NO_HISTORY = History()


def wanted(
    decoder: DecoderFacts,
    held: Sequence[ArtifactFacts],
    target: ArtifactFacts,
    *,
    history: History = _NO_HISTORY,
    known_methods: Collection[str],
    disk_free_bytes: int | None = None,
) -> tuple[DeltaJob, ...]:
    """The deltas worth having for a device that holds ``held``: the whole, and those by which
    it comes from its best source. Empty where the device holds the target, or knows no
    method of ours.

    Memory limits are rounded down to a power of two, so that a fleet of many kinds of
    devices shares few builds.
    """
    methods = tuple(sorted(decoder.methods & set(known_methods)))
    if not methods or decoder.memory_bytes < 1:
        return ()
    if any(facts.artifact == target.artifact for facts in held):
        return ()
    limit = 1 << (decoder.memory_bytes.bit_length() - 1)
    pairs: list[Pair] = [(None, target.artifact)]
    for source in _sources(held, target):
        pairs += _pairs(decoder, source.artifact, target.artifact, history, disk_free_bytes)
    return tuple(
        DeltaJob(source=start, target=end, methods=methods, memory_limit_bytes=limit)
        for start, end in pairs
    )


def _sources(held: Sequence[ArtifactFacts], target: ArtifactFacts) -> tuple[ArtifactFacts, ...]:
    """Which held artifacts deltas are built from: the best of the target's variant; where none
    is held, the first of others, of which nobody knows beforehand what they share with it."""
    best = best_sources(held, target)
    same = tuple(facts for facts in best if facts.variant == target.variant)
    return same[:1] or best[:_STRANGERS_MAX]


def _pairs(
    decoder: DecoderFacts,
    source: Digest,
    target: Digest,
    history: History,
    disk_free_bytes: int | None,
) -> tuple[Pair, ...]:
    """The deltas from one source. One that is built already, and that the device can decode,
    costs nothing more; a hub lies on the device beside the target for a while."""
    direct = (source, target)
    for one in history.offers:
        if (one.source, one.target) == direct and decodable(decoder, one):
            return (direct,)
    pairs = route(source, target, history)
    needed_bytes = sum(history.file_bytes.get(end, 0) for _, end in pairs)
    if len(pairs) > 1 and disk_free_bytes is not None and needed_bytes > disk_free_bytes:
        return (direct,)
    return pairs


def best_sources(held: Sequence[ArtifactFacts], target: ArtifactFacts) -> tuple[ArtifactFacts, ...]:
    """Held artifacts of the target's model, the most promising first.

    The same variant before another (weights of another precision share few bytes), then
    the version that the target was made from, then the newest. A total order.
    """
    unique = {facts.artifact: facts for facts in held if facts.model == target.model}
    newest_first = sorted(unique.values(), key=lambda facts: str(facts.artifact))
    newest_first.sort(key=lambda facts: facts.version, reverse=True)
    return tuple(
        sorted(
            newest_first,
            key=lambda facts: (facts.variant != target.variant, facts.version != target.parent),
        )
    )


def jobs_once(jobs: Iterable[DeltaJob]) -> tuple[DeltaJob, ...]:
    """Each job once, however many devices ask for it, in a fixed order."""
    return tuple(sorted(set(jobs), key=lambda job: job.order))


def decodable(decoder: DecoderFacts, offer: DeltaOffer) -> bool:
    """Whether the device said that it can decode ``offer``."""
    return (
        offer.format_version in decoder.versions
        and offer.methods <= decoder.methods
        and offer.decoder_memory_bytes <= decoder.memory_bytes
    )


def plan(
    device: DeviceFacts,
    held: Sequence[ArtifactFacts],
    target: ArtifactFacts,
    offers: Sequence[DeltaOffer],
    *,
    hubs: Sequence[ArtifactFacts] = (),
    policy: PlanPolicy = _DEFAULT_POLICY,
    bandwidth_bytes_s: float | None = None,
) -> Plan:
    """The cheapest chain of at most ``policy.steps_max`` offers to ``target``.

    held: artifacts that the device holds and trusts as sources right now.
    hubs: artifacts that a chain may pass through; the device holds them for a while.
    bandwidth_bytes_s: the device's measured link; None counts bytes alone.
    """
    whole_bytes = min(
        (one.delta_bytes for one in offers if one.source is None and one.target == target.artifact),
        default=0,
    )
    if any(facts.artifact == target.artifact for facts in held):
        return Plan(target=target.artifact, steps=(), whole_bytes=whole_bytes)
    known = {facts.artifact: facts for facts in (*hubs, target)}
    usable = [one for one in offers if decodable(device.decoder, one) and one.target in known]
    start: set[Digest | None] = {None, *(facts.artifact for facts in held)}
    chains = list(_chains(start, target.artifact, usable, policy.steps_max))
    obstacles = [
        tuple(filter(None, (_over_policy(chain, policy), _over_disk(device, held, chain, known))))
        for chain in chains
    ]
    allowed = [chain for chain, found in zip(chains, obstacles, strict=True) if not found]
    if not allowed:
        reasons = {reason for found in obstacles for reason in found}
        reason = "; ".join(sorted(reasons)) or _why_no_chain(device.decoder, target, offers)
        return Plan(target=target.artifact, steps=(), whole_bytes=whole_bytes, reason=reason)
    best = min(allowed, key=lambda chain: _cost(chain, bandwidth_bytes_s))
    return Plan(
        target=target.artifact,
        steps=best,
        whole_bytes=whole_bytes,
        reason=_why_whole(held, target, best, usable),
    )


def _chains(
    start: set[Digest | None],
    target: Digest,
    offers: Sequence[DeltaOffer],
    steps_max: int,
) -> Iterator[tuple[DeltaOffer, ...]]:
    """Every chain of offers that begins with something held and ends at the target."""
    # Breadth first, one more step each round; a chain never visits an artifact twice.
    waiting: list[tuple[DeltaOffer, ...]] = [(one,) for one in offers if one.source in start]
    for _step in range(steps_max):
        longer: list[tuple[DeltaOffer, ...]] = []
        for chain in waiting:
            at = chain[-1].target
            if at == target:
                yield chain
                continue
            seen = {one.target for one in chain} | {one.source for one in chain}
            longer.extend(
                (*chain, one) for one in offers if one.source == at and one.target not in seen
            )
        waiting = longer


def _cost(
    chain: tuple[DeltaOffer, ...], bandwidth_bytes_s: float | None
) -> tuple[float, int, tuple[str, ...]]:
    """Seconds where the link is known, bytes where not; then fewer steps; then digests."""
    wire_bytes = sum(one.delta_bytes for one in chain)
    if bandwidth_bytes_s:
        cost = wire_bytes / bandwidth_bytes_s + sum(one.apply_s for one in chain)
    else:
        cost = float(wire_bytes)
    return (cost, len(chain), tuple(str(one.delta) for one in chain))


def _over_policy(chain: tuple[DeltaOffer, ...], policy: PlanPolicy) -> str:
    if not policy.whole_allowed and chain[0].source is None:
        return "the policy allows no whole download"
    wire_bytes = sum(one.delta_bytes for one in chain)
    if policy.wire_bytes_max is not None and wire_bytes > policy.wire_bytes_max:
        return (
            f"{wire_bytes} bytes are more than the {policy.wire_bytes_max} that the policy allows"
        )
    return ""


def _over_disk(
    device: DeviceFacts,
    held: Sequence[ArtifactFacts],
    chain: tuple[DeltaOffer, ...],
    known: dict[Digest, ArtifactFacts],
) -> str:
    """Files that the device holds already cost nothing: they exist once."""
    if device.disk_free_bytes is None:
        return ""
    present = {digest for facts in held for digest in facts.files}
    new: dict[Digest, int] = {}
    for step in chain:
        files = known[step.target].files
        new.update({digest: size for digest, size in files.items() if digest not in present})
    need = sum(new.values())
    if need <= device.disk_free_bytes:
        return ""
    return f"needs {need} bytes of disk, the device has {device.disk_free_bytes} free"


def _why_no_chain(
    decoder: DecoderFacts, target: ArtifactFacts, offers: Sequence[DeltaOffer]
) -> str:
    if not offers:
        return "no delta to it is built yet"
    reasons = set()
    for one in offers:
        if one.target != target.artifact:
            continue
        if one.format_version not in decoder.versions:
            reasons.add(f"the device does not know delta format {one.format_version}")
        if one.methods - decoder.methods:
            unknown = ", ".join(sorted(one.methods - decoder.methods))
            reasons.add(f"the device does not know the method {unknown}")
        if one.decoder_memory_bytes > decoder.memory_bytes:
            reasons.add(
                f"decoding needs {one.decoder_memory_bytes} bytes of memory, "
                f"the device allows {decoder.memory_bytes}"
            )
    return "; ".join(sorted(reasons)) or "no delta leads from what the device holds to it"


def _why_whole(
    held: Sequence[ArtifactFacts],
    target: ArtifactFacts,
    best: tuple[DeltaOffer, ...],
    usable: Sequence[DeltaOffer],
) -> str:
    """Why the chosen way begins with nothing; empty where it begins with something held."""
    if best[0].source is not None:
        return ""
    sources = {facts.artifact for facts in held if facts.model == target.model}
    if not sources:
        return "the device holds no version of this model"
    if any(one.source in sources and one.target == target.artifact for one in usable):
        return "the whole costs no more than a delta"
    return "no delta that the device can decode is built from what it holds"
