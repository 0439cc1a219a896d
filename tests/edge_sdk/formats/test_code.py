"""What runs code when it is loaded is recognised, and models that do not are left alone."""

from __future__ import annotations

import collections
import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_sdk.formats.code import code_in
from tests.support.onnx_models import linear, ort_model
from tests.support.tflite_models import Code, Shape, Weights, add_model


class Call:
    """Pickles as a call of ``os.system``."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def found(tmp_path: Path, data: bytes, name: str) -> str:
    file = tmp_path / "blob"
    file.write_bytes(data)
    return "; ".join(code_in(file, name))


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as one:
        for name, data in members.items():
            one.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return stream.getvalue()


def torch_pickle(*names: str, protocol: int = 2) -> bytes:
    """The pickle of a tensor's rebuilding, and of whatever else is named."""
    opcodes = b"\x80" + bytes([protocol])
    for name in ("torch._utils _rebuild_tensor_v2", "collections OrderedDict", *names):
        module, _, attribute = name.partition(" ")
        opcodes += b"c" + module.encode() + b"\n" + attribute.encode() + b"\n0"
    return opcodes + b"N."


def graph(*domains: str, functions: bool = False) -> bytes:
    """An ONNX model with an operator of each domain."""
    nodes = [helper.make_node("Op", ["x"], [f"y{n}"], domain=one) for n, one in enumerate(domains)]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(one, 1) for one in domains)]
    own = []
    if functions:
        node = helper.make_node("Relu", ["a"], ["b"])
        own = [
            helper.make_function(one, "Op", ["a"], ["b"], [node], [helper.make_opsetid("", 17)])
            for one in domains
        ]
    return helper.make_model(
        helper.make_graph(nodes, "g", [value], []), opset_imports=opsets, functions=own
    ).SerializeToString()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["model.pkl", "model.bin", "weights"])
def test_a_pickle_that_calls_is_code(tmp_path: Path, protocol: int, name: str) -> None:
    """Whatever its protocol, and whatever it is called."""
    assert "pickle" in found(tmp_path, pickle.dumps(Call(), protocol), name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_breaks_off_has_called_before(tmp_path: Path, protocol: int) -> None:
    """Whoever unpickles it calls first and fails then: damage behind the call hides nothing."""
    whole = pickle.dumps(Call(), protocol)
    assert found(tmp_path, whole[:-1] + b"\xff", "model.bin")
    assert found(tmp_path, whole[:-1], "weights")
    assert found(tmp_path, b"(cos\nsystem\nS'true'\no\xff", "weights")
    assert found(tmp_path, b"(S'true'\nios\nsystem\n\xff", "weights")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_of_plain_values_is_a_pickle(tmp_path: Path, protocol: int) -> None:
    """Nothing but a pickle reads it, and the next version of it may call anything."""
    data = pickle.dumps({"classes": ["cat", "dog"], "mean": 0.5}, protocol)
    assert found(tmp_path, data, "classes.bin") == "a pickle"


def test_names_that_are_put_together_are_not_believed(tmp_path: Path) -> None:
    """A stack that shows a safe name and calls another: what is not certain is not safe."""
    text = lambda value: b"\x8c" + bytes([len(value)]) + value  # noqa: E731
    hidden = text(b"os") + text(b"system") + text(b"collections") + text(b"OrderedDict") + b"00"
    data = b"\x80\x04" + hidden + b"\x93" + text(b"true") + b"\x85R."
    assert list(pickletools.genops(data))[-1][0].name == "STOP"
    said = found(tmp_path, archive(m__data_dot_pkl=data), "model.pt")
    assert "a.name.made.while.it.is.read" in said


def test_a_memo_that_is_written_twice_is_read_as_python_does(tmp_path: Path) -> None:
    """The name that a memo holds in the end counts."""
    text = lambda value: b"\x8c" + bytes([len(value)]) + value  # noqa: E731
    data = (
        b"\x80\x04" + text(b"collections") + b"q\x000" + text(b"os") + b"q\x000"
        + b"h\x00" + text(b"system") + b"\x93" + text(b"true") + b"\x85R."
    )  # fmt: skip
    assert "os.system" in found(tmp_path, archive(m__data_dot_pkl=data), "model.pt")


def test_weights_of_pytorch_are_no_code(tmp_path: Path) -> None:
    """The pickle of tensors alone, in an archive or in the legacy form."""
    assert (
        found(tmp_path, archive(m__data_dot_pkl=torch_pickle(), m__data__0=b"1234"), "m.pt") == ""
    )
    ordered = pickle.dumps(collections.OrderedDict(a=1), 4)
    assert found(tmp_path, archive(m__data_dot_pkl=ordered), "m.pt") == ""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    legacy = magic + pickle.dumps(1001, 2) + pickle.dumps({"little": True}, 2)
    assert found(tmp_path, legacy + torch_pickle() + pickle.dumps(["0"], 2), "m.pt") == ""


@pytest.mark.parametrize(
    "bad", ["os system", "builtins eval", "torch.hub load", "torch.storage _load_from_bytes"]
)
def test_weights_that_call_something_else_are_code(tmp_path: Path, bad: str) -> None:
    """One unsafe name is enough, in the archive or in any pickle of the legacy form."""
    said = bad.replace(" ", ".")
    assert said in found(tmp_path, archive(m__data_dot_pkl=torch_pickle(bad)), "m.pt")
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    assert said in found(tmp_path, magic + pickle.dumps(1001, 2) + torch_pickle(bad), "m.pt")


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"m__code__model_dot_py": b"def forward(): ..."}, "TorchScript"),
        ({"libop_dot_so": b"\x7fELF"}, "code by its name"),
        ({"a_dot_npy": b""}, ""),
        ({"config_dot_json": b'{"class_name": "Lambda"}'}, "Lambda"),
        ({"m__data_dot_pkl": b"no pickle"}, "cannot be looked into"),
        ({"readme": b"text"}, ""),
    ],
)
def test_what_archives_hold(tmp_path: Path, members: dict[str, bytes], what: str) -> None:
    """Programs, libraries, Keras' Lambda layers, and pickles that cannot be read."""
    said = found(tmp_path, archive(**members), "model.zip")
    assert what in said
    assert bool(said) == bool(what)


