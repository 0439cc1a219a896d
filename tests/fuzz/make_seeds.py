"""Writes the seeds: ``python -m tests.fuzz.make_seeds``. Adds to what is there, overwrites its own
seeds, and leaves findings that were copied beside them.

Run it when the format changes, in an environment with the tests' packages.
"""

from __future__ import annotations

import io
import json
import pickle
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from device_agent.statistics_page import Outcome, TraceWriter, layout
from edge_sdk import fastlane
from edge_sdk.base import Digest, ModelName, Version
from edge_sdk.client.wire_tensors import encode_texts
from edge_sdk.delta import coder
from edge_sdk.delta.coder import tables
from edge_sdk.delta.coder.leaning import as_written, standing_in
from edge_sdk.delta.coder.rans import LANES
from edge_sdk.delta.container import CHECK_BYTES, PREAMBLE_BYTES
from edge_sdk.delta.low_rank import LowRank, put_low_rank
from edge_sdk.delta.methods.patch import Operation as PatchOperation
from edge_sdk.delta.methods.patch import put_operations
from edge_sdk.delta.numeric import KINDS
from edge_sdk.delta.prediction import Prediction, SourceRange, put_prediction
from edge_sdk.delta.records import KIND_END
from edge_sdk.delta.text_map import TextMap
from edge_sdk.delta.value_maps import NUMBER_KINDS, NumberList, Operation, ValueMap
from edge_sdk.delta.varint import Cursor, put_signed, varints
from edge_sdk.manifest import (
    AssignedModel,
    Assignment,
    Golden,
    Signature,
    TensorSpec,
    Tolerance,
    encode_assignment,
    encode_manifest,
)
from tests.fuzz import page_targets
from tests.fuzz.delta_targets import PREDICTED, source_elements
from tests.fuzz.examples import EXAMPLES, SEEDS
from tests.fuzz.file_targets import BESIDE
from tests.fuzz.part_targets import PATCHED_AT
from tests.support import (
    evidence,
    evidence_record,
    ggml_files,
    onnx_models,
    tflite_models,
    torch_files,
)
from tests.support.artifacts import make_artifact
from tests.support.code_tables import fitting, one_table
from tests.support.deltas import encoded, prefix_of, record_spans, safetensors, tuned, weights
from tests.support.every_delta import every_delta
from tests.support.used_page import used_words

Files = dict[str, bytes]
_COUNT = 600
# Small deltas with what the encoder needs a larger model for.
_BY_HAND = ("patch-repeats", "low-rank", "text", "quantise", "float16-3-3")


def text(lines: int, skip: int = 0) -> bytes:
    return "".join(f"label {i} {i * i * 7919}\n" for i in range(lines) if i != skip).encode()


def mixed() -> tuple[Files, Files]:
    """Copies, a patch, an empty file and a renamed one."""
    old = {
        "kept.bin": bytes(range(256)) * 2,
        "labels.txt": text(40),
        "model.safetensors": safetensors({"w": ("float16", weights("float16", 300, 1))}),
    }
    new = {
        "added.bin": weights("int64", 20, 5).tobytes()[::-1],
        "deep/kept.bin": old["kept.bin"],
        "empty": b"",
        "labels.txt": text(40, skip=20),
        "model.safetensors": safetensors({"w": ("float16", tuned(weights("float16", 300, 1), 2))}),
    }
    return old, new


def fine_tune(kind: str) -> tuple[Files, Files]:
    """One tensor in which every third number moved a little."""
    before = weights(kind, 4 * _COUNT, 1)
    after = before.copy()
    after[::3] = tuned(before, 2)[::3]
    return tuple({"m": safetensors({"w": (kind, one)})} for one in (before, after))  # type: ignore[return-value]


