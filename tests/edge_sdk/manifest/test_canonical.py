"""One value of a manifest or assignment has one spelling, and every rule has its refusal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import CHUNK_BYTES, Digest, FormatError, ModelName, Version, file_digest
from edge_sdk.manifest import (
    AssignedModel,
    Assignment,
    FileEntry,
    Golden,
    Manifest,
    Requirements,
    Signature,
    TensorSpec,
    Tolerance,
    decode_assignment,
    decode_manifest,
    encode_assignment,
    encode_manifest,
)
from edge_sdk.manifest.canonical import ASSIGNMENT_BYTES_MAX

# Far faster than from_regex.
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SEGMENTS = st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "._-", max_size=20))
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)
VERSIONS = st.tuples(*[st.integers(0, 99)] * 3).map(lambda n: Version.parse("{}.{}.{}".format(*n)))
MODELS = st.tuples(SEGMENTS, SEGMENTS).map(lambda two: ModelName.parse("/".join(two)))
WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=10)


def entry_of(path: str, size_bytes: int = 3, seed: bytes = b"") -> FileEntry:
    count = -(-size_bytes // CHUNK_BYTES)
    seed += b"%d " % size_bytes
    chunks = tuple(Digest.of(seed + str(number).encode()) for number in range(count))
    return FileEntry(
        path=path,
        size_bytes=size_bytes,
        chunks=chunks,
        digest=file_digest(chunks),
        sha256=Digest.of(seed) if count > 1 else (*chunks, Digest.of(b""))[0],
    )


def some_manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "model": ModelName.parse("team/digits"),
        "version": Version.parse("1.1.0"),
        "variant": "fp32",
        "parent": Version.parse("1.0.0"),
        "files": (entry_of("golden.safetensors", 0), entry_of("model.onnx", CHUNK_BYTES + 1)),
        "format": "onnx",
        "entry": "model.onnx",
        "requires": Requirements(engine="onnxruntime", memory_bytes=4096, opsets={"": 20}),
        "signature": Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 64)),)),
        "golden": Golden(
            path="golden.safetensors",
            origin="seeded",
            tolerances={"y": Tolerance(atol="0.001", rtol="1e-3")},
        ),
        "serve": "inference",
        "labels": {"stage": "beta"},
    }
    return Manifest(**{**values, **changes})


def some_assignment(**changes: Any) -> Assignment:
    values: dict[str, Any] = {
        "device": "cam-17",
        "counter": 4,
        "models": (assigned("team/digits"), assigned("team/speech")),
        "expires_s": None,
    }
    return Assignment(**{**values, **changes})


def assigned(name: str, **changes: Any) -> AssignedModel:
    values: dict[str, Any] = {
        "model": ModelName.parse(name),
        "version": Version.parse("1.0.0"),
        "variant": "fp32",
        "artifact": Digest.of(name.encode()),
        "floor": None,
        "rollout": "r1",
        "attempt": 1,
    }
    return AssignedModel(**{**values, **changes})


def grouped(*names: str) -> tuple[ModelName, ...]:
    return tuple(map(ModelName.parse, names))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    paths = draw(st.lists(SEGMENTS, min_size=1, max_size=4, unique=True))
    sizes = st.integers(0, 3 * CHUNK_BYTES)
    files = tuple(
        entry_of(path, draw(sizes), draw(st.binary(max_size=4))) for path in sorted(paths)
    )
    tensors = st.lists(
        st.builds(
            TensorSpec,
            name=WORDS,
            dtype=st.sampled_from(["float32", "int64", "string", "bfloat16"]),
            shape=st.lists(st.integers(-1, 2**53 - 1), max_size=4).map(tuple),
        ),
        max_size=3,
    ).map(tuple)
    tolerances = st.dictionaries(
        WORDS, st.builds(Tolerance, atol=st.just("0.5"), rtol=st.just("1e-5")), max_size=2
    )
    return some_manifest(
        model=draw(MODELS),
        version=draw(VERSIONS),
        variant=draw(SEGMENTS),
        parent=draw(st.none() | VERSIONS),
        files=files,
        entry=draw(st.sampled_from(paths)),
        requires=Requirements(
            engine=draw(st.none() | SEGMENTS),
            memory_bytes=draw(st.integers(0, 2**53 - 1)),
            ir_version=draw(st.none() | st.integers(0, 20)),
            opsets=draw(st.dictionaries(WORDS, st.integers(1, 30), max_size=2)),
        ),
        signature=Signature(inputs=draw(tensors), outputs=draw(tensors)),
        golden=draw(
            st.none()
            | st.builds(
                Golden,
                path=st.sampled_from(paths),
                origin=st.sampled_from(["given", "seeded"]),
                tolerances=tolerances,
            )
        ),
        serve=draw(st.sampled_from(["inference", "none"])),
        labels=draw(st.dictionaries(SEGMENTS, st.text(max_size=5, alphabet='aé"\\\n\u2028'))),
    )


@given(manifests())
def test_manifests_read_back(manifest: Manifest) -> None:
    """Encoding and decoding gives the same value, and encoding that the same bytes."""
    data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest
    assert encode_manifest(decode_manifest(data)) == data


@given(manifests())
def test_bytes_are_canonical(manifest: Manifest) -> None:
    """The bytes are UTF-8, sorted, without white space, without floats, every field present."""
    data = encode_manifest(manifest)

    def no_float(text: str) -> None:
        raise AssertionError(f"a float: {text}")

    document = json.loads(data, parse_float=no_float)
    again = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert again.encode() == data
    assert set(document) == {field.name for field in dataclasses.fields(Manifest)}


@given(st.data())
def test_another_spelling_of_a_manifest_is_refused(data: st.DataObject) -> None:
    """No byte can be added or changed so that it still reads as the same value."""
    original = encode_manifest(some_manifest())
    at = data.draw(st.integers(0, len(original)))
    extra = data.draw(st.sampled_from([b" ", b"\n", b"\t", b"0", b'"', b"\\u0061"]))
    changed = original[:at] + extra + original[at:]
    try:
        value = decode_manifest(changed)
    except FormatError:
        return
    assert value != some_manifest()
    assert encode_manifest(value) == changed


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_format_error(data: bytes) -> None:
    """Whatever bytes come, reading ends with a value or a FormatError."""
    for decode in (decode_manifest, decode_assignment):
        with pytest.raises(FormatError):
            decode(data)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_manifests_are_a_format_error_or_another_value(at: int, byte: int) -> None:
    """One changed byte is never a crash, and never the same manifest."""
    data = bytearray(encode_manifest(some_manifest()))
    at %= len(data)
    if data[at] == byte:
        return
    data[at] = byte
    try:
        value = decode_manifest(bytes(data))
    except FormatError:
        return
    assert value != some_manifest()


def respelled(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(encode_manifest(some_manifest()))
    change(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(extra=1), "canonical"),
        (lambda d: d.pop("golden"), "golden"),
        (lambda d: d.update(schema=1.0), "cannot be read|canonical"),
        (lambda d: d.update(schema="1"), "schema"),
        (lambda d: d.update(model=3), "expected a string"),
        (lambda d: d.update(model="digits"), "namespace"),
        (lambda d: d["files"][0].update(digest="00"), "digest"),
        (lambda d: d["files"][0].update(size_bytes=-1), "out of range"),
        (lambda d: d.update(serve="somewhere"), "serve"),
        (lambda d: d["requires"].update(memory_bytes=0.5), "memory_bytes"),
        (lambda d: d["labels"].update(Stage="x"), "label"),
    ],
)
def test_documents_that_are_no_manifest(change: Callable[[Any], object], says: str) -> None:
    """A wrong type, a missing or unknown field: refused, and the field is named."""
    with pytest.raises(FormatError, match=says):
        decode_manifest(respelled(change))


def test_duplicate_keys_are_refused() -> None:
    """A document that says two things for one key has no single meaning and is refused."""
    data = encode_manifest(some_manifest())
    doubled = data.replace(b'"variant":"fp32"', b'"variant":"int8","variant":"fp32"')
    assert doubled != data
    with pytest.raises(FormatError, match="canonical"):
        decode_manifest(doubled)


def test_deep_nesting_is_refused() -> None:
    """Nesting without end is a FormatError, not a crash of the interpreter."""
    with pytest.raises(FormatError):
        decode_manifest(b'{"labels":' + b"[" * 200_000)


FIRST, SECOND = some_manifest().files
NONE = Digest.of(b"none")
AGAIN = dataclasses.replace(SECOND, path="other")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "schema 2 is unknown"),
        ({"variant": "FP32"}, "variant"),
        ({"format": "O NNX"}, "format"),
        ({"files": ()}, "at least one file"),
        ({"files": (SECOND, FIRST)}, "sorted"),
        ({"files": (FIRST, entry_of("../model.onnx"))}, "plain relative path"),
        ({"files": (entry_of("Model.onnx"), SECOND)}, "fall together"),
        ({"files": (dataclasses.replace(FIRST, size_bytes=1), SECOND)}, "chunks"),
        ({"files": (FIRST, dataclasses.replace(SECOND, digest=FIRST.digest))}, "its chunks"),
        ({"files": (FIRST, dataclasses.replace(SECOND, chunks=()))}, "chunks"),
        ({"files": (dataclasses.replace(FIRST, sha256=NONE), SECOND)}, "its chunk"),
        ({"files": (FIRST, SECOND, dataclasses.replace(AGAIN, sha256=NONE))}, "differ"),
        ({"files": (FIRST, SECOND, dataclasses.replace(AGAIN, size_bytes=2 * CHUNK_BYTES))}, "differ"),
        ({"entry": "other.onnx"}, "is not a file"),
        ({"requires": Requirements(memory_bytes=-1)}, "memory_bytes"),
        ({"requires": Requirements(memory_bytes=2**53)}, "memory_bytes"),
        ({"signature": Signature(inputs=(TensorSpec(name="", dtype="x", shape=()),))}, "name"),
        ({"signature": Signature(outputs=(TensorSpec(name="y", dtype="x", shape=(-2,)),))}, "shape"),
        ({"signature": Signature(inputs=(TensorSpec(name="x", dtype="x", shape=(1,) * 65),))}, "dim"),
        ({"golden": Golden(path="none", origin="given", tolerances={})}, "not among the files"),
        ({"golden": Golden(path="/none", origin="given", tolerances={})}, "plain relative path"),
        ({"labels": {"a b": "x"}}, "label"),
        ({"labels": {"stage": "x" * 1025}}, "longer"),
        ({"labels": {"stage": "\ud800"}}, "JSON"),
    ],
)  # fmt: skip
def test_rules_of_a_manifest(changes: dict[str, Any], says: str) -> None:
    """A manifest that breaks a rule is not written, and the rule is told."""
    with pytest.raises(FormatError, match=says):
        encode_manifest(some_manifest(**changes))


@pytest.mark.parametrize(
    "text", ["", "-1", "1.", ".5", "nan", "inf", "1e", "0x1", "1 ", "٣", "1e+5"]
)
def test_tolerances_are_decimals(text: str) -> None:
    """A tolerance is an unsigned decimal string, nothing else that ``float`` would read."""
    golden = Golden(
        path="model.onnx", origin="given", tolerances={"y": Tolerance(atol="0", rtol=text)}
    )
    with pytest.raises(FormatError, match="not a decimal"):
        encode_manifest(some_manifest(golden=golden))


def test_size_and_lookup() -> None:
    """A manifest knows the bytes of its artifact and finds its files by path."""
    manifest = some_manifest()
    assert manifest.size_bytes == CHUNK_BYTES + 1
    assert manifest.file("model.onnx") is manifest.files[1]
    assert manifest.file("none") is None


@given(st.lists(MODELS, max_size=4, unique=True), st.integers(0, 2**53 - 1), st.data())
def test_assignments_read_back(names: list[ModelName], counter: int, data: st.DataObject) -> None:
    """Encoding and decoding gives the same assignment."""
    models = tuple(
        assigned(str(name), floor=data.draw(st.none() | VERSIONS), attempt=data.draw(st.integers(0, 9)))
        for name in sorted(names)
    )  # fmt: skip
    expires = data.draw(st.none() | st.integers(0, 2**40))
    groups = (tuple(one.model for one in models),) if len(models) > 1 else ()
    value = some_assignment(models=models, counter=counter, expires_s=expires, groups=groups)
    assert decode_assignment(encode_assignment(value)) == value


def test_an_assignment_may_name_no_model() -> None:
    """The empty assignment is a value: it unloads everything."""
    value = some_assignment(models=())
    assert decode_assignment(encode_assignment(value)) == value


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 0}, "schema"),
        ({"device": "Cam"}, "device"),
        ({"counter": -1}, "counter"),
        ({"counter": 2**53}, "counter"),
        ({"expires_s": -1}, "expires_s"),
        ({"models": (assigned("b/b"), assigned("a/a"))}, "sorted"),
        ({"models": (assigned("a/a"), assigned("a/a"))}, "only once"),
        ({"models": (assigned("a/a", variant="A"),)}, "variant"),
        ({"models": (assigned("a/a", attempt=-1),)}, "attempt"),
        ({"models": (assigned("a/a", downgrade_from=Version.parse("1.0.0")),)}, "goes down"),
        ({"groups": (grouped("team/digits", "team/other"),)}, "is assigned"),
        ({"groups": (grouped("team/digits"),)}, "two models at least"),
        ({"groups": (grouped("team/speech", "team/digits"),)}, "sorted"),
        ({"groups": (grouped("team/digits", "team/speech"),) * 2}, "no other group"),
    ],
)
def test_rules_of_an_assignment(changes: dict[str, Any], says: str) -> None:
    """An assignment that breaks a rule is neither written nor read."""
    with pytest.raises(FormatError, match=says):
        encode_assignment(some_assignment(**changes))


def test_too_large_a_document_is_not_parsed() -> None:
    """A document over its limit is refused by its size alone."""
    with pytest.raises(FormatError, match="at most"):
        decode_assignment(b" " * (ASSIGNMENT_BYTES_MAX + 1))


def test_values_of_a_foreign_type_are_a_defect() -> None:
    """What JSON cannot carry is a programming error, not written as something else."""
    with pytest.raises(NotImplementedError):
        encode_manifest(some_manifest(requires=dataclasses.replace(
            Requirements(), engine=object())))  # type: ignore[arg-type]  # fmt: skip
