"""From files on disk to an artifact that can be uploaded: the publisher's half of publishing.

Reads signature, operator sets and IR version out of the model, has the golden sample made,
proves every file once and writes the manifest. Nothing is sent here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, cast

from edge_sdk.base import (
    ConflictError,
    Digest,
    FileProof,
    FormatError,
    ModelName,
    UsageError,
    Version,
    check_segment,
    explain_os_error,
    prove_stream,
)
from edge_sdk.engines import available_engines
from edge_sdk.evidence import EVIDENCE_BYTES_MAX, Kind, claimed_kind
from edge_sdk.fleet.files import kind_of, list_files
from edge_sdk.fleet.golden import GoldenSample, read_sample, sample_for
from edge_sdk.fleet.requirements import ENGINES, MEMORY_FACTOR, with_overrides
from edge_sdk.formats import TensorMap, open_folder, open_model
from edge_sdk.manifest import (
    GOLDEN_PATH,
    FileEntry,
    Golden,
    Manifest,
    Requirements,
    Signature,
    Tolerance,
    encode_manifest,
)

Advance = Callable[[int], None]
Look = Callable[[], Manifest | None]  # what is published under a name already
Serve = Literal["inference", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a publisher says of an artifact; everything else is read out of the files.

    serve: None decides by the format: ``inference`` where an engine for it is known.
    require: ``KEY=VALUE`` each, see ``edge_sdk.fleet.requirements``.
    floor: no device goes back below this version any more; signed, so needs keys.
    allow_code: the model can run code (a pickle, a library); the distributor's policy for the
    namespace has to allow it as well.
    evidence: files with what others signed about the model; see docs/evidence.md.
    """

    model: str
    version: str
    variant: str
    parent: str | None = None
    entry: str | None = None
    serve: Serve | None = None
    golden: Path | None = None
    require: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    seed: int = 0
    floor: str | None = None
    allow_code: bool = False
    evidence: Sequence[Path] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of one file of an artifact: on disk, or made here."""

    path: Path | None
    data: bytes = b""

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Raises: NotFoundError, UsageError."""
        if self.path is None:
            return io.BytesIO(self.data)
        try:
            return self.path.open("rb")
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    @property
    def size_bytes(self) -> int:
        return len(self.data) if self.path is None else self.path.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An artifact ready to be uploaded. ``contents`` has each file by its digest, once.

    notes: what was decided for the publisher, for people.
    """

    manifest: Manifest
    document: bytes
    contents: Mapping[Digest, Content]
    notes: tuple[str, ...]
    floor: Version | None = None
    allow_code: bool = False
    evidence: tuple[bytes, ...] = ()
    evidence_files: tuple[Path, ...] = ()  # where each piece of evidence was read

    @property
    def artifact(self) -> Digest:
        return Digest.of(self.document)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The files of an artifact as they lie on disk, and what is known of the models in them."""

    root: Path
    paths: tuple[str, ...]
    models: Mapping[str, TensorMap]


def survey(path: Path) -> int:
    """Bytes on disk that preparing ``path`` will read, for a progress bar.

    Raises: NotFoundError, FormatError.
    """
    found = _find(path)
    return sum(Content(path=found.root / one).size_bytes for one in found.paths)


