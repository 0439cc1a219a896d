"""TFLite models, written by hand with the flatbuffers package, opened by LiteRT too."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import FormatError
from edge_sdk.formats import flatbuffer
from tests.support.tensor_maps import contents, opened
from tests.support.tflite_models import INT8, Shape, Weights, add_model

W = np.arange(4, dtype=np.float32).reshape(1, 4)
V = np.arange(7, dtype=np.int8)


@pytest.mark.parametrize("append", [False, True], ids=["inside", "behind"])
def test_tensors_are_found_in_their_buffers(tmp_path: Path, append: bool) -> None:
    """Inside the flatbuffer, or behind it as in files over 2 GiB."""
    found = opened(tmp_path, add_model([Weights("w", W), Weights("v", V, INT8)], append=append))
    assert (found.format, found.external_files) == ("tflite", ())
    assert contents(found) == {"w": W.tobytes(), "v": V.tobytes()}
    assert {one.name: (one.dtype, one.shape) for one in found.tensors} == {
        "w": ("float32", (1, 4)),
        "v": ("int8", (7,)),
    }


@pytest.mark.parametrize("append", [False, True], ids=["inside", "behind"])
def test_litert_takes_the_same_files(tmp_path: Path, append: bool) -> None:
    """The files of these tests are models to LiteRT too, with the weights that we find."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    found = opened(tmp_path, add_model([Weights("w", W)], append=append))
    model = interpreter.Interpreter(model_path=str(found.path))
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], np.ones((1, 4), np.float32))
    model.invoke()
    result = model.get_tensor(model.get_output_details()[0]["index"])
    assert result.tobytes() == (np.frombuffer(contents(found)["w"], np.float32) + 1).tobytes()
    assert found.facts is not None
    assert [one.name for one in found.facts.inputs] == [model.get_input_details()[0]["name"]]


def test_facts_are_those_of_the_first_subgraph(tmp_path: Path) -> None:
    """Inputs and outputs with their dynamic dimensions; no IR version, no operator sets."""
    facts = opened(tmp_path, add_model([Weights("w", W)], shape=Shape(signature=(-1, 4)))).facts
    assert facts is not None
    assert [(one.name, one.dtype, one.shape) for one in facts.inputs] == [("x", "float32", (-1, 4))]
    assert [(one.name, one.dtype, one.shape) for one in facts.outputs] == [
        ("y", "float32", (-1, 4))
    ]
    assert (facts.ir_version, facts.opsets) == (None, {})
    plain = opened(tmp_path, add_model([Weights("w", W)], shape=Shape(signature=(1, 2, 3)))).facts
    assert plain is not None
    assert plain.inputs[0].shape == (1, 4)


def test_tensors_of_further_subgraphs_are_qualified(tmp_path: Path) -> None:
    """Bodies of control flow repeat names: they are told apart by their subgraph."""
    shape = Shape(second_graph=[Weights("w", V, INT8)])
    found = opened(tmp_path, add_model([Weights("w", W)], shape=shape))
    assert contents(found) == {"w": W.tobytes(), "subgraph1/w": V.tobytes()}


def test_sparse_tensors_are_lists_of_their_values(tmp_path: Path) -> None:
    """What is stored is shorter than the shape says: the values that are not zero."""
    weights = Weights("w", V, INT8, shape=(100, 100), is_sparse=True)
    (one,) = opened(tmp_path, add_model([weights])).tensors
    assert (one.shape, one.length) == ((7,), 7)


def test_what_has_no_bytes_to_speak_of_has_no_range(tmp_path: Path) -> None:
    """Strings, resources, unknown types, and buffers that do not fit the shape."""
    weights = [
        Weights("string", V, 5),
        Weights("resource", V, 13),
        Weights("later", V, 99),
        Weights("short", V, INT8, shape=(8,)),
        Weights("packed", V[:2], 17, shape=(3,)),
    ]
    found = opened(tmp_path, add_model(weights))
    assert [(one.name, one.dtype, one.length) for one in found.tensors] == [("packed", "int4", 2)]


def test_external_buffers_are_found_beside_the_model(tmp_path: Path) -> None:
    """LiteRT keeps weights in files of their own; one that is not here is the application's."""
    (tmp_path / "weights").write_bytes(bytes(3) + W.tobytes())
    content = add_model(
        [Weights("w", W, external=("weights", 3)), Weights("v", V, INT8, external=("absent", 0))]
    )
    found = opened(tmp_path, content)
    assert contents(found) == {"w": W.tobytes()}
    assert found.external_files == ("weights",)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "link", "model.bin"])
def test_external_buffers_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """Parent, absolute, a link, or the model itself."""
    (tmp_path / "link").symlink_to(tmp_path / "model.bin")
    with pytest.raises(FormatError) as error:
        opened(tmp_path, add_model([Weights("w", W, external=(name, 0))]))
    assert error.value.facts["offset"] > 0