def test_an_archive_behind_something_else_is_found(tmp_path: Path) -> None:
    """Readers find a ZIP by its end, so what stands before it hides nothing."""
    data = b"harmless" + archive(m__data_dot_pkl=torch_pickle("os system"))
    assert "os.system" in found(tmp_path, data, "model.bin")


def test_a_damaged_archive_is_not_trusted(tmp_path: Path) -> None:
    """What cannot be looked into may be read by somebody else."""
    data = archive(m__data_dot_pkl=torch_pickle())[:-30]
    assert "cannot be looked into" in found(tmp_path, data, "model.pt")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x7fELF\x02\x01", "libops"),
        (b"MZ\x90\x00", "ops"),
        (b"\xcf\xfa\xed\xfe", "ops"),
        (b"\x00asm\x01\x00", "ops"),
        (b"#!/bin/sh\n", "install"),
        (b"import os", "setup.py"),
        (b"", "custom.so"),
    ],
)
def test_programs_and_scripts_are_code(tmp_path: Path, data: bytes, name: str) -> None:
    """By their beginning, or by their name."""
    assert found(tmp_path, data, name)


def test_arrays_of_objects_are_pickles(tmp_path: Path) -> None:
    """NumPy files of numbers are no code, alone or in an archive; of objects they are."""
    for array, is_code in ((np.ones(3), False), (np.array([{}], dtype=object), True)):
        plain, packed = io.BytesIO(), io.BytesIO()
        np.save(plain, array, allow_pickle=True)
        np.savez(packed, x=array)
        assert ("objects" in found(tmp_path, plain.getvalue(), "x.npy")) is is_code
        assert ("objects" in found(tmp_path, packed.getvalue(), "x.npz")) is is_code


def test_operators_of_a_foreign_library_are_code(tmp_path: Path) -> None:
    """A domain that the runtime does not know needs a library of the author's."""
    assert "acme.ops" in found(tmp_path, graph("acme.ops"), "model.onnx")
    assert "acme.ops" in found(tmp_path, graph("acme.ops"), "model")
    assert found(tmp_path, graph("com.microsoft", "ai.onnx.ml"), "model.onnx") == ""
    assert found(tmp_path, graph("acme.ops", functions=True), "model.onnx") == ""