def prepare(
    path: Path, draft: Draft, *, advance: Advance | None = None, look: Look | None = None
) -> Prepared:
    """Makes the manifest of the file or folder ``path`` and proves its files.

    A model file brings its external-data files along. ``advance`` hears of bytes read.
    ``look`` is asked before the model is run for its golden sample.

    Raises: NotFoundError, UsageError, FormatError, RefusedError, ConflictError (other files
    are published under that name).
    """
    model, version = ModelName.parse(draft.model), Version.parse(draft.version)
    parent = None if draft.parent is None else Version.parse(draft.parent)
    check_segment(draft.variant, "variant")
    floor = _floor(draft, version)
    evidence = tuple(_evidence(one) for one in draft.evidence)
    found = _find(path)
    entry = _entry(found, draft.entry)
    tensors = found.models.get(entry) or open_model(found.root / entry)
    requires = _requirements(tensors, draft)
    if draft.serve is None:
        _refuse_other_content(entry, tensors)
    serve: Serve = draft.serve or ("inference" if tensors.format in ENGINES else "none")
    if serve == "none":
        requires = _without_serving(requires, draft)
    contents = {one: Content(path=found.root / one) for one in found.paths}
    proofs = {one: _prove(content, advance) for one, content in contents.items()}
    if look is not None:
        _refuse_published(draft, proofs, look())
    sample = None if serve == "none" else _sample(tensors, requires, draft)
    golden = None
    if sample is not None:
        golden = Golden(
            path=_golden_path(found, draft, sample),
            origin=sample.origin,
            tolerances=sample.tolerances,
        )
        contents[golden.path] = Content(path=None, data=sample.data)
        proofs[golden.path] = _prove(contents[golden.path], advance)
    manifest = Manifest(
        model=model,
        version=version,
        variant=draft.variant,
        parent=parent,
        files=tuple(_file_entry(one, proofs[one]) for one in sorted(proofs)),
        format=tensors.format,
        entry=entry,
        requires=requires,
        signature=Signature() if sample is None else sample.signature,
        golden=golden,
        serve=serve,
        labels=dict(draft.labels),
    )
    return Prepared(
        manifest=manifest,
        document=encode_manifest(manifest),
        contents={proofs[one].digest: content for one, content in contents.items()},
        notes=_notes(entry, tensors, draft, serve, sample),
        floor=floor,
        allow_code=draft.allow_code,
        evidence=evidence,
        evidence_files=tuple(draft.evidence),
    )


def check_files(draft: Draft) -> frozenset[Kind]:
    """That what stands beside the model can be read: its golden sample and its evidence. The
    kinds of the latter.

    Raises: FormatError, NotFoundError, UsageError.
    """
    if draft.golden is not None:
        read_sample(draft.golden)
    return frozenset(_kind(one) for one in draft.evidence)


def _kind(file: Path) -> Kind:
    try:
        return claimed_kind(_evidence(file))
    except FormatError as error:
        raise FormatError(f"{file}: {error.message}", **error.facts) from None


def _evidence(file: Path) -> bytes:
    """No more of it than is allowed, and one byte by which that is noticed."""
    with Content(path=file).open() as stream:
        return stream.read(EVIDENCE_BYTES_MAX + 1)


def check_names(draft: Draft) -> tuple[ModelName, Version, Version | None]:
    """Model, version and floor. Raises: FormatError, UsageError."""
    model, version = ModelName.parse(draft.model), Version.parse(draft.version)
    check_segment(draft.variant, "variant")
    return model, version, _floor(draft, version)


def _floor(draft: Draft, version: Version) -> Version | None:
    """Raises: UsageError where no device could install what is published."""
    if draft.floor is None:
        return None
    floor = Version.parse(draft.floor)
    if floor > version:
        raise UsageError(f"the floor {floor} is above {version}, the version that it comes with")
    return floor


def _find(path: Path) -> _Found:
    if kind_of(path) == "folder":
        paths = list_files(path)
        maps = {one.path.relative_to(path).as_posix(): one for one in open_folder(path)}
        return _Found(root=path, paths=paths, models=maps)
    tensors = open_model(path)
    paths = (path.name, *tensors.external_files)
    return _Found(root=path.parent, paths=paths, models={path.name: tensors})