def derived() -> tuple[Files, Files]:
    """A tensor cast, one transposed, one quantised."""
    grid = weights("float32", 8 * _COUNT, 3)[4 * _COUNT :].reshape(60, 40)
    numbers = grid.view("<f4")
    whole = np.clip(np.rint(numbers / np.float32(0.002)), -128, 127).astype("<i1").view("u1")
    old = safetensors({"a": ("float32", grid), "b": ("float32", grid[::-1].copy())})
    new = safetensors(
        {
            "a": ("float16", numbers.astype("<f2").view("<u2")),
            "b": ("float32", np.ascontiguousarray(grid[::-1].T)),
            "q": ("int8", whole),
        }
    )
    return {"m": old}, {"m": new}


def alone() -> tuple[Files, Files]:
    """Nothing to come from."""
    return {}, {
        "m": safetensors({"w": ("float32", weights("float32", 5 * _COUNT, 9))}),
        "t": text(10) * 2,
    }


def delta_seeds() -> None:
    makers = [mixed(), fine_tune("bfloat16"), fine_tune("float32"), fine_tune("int8")]
    for number, (old, new) in enumerate([*makers, derived(), alone()]):
        source, target = _put_example(number, old, new)
        _put_delta(number, encoded(source if old else None, target))
    made = {one.name: one for one in every_delta()}
    for number, name in enumerate(_BY_HAND, len(makers) + 2):
        one = made[name]
        _put_example(number, {"s": one.source}, {"t": one.target})
        _put_delta(number, one.delta, over=0b001101)


def _put_example(number: int, old: Files, new: Files) -> list[Path]:
    """Source and target in folders."""
    roots = [EXAMPLES / str(number) / side for side in ("source", "target")]
    for root, files in zip(roots, (old, new), strict=True):
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
    return roots


def _put_delta(number: int, delta: bytes, *, over: int = 0b001011) -> None:
    """Seeds of every target that takes one, or a part of one; ``over`` replaces what is there."""
    _put("decoder", f"{number}-fed", bytes((number, 1, 0)) + delta)
    _put("decoder", f"{number}-pieces", bytes((number, 0x7F, 1)) + delta)
    _put("apply", f"{number}-new", bytes((number, 0)) + delta)
    _put("apply", f"{number}-over", bytes((number, over)) + delta)
    _put("container", str(number), _unframed_prefix(prefix_of(delta)))
    bodies = [(kind, _body(delta[start:end])) for kind, start, end in record_spans(delta)]
    framed = (
        bytes((kind,)) + len(body).to_bytes(2, "little") + body
        for kind, body in bodies
        if kind != KIND_END
    )
    _put("records", str(number), bytes((number,)) + b"".join(framed))
    for place, (kind, body) in enumerate(bodies):
        if kind == 128 and body[0] >= 64:
            _put("code_table", f"{number}-{place}", body[1:])


def _unframed_prefix(prefix: bytes) -> bytes:
    header_bytes = int.from_bytes(prefix[10:14], "little")
    return header_bytes.to_bytes(2, "little") + prefix[PREAMBLE_BYTES:-CHECK_BYTES]


def _body(record: bytes) -> bytes:
    cursor = Cursor(record[1:-CHECK_BYTES], "a record")
    return bytes(cursor.take(cursor.varint()))


def code_seeds() -> None:
    """Each kind by each model, and levels."""
    for kind in KINDS:
        models = range(4) if kind.is_float else (tables.DIFFERENCE, tables.ALONE)
        for model in (*models, tables.LEANING):
            for levels in (1, 2):
                _code_seed(_leveled(one_table(kind, model, (0,), (4096,)), levels))


def _leveled(shape: tables.CodeTable, levels: int) -> tables.CodeTable:
    if levels == 1:
        return shape
    every = tables.Table(shift=0, symbols=(0, 1), frequencies=(2048, 2048))
    return replace(
        shape,
        levels=levels,
        cells=(0, 1),
        tables=shape.tables * 2,
        level_tables=(every, every),
    )