def test_a_function_that_uses_a_foreign_library_is_code(tmp_path: Path) -> None:
    """Also where only a function of the model's own imports the domain. An import of which
    nothing is used, as PyTorch's exporter leaves them behind, needs no library."""
    model = onnx.load_from_string(graph("own.functions", functions=True))
    model.functions[0].opset_import.append(helper.make_opsetid("acme.ops", 1))
    assert found(tmp_path, model.SerializeToString(), "model.onnx") == ""
    model.functions[0].node.append(helper.make_node("Op", ["a"], ["c"], domain="acme.ops"))
    assert "acme.ops" in found(tmp_path, model.SerializeToString(), "model.onnx")


def test_a_function_of_the_model_hides_no_other_operator(tmp_path: Path) -> None:
    """A domain is the model's own only as far as it defines the operators that it uses."""
    model = onnx.load_from_string(graph("acme.ops", functions=True))
    assert found(tmp_path, model.SerializeToString(), "model.onnx") == ""
    model.graph.node.append(helper.make_node("Other", ["x"], ["z"], domain="acme.ops"))
    assert "acme.ops" in found(tmp_path, model.SerializeToString(), "model.onnx")


def branches(operator: str, *, deep: bool = True) -> onnx.ModelProto:
    """An operator of ``com.microsoft`` in a branch of a branch, or in a function."""
    node = helper.make_node(operator, ["x"], ["y"], domain="com.microsoft")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    functions = []
    if not deep:
        functions = [helper.make_function("own", "F", ["x"], ["y"], [node], opsets)]
    for name in ("inner", "outer") if deep else ():
        branch = helper.make_graph([node], name, [], [])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    main = helper.make_graph([node] if deep else [], "g", [], [])
    return helper.make_model(main, opset_imports=opsets, functions=functions)


@pytest.mark.parametrize("deep", [True, False])
def test_parts_that_are_compiled_are_code(tmp_path: Path, *, deep: bool) -> None:
    """ONNX Runtime gives them to a driver, wherever they stand; what only has the name in its
    text is none."""
    compiled = branches("EPContext", deep=deep).SerializeToString()
    for name in ("model.onnx", "model"):
        assert "compiled for an accelerator" in found(tmp_path, compiled, name)
    plain = branches("Gelu", deep=deep)
    plain.doc_string = "EPContext"
    assert found(tmp_path, plain.SerializeToString(), "model.onnx") == ""


def test_nodes_that_cannot_be_read_are_not_trusted(tmp_path: Path) -> None:
    """Where the model around them can, whatever the file is called."""
    model = branches("Gelu")
    data = model.SerializeToString()
    at = data.index(b"Gelu") - 1  # the length of the text
    damaged = data[:at] + b"\x7f" + data[at + 1 :]
    assert "cannot be looked into" in found(tmp_path, damaged, "model")


def test_a_graph_that_cannot_be_read_is_not_trusted(tmp_path: Path) -> None:
    """A file that calls itself ONNX and cannot be walked is refused."""
    assert "cannot be looked into" in found(tmp_path, b"\x08\x07\x3a\xff", "model.onnx")


def with_codes(*codes: Code) -> bytes:
    return add_model([Weights("w", np.ones((1, 4), np.float32))], shape=Shape(codes=codes))


def test_custom_operators_of_tflite_are_code(tmp_path: Path) -> None:
    """By content, whatever the file is called; those that LiteRT has itself are none."""
    custom = with_codes(Code("MyOp"))
    assert "custom operator 'MyOp'" in found(tmp_path, custom, "model.tflite")
    assert "custom operator 'MyOp'" in found(tmp_path, custom, "model.bin")
    assert found(tmp_path, with_codes(Code("Mfcc"), Code("Mfcc")), "model.tflite") == ""


def test_models_within_a_bundle_are_looked_into(tmp_path: Path) -> None:
    """A model that is stored in a bundle of a task, or behind another, hides nothing."""
    plain, custom = with_codes(), with_codes(Code("MyOp"))
    for data, name in ((archive(a=plain, b=custom), "face.task"), (plain + custom, "m.tflite")):
        assert "MyOp" in found(tmp_path, data, name)
    assert found(tmp_path, plain + plain, "m.tflite") == ""
    assert found(tmp_path, plain + b"TFL3 and nothing", "m.tflite") == ""
    assert "more models" in found(tmp_path, plain + b"TFL3" * 1001, "m.tflite")