def _entry(found: _Found, wanted: str | None) -> str:
    """The file that an engine is given. Raises: UsageError where that has to be said."""
    if wanted is not None:
        if wanted not in found.paths:
            raise UsageError(f"--entry {wanted!r} is not among the files: {_some(found.paths)}")
        return wanted
    servable = [one for one, tensors in found.models.items() if tensors.format in ENGINES]
    known = [one for one, tensors in found.models.items() if tensors.format != "opaque"]
    candidates = servable or known or found.paths
    if len(candidates) > 1:
        raise UsageError(
            f"several files could be the model: {_some(candidates)}; say which with --entry"
        )
    return candidates[0]


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(sorted(paths)[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5} more"


def _requirements(tensors: TensorMap, draft: Draft) -> Requirements:
    facts = tensors.facts
    external = sum((tensors.path.parent / one).stat().st_size for one in tensors.external_files)
    found = Requirements(
        engine=ENGINES.get(tensors.format),
        memory_bytes=MEMORY_FACTOR * (tensors.size_bytes + external),
        ir_version=None if facts is None else facts.ir_version,
        opsets={} if facts is None else dict(facts.opsets),
    )
    return with_overrides(found, draft.require)


def _refuse_other_content(entry: str, tensors: TensorMap) -> None:
    """A page of an error or a pointer of Git LFS under a model's name would take what serves
    out of service. Raises: FormatError."""
    suffix = Path(entry).suffix.lower().removeprefix(".")
    if suffix != tensors.format and suffix in ENGINES:
        raise FormatError(
            f"{entry} is called .{suffix}, but its content is no such thing; "
            "publish it with --serve none if applications read it themselves"
        )


def _refuse_published(
    draft: Draft, proofs: Mapping[str, FileProof], published: Manifest | None
) -> None:
    """The golden sample apart, which is not made yet. Raises: ConflictError."""
    if published is None:
        return
    sample = "" if published.golden is None else published.golden.path
    theirs = {one.path: one.digest for one in published.files if one.path != sample}
    if theirs != {path: proof.digest for path, proof in proofs.items() if path != sample}:
        raise ConflictError(
            f"{draft.model} {draft.version} {draft.variant} is published already, with other "
            "files; publish a new version"
        )


def _without_serving(requires: Requirements, draft: Draft) -> Requirements:
    """The application brings its own runtime, so the agent's engine and memory do not count."""
    if draft.golden is not None:
        raise UsageError("--golden needs a served model; leave it out with --serve none")
    asked = Requirements(architectures=requires.architectures, accelerators=requires.accelerators)
    return with_overrides(asked, draft.require)


def _sample(tensors: TensorMap, requires: Requirements, draft: Draft) -> GoldenSample:
    """Computed by the engine that is asked for, where it is installed here: a publisher seldom
    has the device's GPU, and another engine that reads the same file gives the same answers."""
    engine = requires.engine
    if engine == "tensorrt" and engine not in available_engines():
        engine = ENGINES.get(tensors.format)
    return sample_for(
        tensors,
        engine,
        golden=draft.golden,
        tolerances=draft.tolerances,
        seed=draft.seed,
    )


def _golden_path(found: _Found, draft: Draft, sample: GoldenSample) -> str:
    """Where the sample lies among the files: a file of the publisher is never replaced."""
    folded = {one.casefold(): one for one in found.paths}
    clash = folded.get(GOLDEN_PATH)
    if clash is None:
        return GOLDEN_PATH
    mine = found.root / clash
    if draft.golden is not None and draft.golden.exists() and draft.golden.samefile(mine):
        # The publisher keeps the sample among the files already; it stays exactly what it is.
        if mine.read_bytes() == sample.data:
            return clash
        raise UsageError(
            f"{mine} would be written anew as the golden sample; keep it outside the folder"
        )
    raise UsageError(
        f"{clash} is among the files, and the golden sample takes that name: rename it, or give "
        "it as --golden if it is the sample"
    )


class _Counted(io.RawIOBase):
    """A stream that says how many bytes were read from it."""

    def __init__(self, stream: BinaryIO, advance: Advance) -> None:
        self._stream = stream
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._advance(len(data))
        return data


def _prove(content: Content, advance: Advance | None) -> FileProof:
    try:
        with content.open() as stream:
            if advance is None or content.path is None:
                return prove_stream(stream)
            return prove_stream(cast(BinaryIO, _Counted(stream, advance)))
    except OSError as error:
        raise FormatError(f"{content.path} cannot be read: {error.strerror}") from error


def _file_entry(path: str, proof: FileProof) -> FileEntry:
    return FileEntry(
        path=path,
        size_bytes=proof.size_bytes,
        chunks=proof.chunks,
        digest=proof.digest,
        sha256=proof.sha256,
    )


def _notes(
    entry: str, tensors: TensorMap, draft: Draft, serve: Serve, sample: GoldenSample | None
) -> tuple[str, ...]:
    notes = []
    if draft.serve is None and serve == "none":
        notes.append(
            f"{entry} is {tensors.format}, which no engine here serves: published with --serve none"
        )
    if sample is not None:
        notes.append(sample.how)
    return tuple(notes)