def _code_seed(shape: tables.CodeTable) -> None:
    name = f"{shape.kind.name}-{shape.model}-{shape.levels}"
    count, seed = _COUNT, 2
    if shape.model == tables.LEANING:
        shape = standing_in(shape)
    source = source_elements(shape.kind.bits, count, seed)
    moves = np.arange(count) * 7919 % 23 * (np.arange(count) % 3)
    target = source + moves.astype(shape.kind.bits)
    levels = np.arange(3, dtype=np.uint8) % 2 if shape.levels > 1 else None
    given = None if shape.model == tables.ALONE else source
    table = fitting(shape, given, target, levels)
    if table is None:
        return
    number = len(name) % len(LANES)
    stream = coder.encode(table, given, target, levels, tuple(LANES.values())[number])
    assert stream is not None
    packed = tables.pack(as_written(table))
    _put("code_table", name, packed)
    head = len(packed).to_bytes(2, "little") + count.to_bytes(2, "little")
    _put("codes", name, head + bytes((number, seed)) + packed + stream)


def kernel_seeds() -> None:
    """What ``csrc/fuzz_decode.c`` takes: round trips of each kind and model with damage behind
    them, tables and factors from numbers that are drawn."""
    damage = bytes(value * 37 % 256 for value in range(64))
    for kind in KINDS:
        for model in range(3) if kind.is_float else (tables.DIFFERENCE, tables.ALONE):
            for levels in (1, 3):
                shape = bytes((1, kind.number, model, levels - 1, 1, kind.number % 4, 3, 100))
                raw_bits = bytes((1, 0)) if model == tables.DIFFERENCE else b""
                elements = bytes((60, levels, 9 * levels))
                _put(
                    "kernel", f"{kind.name}-{model}-{levels}", shape + raw_bits + elements + damage
                )
    for name, way in {"table": 2, "factors": 6}.items():
        for seed in range(4):
            drawn = np.random.default_rng(seed).bytes(80)
            _put("kernel", f"{name}-{seed}", bytes((way,)) + drawn)


def prediction_seeds() -> None:
    """Plain and strided ranges, and each map."""
    plain = SourceRange(file=0, offset=8, length=1200)
    strided = SourceRange(file=1, offset=8, length=4, dimensions=((3, 200), (5, 40), (4, 8)))
    turned = SourceRange(file=0, offset=2000, length=8, dimensions=((6, -8), (20, 64)))
    held = SourceRange(file=0, offset=len(PREDICTED) - 64, length=4, dimensions=((3, 8),))
    listed = NumberList(
        kind=NUMBER_KINDS["float32"], content=np.array([0.5, -2, 3e38], "<f4").tobytes()
    )
    there = NumberList(kind=NUMBER_KINDS["float32"], content=held)
    points = NumberList(kind=NUMBER_KINDS["int8"], content=bytes([1, 128, 255]))
    shape = {"inner": 4, "channels": 3}
    kinds = NUMBER_KINDS
    maps = {
        "cast": ValueMap(
            operation=Operation.CAST, source=kinds["float32"], target=kinds["bfloat16"]
        ),
        "scale": ValueMap(
            operation=Operation.SCALE,
            source=kinds["float16"],
            target=kinds["float32"],
            factors=there,
            **shape,
        ),
        "quantise": ValueMap(
            operation=Operation.QUANTISE,
            source=kinds["float32"],
            target=kinds["uint8"],
            factors=listed,
            zeros=points,
            **shape,
        ),
        "dequantise": ValueMap(
            operation=Operation.DEQUANTISE,
            source=kinds["int8"],
            target=kinds["float64"],
            factors=listed,
            zeros=points,
            **shape,
        ),
    }
    low_rank = LowRank(
        source=kinds["float16"],
        target=kinds["float32"],
        rows=20,
        columns=30,
        gain=np.float32(0.875),
        step=np.float32(0.125),
        shifts=(0, 1),
        left=bytes(range(40)),
        right=bytes(range(236, 256)) * 3,
    )
    added = put_prediction(Prediction(ranges=(plain,), values=low_rank))
    _put("prediction", "low_rank-plain", added)
    whole = replace(low_rank, source=kinds["int8"], target=kinds["int8"], rows=1, left=b"\x01\xff")
    for name, one in {"floats": low_rank, "integers": whole}.items():
        _put("low_rank", name, put_low_rank(one))
    texts = Prediction(ranges=(plain, strided), values=TextMap())
    _put("prediction", "text", put_prediction(texts))
    for name, values in {"identity": None, **maps}.items():
        for shown, ranges in {"plain": (plain,), "strided": (strided, turned, plain)}.items():
            _put(
                "prediction",
                f"{name}-{shown}",
                put_prediction(Prediction(ranges=ranges, values=values)),
            )


