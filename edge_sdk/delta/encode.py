"""Where a delta is computed: chunk by chunk, in bounded memory, on one machine the same bytes
every time.

Each chunk of a target file is cut into pieces: tensors that have a counterpart in the source
(alignment), and the bytes between. Numbers become residuals or planes; copies, changed copies
and other bytes between two records of numbers one patch, or whatever is smallest.

What only encoding needs is imported once it begins: a device that applies deltas does without.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edge_sdk.base import CHUNK_BYTES, Digest, UsageError, file_digest
from edge_sdk.delta.container import (
    CODE_SLOTS,
    CODE_TABLE_BYTES,
    DEFAULT_MEMORY_LIMIT_BYTES,
    MAPPED_BYTES,
    FileRef,
)
from edge_sdk.delta.files import OpenFile, open_tree
from edge_sdk.delta.methods import MAPS, NAMES, REGISTRY, REPEATS
from edge_sdk.delta.records import Place
from edge_sdk.delta.writer import ContainerWriter, MethodUse

if TYPE_CHECKING:
    from edge_sdk.delta.alignment import AlignedRange, LocatedTensor
    from edge_sdk.delta.choose import Candidate
    from edge_sdk.delta.cutting import Piece

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaSummary:
    """What ``encode`` made. ``methods`` counts by method, table records as ``table`` or,
    where predictions have dimensions or value maps, ``maps``."""

    source_bytes: int
    target_bytes: int
    delta_bytes: int
    memory_bytes: int
    methods: Mapping[str, MethodUse]


def encode(
    source: Path | None,
    target: Path,
    out: BinaryIO,
    *,
    methods: Collection[str] = NAMES,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
    threads: int = 1,
    progress: Progress | None = None,
) -> DeltaSummary:
    """Writes the delta that turns the files of ``source`` into those of ``target``.

    Each is a file or a folder; ``source`` None makes a whole. ``methods`` that this release
    does not know are passed over; ``literal`` is always needed. Without ``maps`` among them no
    prediction has dimensions or a value map, for decoders that leave those out; without
    ``repeats`` no record reads the target, for those that cannot.
    ``memory_limit_bytes`` is that of the decoder. Further ``threads`` read and hash; they
    change no byte. ``progress`` is told how many more bytes of the target are done.

    Raises: NotFoundError, FormatError (links, impossible names), UsageError (no file, too
    small a limit, no ``literal``), UnavailableError (a file changed meanwhile).
    """
    with ExitStack() as stack:
        sources = stack.enter_context(open_tree(source)) if source is not None else ()
        targets = stack.enter_context(open_tree(target))
        folder = Path(getattr(out, "name", "") or ".").parent if _named(out) else None
        spool = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        usable = _usable(methods, memory_limit_bytes)
        affordable = _affordable(usable, memory_limit_bytes - MAPPED_BYTES) == usable
        mapped = MAPS in methods and affordable
        ranges = _aligned(source, sources, target, targets, mapped=mapped)
        slots = _code_slots(usable, memory_limit_bytes - (MAPPED_BYTES if mapped else 0))
        job = _Encoding(
            sources,
            targets,
            ranges,
            spool=spool,
            methods=usable,
            code_slots=slots,
            repeats=REPEATS in methods,
            threads=threads,
        )
        job.run(progress or (lambda _count: None))
        # Of what was predicted from a source that changed, no decoder could make the target.
        for file in (*sources, *targets):
            file.check_rests()
        delta_bytes, memory_bytes = job.writer.finish(
            out, folder=target.is_dir(), memory_limit_bytes=memory_limit_bytes
        )
    return DeltaSummary(
        source_bytes=sum(file.size_bytes for file in sources),
        target_bytes=sum(file.size_bytes for file in targets),
        delta_bytes=delta_bytes,
        memory_bytes=memory_bytes,
        methods=job.writer.uses,
    )


def _named(out: BinaryIO) -> bool:
    """Whether ``out`` is a file with a folder: the spool goes there and not to a small /tmp."""
    name = getattr(out, "name", None)
    return isinstance(name, str) and Path(name).is_file()


def _aligned(
    source: Path | None,
    sources: Sequence[OpenFile],
    target: Path,
    targets: Sequence[OpenFile],
    *,
    mapped: bool,
) -> Mapping[int, Sequence[AlignedRange]]:
    """For each target file its tensors that have a counterpart in the source."""
    from edge_sdk.delta.alignment import align

    found = [] if source is None else _located(source, sources)
    return align(
        found,
        _located(target, targets),
        source_files=sources,
        target_files=targets,
        mapped=mapped,
    )


def _located(root: Path, files: Sequence[OpenFile]) -> list[LocatedTensor]:
    """Raises: UnavailableError (another file took the name of one that is open)."""
    from edge_sdk.delta.alignment import locate_tensors

    found = locate_tensors(root, [file.path for file in files])
    for one in found:
        if one.end > files[one.file].size_bytes:
            raise files[one.file].changed()
    return found


def _usable(names: Collection[str], memory_limit_bytes: int) -> frozenset[int]:
    """Numbers of the methods that were asked for and that the limit allows."""
    known = [number for number, method in REGISTRY.items() if method.name in names]
    numbers = _affordable(known, memory_limit_bytes)
    if not _code_slots(numbers, memory_limit_bytes):
        numbers -= {method.number for method in REGISTRY.values() if method.takes_code}
    literal = next(method for method in REGISTRY.values() if method.name == "literal")
    if "literal" not in names:
        raise UsageError("no delta can be made without the method 'literal'")
    if literal.number not in numbers:
        raise UsageError(
            f"no delta can be decoded in {memory_limit_bytes} bytes of memory; allow at "
            f"least {_needed_bytes(literal.number)}"
        )
    return numbers


def _code_slots(numbers: Iterable[int], memory_limit_bytes: int) -> int:
    """How many code tables may be in force at once, beside the largest record."""
    count = CODE_SLOTS
    while count and _affordable(numbers, memory_limit_bytes - count * CODE_TABLE_BYTES) != numbers:
        count -= 1
    return count


def _affordable(numbers: Iterable[int], memory_limit_bytes: int) -> frozenset[int]:
    """Those methods of which even the largest record stays within the limit."""
    return frozenset(number for number in numbers if _needed_bytes(number) <= memory_limit_bytes)


def _needed_bytes(number: int) -> int:
    """What the largest record of a method needs, with room for the delta's header and index."""
    largest, reserve = CHUNK_BYTES + (64 << 10), 1 << 20
    return REGISTRY[number].memory_bytes(CHUNK_BYTES, largest) + reserve