@pytest.mark.parametrize("name", ["model.tflite", "model.ort"])
def test_flatbuffers_that_cannot_be_read_are_not_trusted(tmp_path: Path, name: str) -> None:
    """Neither what has the name and other content, nor what is damaged."""
    for data in (b"", b"text", b"TFL3" * 100, b"\0\0\0\0ORTM" * 100, with_codes()[:100]):
        assert "cannot be looked into" in found(tmp_path, data, name)


def test_foreign_domains_of_ort_models_are_code(tmp_path: Path) -> None:
    """ONNX Runtime tells its own format by content, so that is what counts here."""
    model = ort_model(tmp_path)
    foreign = model.replace(b"com.microsoft", b"com.acme-tech")
    assert found(tmp_path, model, "model.ort") == ""
    for name in ("model.ort", "model.onnx", "model.bin"):
        assert "com.acme-tech" in found(tmp_path, foreign, name)


@pytest.mark.parametrize(
    ("data", "name", "what"),
    [
        (b"\x0a\x10EagerPyFunc", "saved_model.pb", "calls Python"),
        (b"\x0a\x10MatMul", "saved_model.pb", ""),
        (b"\x89HDF\r\n\x1a\n" + b'{"class_name": "Lambda"}', "model.h5", "Lambda"),
        (b"\x89HDF\r\n\x1a\n" + b'{"class_name": "Dense"}', "model.h5", ""),
    ],
)
def test_keras_and_tensorflow(tmp_path: Path, data: bytes, name: str, what: str) -> None:
    """Python functions in a SavedModel, and Lambda layers in an HDF5 file."""
    assert what in found(tmp_path, data, name)
    assert bool(found(tmp_path, data, name)) == bool(what)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: linear(2.0).SerializeToString(), "model.onnx"),
        (lambda: struct.pack("<Q", 2) + b"{}", "model.safetensors"),
        (lambda: b"cat\ndog\nhorse\n", "labels.txt"),
        (lambda: b'{"a": 1}', "config.json"),
        (lambda: b"1.0.0 fp32", "m.bin"),
        (lambda: b"", "empty"),
        (lambda: bytes(4096), "weights.bin"),
        (lambda: add_model([Weights("w", np.ones((1, 4), np.float32))]), "model.tflite"),
    ],
)
def test_models_that_run_no_code(tmp_path: Path, make: Callable[[], bytes], name: str) -> None:
    """Graphs of known operators, plain weights, and the texts beside them pass."""
    assert found(tmp_path, make(), name) == ""


def test_a_pickle_of_a_huge_string(tmp_path: Path) -> None:
    """A length beyond the end makes it no pickle for anybody; one that is really there and large
    is not read into memory, and not trusted."""
    begin = b"\x80\x04\x8e"
    assert found(tmp_path, begin + struct.pack("<Q", 1 << 40) + b".", "model.bin") == ""
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.write(begin + struct.pack("<Q", 65 << 20))
        stream.truncate(66 << 20)
    assert code_in(file, "model.bin") == ("a pickle that is too large to look into",)


TAKING = [one for one in pickletools.opcodes if one.stack_before]


@pytest.mark.parametrize("opcode", TAKING, ids=[one.name for one in TAKING])
def test_what_begins_by_taking_is_no_pickle(tmp_path: Path, opcode: pickletools.OpcodeInfo) -> None:
    """Nothing is on a reader's stack at the beginning, so none gets past an opcode that takes:
    millions of them behind each other are not looked at."""
    begin = opcode.code.encode("latin-1")
    with pytest.raises((pickle.UnpicklingError, EOFError, IndexError)):
        pickle.loads(begin + bytes(8) + b".")
    assert found(tmp_path, begin * 2_000_001, "model.bin") == ""


@given(
    data=st.binary(max_size=200),
    magic=st.sampled_from(
        [b"", b"\x80\x04", b"PK\x03\x04", b"\x93NUMPY", b"\x10\0\0\0TFL3", b"\x10\0\0\0ORTM"]
    ),
)
@settings(max_examples=60, deadline=None)
def test_nothing_makes_it_fail(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bytes
) -> None:
    """Whatever the bytes, there is an answer."""
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(magic + data)
    assert isinstance(code_in(file, "model.onnx"), tuple)