def patch_seeds() -> None:
    """Windows and operations as they stand in a record, without its frame."""
    operations = (
        PatchOperation(literal=3, changed=6, copied=49, address=5),
        PatchOperation(copied=200, address=len(PREDICTED) + 10),
        PatchOperation(literal=2),
    )
    packed = put_operations(operations, PATCHED_AT)
    windows = bytearray(varints(2))
    for step, length in ((-PATCHED_AT, 40), (9, 5)):
        put_signed(windows, step)
        windows += varints(length)
    new = b"newxy" + bytes([0, 0, 1, 255, 0, 7])
    for name, head in {"windows": bytes(windows), "plain": varints(0)}.items():
        numbers = (len(head), len(packed), 260)
        framed = b"".join(number.to_bytes(2, "little") for number in numbers)
        _put("patch", name, framed + head + packed + new)


def text_seeds() -> None:
    """Characters of one byte and of two, and what is neither."""
    every = bytes(range(256))
    _put("text", "every", every.decode("latin-1").encode())
    _put("text", "none", every + bytes((195, 194, 128, 195, 65, 194)))


def model_seeds() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        onnx_models.save(onnx_models.linear(0.5), path)
        _put("onnx", "linear", path.read_bytes())
        onnx_models.save(onnx_models.mlp((8, 4, 2)), path)
        _put("onnx", "mlp", path.read_bytes())
        onnx_models.save(onnx_models.sequence(), path)
        _put("onnx", "sequence", path.read_bytes())
        onnx_models.save(onnx_models.mlp((8, 4, 2)), path, external=BESIDE)
        _put("onnx", "external", path.read_bytes())
    values = np.arange(4, dtype=np.float32)
    one = tflite_models.Weights(name="w", values=values)
    outside = tflite_models.Weights(name="v", values=values, external=(BESIDE, 64))
    _put("tflite", "plain", tflite_models.add_model([one]))
    _put("tflite", "external", tflite_models.add_model([one, outside]))
    _put("tflite", "appended", tflite_models.add_model([one], append=True))
    _put(
        "tflite",
        "two-graphs",
        tflite_models.add_model([one], shape=tflite_models.Shape(second_graph=[one])),
    )
    _put("tflite_bundle", "two", b"x" + 2 * tflite_models.add_model([one]))
    _put("tflite_bundle", "behind", 2 * tflite_models.add_model([one]))
    several = {
        "a": ("float32", weights("float32", 12, 1).reshape(3, 4)),
        "b": ("bfloat16", weights("bfloat16", 5, 1)),
        "c": ("int64", weights("int64", 0, 1)),
    }
    _put("safetensors", "several", safetensors(several))
    _put("safetensors", "none", safetensors({}))
    _put("opaque", "text", text(10))
    _put("opaque", "numbers", weights("float32", 100, 1).tobytes())
    _put("opaque", "empty", b"")