def test_an_external_range_beyond_its_file_is_refused(tmp_path: Path) -> None:
    """The file is there but too short."""
    (tmp_path / "weights").write_bytes(bytes(16))
    with pytest.raises(FormatError, match="bytes 1 to 17"):
        opened(tmp_path, add_model([Weights("w", W, external=("weights", 1))]))


def test_tensors_that_share_a_buffer_are_one_range(tmp_path: Path) -> None:
    """Converters point equal weights at one buffer."""
    content = bytearray(add_model([Weights("first", W), Weights("other", W)]))
    one = opened(tmp_path, bytes(content)).tensors[1]
    # The second tensor's buffer number: the only field of value 2 that makes both one.
    for position in range(0, len(content) - 4, 4):
        changed = content.copy()
        if changed[position : position + 4] != b"\2\0\0\0":
            continue
        changed[position : position + 4] = b"\1\0\0\0"
        try:
            found = opened(tmp_path, bytes(changed))
        except FormatError:
            continue
        if len(found.tensors) == 1 and found.format == "tflite":
            assert found.tensors[0].length == one.length
            return
    pytest.fail("no field made the tensors share a buffer")


@pytest.mark.parametrize("append", [False, True], ids=["inside", "behind"])
def lengths(tmp_path: Path, content: bytes) -> list[int] | None:
    """The lengths of all tensors; None where the model is refused."""
    try:
        return [one.length for one in opened(tmp_path, content).tensors]
    except FormatError as error:
        assert error.facts["offset"] <= len(content)
        return None


@pytest.mark.parametrize("append", [False, True], ids=["inside", "behind"])
def test_every_truncation_is_refused(tmp_path: Path, append: bool) -> None:
    """A cut anywhere behind the identifier is a FormatError inside of the file, or touches
    only padding that no table reaches."""
    content = add_model([Weights("w", W), Weights("v", V, INT8)], append=append)
    outcomes = [lengths(tmp_path, content[:length]) for length in range(8, len(content) + 1)]
    whole = outcomes[-1]
    assert whole is not None
    padding = [outcome for outcome in outcomes[:-1] if outcome is not None]
    assert len(padding) <= 8
    assert all(outcome == whole for outcome in padding)
    assert opened(tmp_path, content[:7]).format == "opaque"


def test_the_identifier_alone_makes_a_file_one(tmp_path: Path) -> None:
    """Whatever else its bytes are: a file of that name is a damaged model, never opaque."""
    with pytest.raises(FormatError):
        opened(tmp_path, b"....TFL3 and some text")
    assert opened(tmp_path, b".....TFL3").format == "opaque"


def test_inputs_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    """An input is a number of a tensor of its subgraph."""
    content = add_model([Weights("w", W)])
    inputs = struct.pack("<Ii", 1, 0)  # a vector of one: tensor 0
    positions = [at for at in range(0, len(content), 4) if content[at : at + 8] == inputs]
    refused = 0
    for at in positions:
        changed = content[: at + 4] + struct.pack("<i", 77) + content[at + 8 :]
        try:
            opened(tmp_path, changed)
        except FormatError as error:
            refused += "77 of 3" in error.message
    assert refused == 1


def test_a_buffer_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A tensor's buffer is one of the model's."""
    content = bytearray(add_model([Weights("w", W)]))
    refused = 0
    for at in range(0, len(content) - 4, 4):
        if content[at : at + 4] == b"\1\0\0\0":
            changed = content.copy()
            changed[at : at + 4] = b"\x63\0\0\0"
            try:
                opened(tmp_path, bytes(changed))
            except FormatError as error:
                refused += "buffer 99 of 2" in error.message
    assert refused == 1


def test_one_table_named_very_often_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Very many pointers to one subgraph cost a bounded time, then the file is refused."""
    content = bytearray(add_model([Weights("w", W)]))
    root = struct.unpack_from("<I", content, 0)[0]
    layout = root - struct.unpack_from("<i", content, root)[0]
    field = root + struct.unpack_from("<H", content, layout + 4 + 2 * 2)[0]
    count = 5000
    content += bytes(-len(content) % 4)
    start = len(content)
    struct.pack_into("<I", content, field, start - field)
    # Offsets point forward only, so the one empty table stands behind the vector.
    table = start + 4 + 4 * count
    content += struct.pack("<I", count)
    content += b"".join(struct.pack("<I", table - at) for at in range(start + 4, table, 4))
    content += struct.pack("<i", -4) + struct.pack("<HH", 4, 4)
    assert opened(tmp_path, bytes(content)).tensors == ()
    monkeypatch.setattr(flatbuffer, "VISITS_MAX", count)
    with pytest.raises(FormatError, match="more tables"):
        opened(tmp_path, bytes(content))