class _Encoding:
    """One run of ``encode``."""

    def __init__(
        self,
        sources: Sequence[OpenFile],
        targets: Sequence[OpenFile],
        ranges: Mapping[int, Sequence[AlignedRange]],
        *,
        spool: BinaryIO,
        methods: frozenset[int],
        code_slots: int,
        repeats: bool,
        threads: int,
    ) -> None:
        from edge_sdk.delta.choose import Chooser
        from edge_sdk.delta.cutting import Cutter
        from edge_sdk.delta.patches import Patches
        from edge_sdk.delta.repeats import Repeats

        self._targets = targets
        self._threads = threads
        self._copies = any(REGISTRY[number].name == "copy" for number in methods)
        self._target_chunks = [file.chunk_digests(threads) for file in targets]
        self._source_refs = [_ref(file, file.chunk_digests(threads)) for file in sources]
        self._target_refs = list(map(_ref, targets, self._target_chunks))
        self._repeats = (
            Repeats(targets, [file.digest for file in self._target_refs], ranges)
            if repeats and self._copies
            else None
        )
        self._cutter = Cutter(sources, ranges, copies=self._copies, repeats=self._repeats)
        self._chooser = Chooser(methods, sources, code_slots)
        self.writer = ContainerWriter(spool, self._source_refs, self._target_refs)
        self._patches = Patches(self.writer, methods, sources, targets, repeats=repeats)

    def run(self, progress: Progress) -> None:
        for number, file in enumerate(self._targets):
            same = self._same_file(number)
            if same is not None:
                self._patches.copy(Place(file=number, offset=0, length=file.size_bytes), same, 0)
                progress(file.size_bytes)
                continue
            self._cutter.begin(file)
            for chunk, data in enumerate(self._proved_chunks(number)):
                self._chunk(number, chunk * CHUNK_BYTES, data)
                progress(len(data))
        self._patches.flush()

    def _proved_chunks(self, number: int) -> Iterator[bytes]:
        """The chunks of a target file, the next one read meanwhile if there is a thread for it."""
        file, digests = self._targets[number], self._target_chunks[number]

        def proved(chunk: int) -> bytes:
            data = file.read(chunk * CHUNK_BYTES, CHUNK_BYTES)
            if Digest.of(data) != digests[chunk]:
                raise file.changed()
            return data

        if self._threads == 1:
            yield from map(proved, range(len(digests)))
            return
        with ThreadPoolExecutor(1) as pool:
            waiting: deque[Future[bytes]] = deque()
            for chunk in range(len(digests)):
                waiting.append(pool.submit(proved, chunk))
                if chunk:
                    yield waiting.popleft().result()
            for last in waiting:
                yield last.result()

    def _same_file(self, number: int) -> int | None:
        """The file that is this target file, whatever it is called: one of the source, or,
        numbered behind those, an earlier one of the target."""
        wanted = self._target_refs[number]
        if not self._copies or not wanted.size_bytes:
            return None
        for source, ref in enumerate(self._source_refs):
            if (ref.size_bytes, ref.digest) == (wanted.size_bytes, wanted.digest):
                return source
        repeated = None if self._repeats is None else self._repeats.file(number)
        return None if repeated is None else len(self._source_refs) + repeated

    def _chunk(self, number: int, base: int, data: bytes) -> None:
        """Writes the records of one chunk, which begins at ``base`` of its file."""
        for piece in self._cutter.pieces(number, base, data):
            place = Place(file=number, offset=base + piece.start, length=piece.length)
            if piece.copy_from is not None:
                self._patches.copy(place, *piece.copy_from)
                continue
            part = data[piece.start : piece.end]
            choice = self._chooser.choose(place, part, piece.aligned, piece.near)
            if choice is not None and self._is_pruned(place, part, piece, choice.cost_bytes):
                continue
            if choice is None:
                self._patches.literal(place, part, piece.near)
            else:
                self._put(choice)

    def _is_pruned(self, place: Place, data: bytes, piece: Piece, cost_bytes: int) -> bool:
        """Whether it was written as what the source has, with zeros among it."""
        if piece.aligned is None or piece.near is None:
            return False
        if not self._chooser.is_pruned(place, data, piece.aligned, piece.near):
            return False
        return self._patches.beside(place, data, piece.near, cost_bytes)

    def _put(self, choice: Candidate) -> None:
        self._patches.flush()
        if choice.table is not None:
            self.writer.table(choice.table)
        if choice.code is not None:
            self.writer.code(*choice.code)
        self.writer.record(choice.method, choice.place, choice.tail)


def _ref(file: OpenFile, chunks: Sequence[Digest]) -> FileRef:
    return FileRef(path=file.path, size_bytes=file.size_bytes, digest=file_digest(chunks))