def torch_seeds() -> None:
    storage = torch_files.Storage("10", np.arange(24, dtype=np.float32))
    tensors = {
        "a": torch_files.tensor_of("0", np.arange(6, dtype=np.float16).reshape(2, 3)),
        "b": torch_files.Tensor(storage, (3, 4), strides=(1, 3)),
        "c": torch_files.Tensor(storage, (3, 2), first=12, strides=(4, 1)),
    }
    net = torch_files.Instance(
        torch_files.Named("net", "Net"),
        {"_parameters": {"w": torch_files.Parameter(tensors["a"])}, "_modules": {"b": [tensors]}},
    )
    for name, value in {"dict": tensors, "module": net}.items():
        _put("torch_zip", name, torch_files.torch_zip(value))
        _put("torch_legacy", name, torch_files.torch_legacy(value))
    _put("torch_zip", "script", torch_files.torch_script(net, (tensors["a"],)))


def ggml_seeds() -> None:
    numbers = [
        ggml_files.GgmlTensor("w", 0, (3, 2), bytes(24)),
        ggml_files.GgmlTensor("q", 8, (32, 2), bytes(68)),
    ]
    _put("gguf", "keys", ggml_files.gguf(numbers))
    _put("gguf", "plain", ggml_files.gguf(numbers, keys=(), version=2))
    _put("ggml", "two", ggml_files.ggml(numbers))


def npz_seeds() -> None:
    arrays = {"a": np.arange(12, dtype="<f4").reshape(3, 4), "b": np.array(["x", "yz"])}
    for name, save in {"stored": np.savez, "deflated": np.savez_compressed}.items():
        out = io.BytesIO()
        save(out, **arrays)
        _put("npz", name, out.getvalue())
        _put("npy", name, out.getvalue())
    for number, (name, array) in enumerate(arrays.items()):
        out = io.BytesIO()
        np.save(out, array)
        _put("npz_member", name, bytes((number,)) + out.getvalue())
        _put("npy", name, out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("note.txt"), "no array")
    _put("npz", "no-array", out.getvalue())
    for way, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        out = io.BytesIO()
        np.save(out, arrays["a"])
        member = out.getvalue()
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(zipfile.ZipInfo("a.npy"), member, way)
        _put("npz", name, out.getvalue())


def document_seeds() -> None:
    files = {"model.onnx": b"m" * 5, "sub/golden": b""}
    manifest = make_artifact(files, parent="0.9.0").manifest
    tensor = TensorSpec(name="x", dtype="float32", shape=(-1, 4))
    golden = Golden(
        path="sub/golden", origin="seeded", tolerances={"x": Tolerance(atol="1e-5", rtol="0.1")}
    )
    full = replace(
        manifest,
        signature=Signature(inputs=(tensor,), outputs=(tensor,)),
        golden=golden,
        labels={"k": "v"},
    )
    _put("manifest", "plain", encode_manifest(manifest))
    _put("manifest", "full", encode_manifest(full))
    model = AssignedModel(
        model=ModelName.parse("team/digits"),
        version=Version.parse("1.0.0-rc.1"),
        variant="fp32",
        artifact=Digest(bytes(32)),
        floor=Version.parse("0.1.0"),
        rollout="r",
        attempt=1,
    )
    both = (model, replace(model, model=ModelName.parse("team/other"), floor=None))
    for name, models in {"none": (), "two": both}.items():
        assigned = Assignment(device="d", counter=3, models=models, expires_s=1_800_000_000)
        _put("assignment", name, encode_assignment(assigned))


def gate_seeds() -> None:
    one = tflite_models.Weights(name="w", values=np.arange(4, dtype=np.float32))
    codes = tflite_models.Shape(codes=[tflite_models.Code("MyOp"), tflite_models.Code("Mfcc")])
    custom = tflite_models.add_model([one], shape=codes)
    _put("gate", "tflite", b"\2" + custom)
    _put("gate", "tflite-within", b"\0x" + 2 * custom)
    with tempfile.TemporaryDirectory() as folder:
        _put("gate", "ort", b"\3" + onnx_models.ort_model(Path(folder)))
    _put("gate", "onnx", b"\1" + onnx_models.linear(2.0).SerializeToString())
    called = {"a": [1, "x"], "b": Version.parse("1.0.0")}
    for protocol in (0, 2, 4):
        _put("gate", f"pickle-{protocol}", b"\0" + pickle.dumps(called, protocol))
    for path in sorted(evidence_record.BUNDLES.glob("*.json")):
        if path.stem != "one-file":
            _put("evidence", path.stem, path.read_bytes())
    built = evidence.provenance(evidence_record.FILES)
    _put("evidence", "bundle", evidence.bundle(built, evidence.key()))
    envelope = evidence.envelope(built, evidence.key(1), evidence.key())
    _put("evidence", "envelope", json.dumps(envelope).encode())


def lane_seeds() -> None:
    number = fastlane.Place(name="y", dtype="float32", shape=(1, 10), offset=64, size_bytes=40)
    text = fastlane.Place(name="t", dtype="string", shape=(2,), offset=0, size_bytes=11)
    bits = replace(number, name="b", dtype="bfloat16", shape=(20,))
    packets: dict[str, fastlane.Packet] = {
        "hello": fastlane.Hello(version=fastlane.VERSION, slot_bytes=1 << 16),
        "resize": fastlane.Resize(slot_bytes=1 << 20, request=1),
        "infer": fastlane.Infer(model="team/m", version="", inputs=(number,), request=2),
        "infer-all": fastlane.Infer(
            model="team/m",
            version="1.0.0",
            inputs=(number, text),
            outputs=("y", "t"),
            timeout_us=5,
            priority=3,
            sequence=7,
            sequence_start=True,
            request=3,
        ),
        "take": fastlane.Take(request=4),
        "slot": fastlane.SlotGiven(slot_bytes=1 << 16),
        "answer": fastlane.Answer(version="1.0.0", outputs=(number,), request=2),
        "failure": fastlane.Failure(reason="UsageError", status="S", message="m", facts={"k": "v"}),
        "elsewhere": fastlane.Elsewhere(message="busy"),
    }
    for name, packet in packets.items():
        _put("packet", name, fastlane.encode(packet))
    slot = encode_texts(["ab", "x"]).ljust(64, b"\0") + np.arange(10, dtype="<f4").tobytes()
    for name, outputs in {"number": (number,), "several": (number, text, bits), "none": ()}.items():
        answer = fastlane.Answer(version="1.0.0", outputs=outputs)
        _put_answer(name, answer, slot)
    for name in ("failure", "elsewhere"):
        _put_answer(name, packets[name], b"")
    _put_answer("new-slot", fastlane.Answer(version="", outputs=(), new_slot_bytes=1 << 17), b"")


def page_seeds() -> None:
    words = used_words()
    row = layout.row_begin(0)
    for at in (layout.STARTED_MS, layout.BEAT_MS, row + layout.LOADED_MS, row + layout.LAST_NS):
        words[at] = 1_800_000_000_000  # the same seed each time
    front = bytes(words.cast("B")[: page_targets.FRONT_BYTES])
    _put("statistics_page", "used", front.rstrip(b"\0"))
    writer = TraceWriter(words, every=1)
    for number in (0, 1, 0):
        writer.note(number, Outcome.RAN, (1, 2, 3, 4), 2)
    for number in (1, 2, 3):
        words[layout.trace_begin(number) + 6] = 1_800_000_000 * 10**9
    ring = bytes(words[layout.TRACES_BEGIN : layout.trace_begin(4)].cast("B"))
    _put("statistics_page", "traced", front + ring)


def _put_answer(name: str, packet: fastlane.Packet, slot: bytes) -> None:
    data = fastlane.encode(packet)
    _put("answer", name, len(data).to_bytes(2, "little") + data + slot)


def _put(target: str, name: str, data: bytes) -> None:
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


if __name__ == "__main__":
    delta_seeds()
    code_seeds()
    kernel_seeds()
    prediction_seeds()
    patch_seeds()
    text_seeds()
    model_seeds()
    torch_seeds()
    ggml_seeds()
    npz_seeds()
    document_seeds()
    gate_seeds()
    lane_seeds()
    page_seeds()
