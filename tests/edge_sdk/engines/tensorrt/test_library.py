"""What our code calls is there: held against the recorded bindings of 10.3, 10.16 and 11.4.

The record was made of the real wheels (tests/support/tensorrt_record.py); no GPU was needed
for it, and ``make test-tensorrt`` makes it again and compares.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest

from edge_sdk.base import RefusedError
from edge_sdk.engines.tensorrt import device, library, rules
from tests.support import fake_tensorrt as fake
from tests.support.fake_gpu import FakeGpu
from tests.support.tensorrt_record import CUDA_WHEELS, ENUMS, RECORD, WHEELS

RECORDED = json.loads(RECORD.read_text())
OURS = {
    name: cls
    for name, cls in vars(library).items()
    if inspect.isclass(cls) and getattr(cls, "_is_protocol", False)
}
CLASSES = sorted(set(OURS) & set(RECORDED["tensorrt"]["10.3.0"]["classes"]))
# Types of ours that stand for nothing that the bindings name.
OWN = {"Protocol", "Member", "Log", "Library", "Severity"}


def members(cls: type) -> dict[str, Any]:
    """Methods, properties and annotations of a Protocol, its own only."""
    own = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
    if "__init__" in vars(cls) and "logger" in inspect.signature(cls).parameters:
        own["__init__"] = vars(cls)["__init__"]
    return {**dict.fromkeys(vars(cls).get("__annotations__", {})), **own}


def parameters(signature: str) -> list[str]:
    inside = signature[1 : signature.rindex(") -> ")]
    names = re.findall(r"(?:^|, )(\w+): ", inside)
    return [name for name in names if name != "self"]


def test_every_class_is_a_recorded_one() -> None:
    """Each of our types has the name of a class or an enumeration of the bindings."""
    assert set(OURS) - OWN <= {*CLASSES, *ENUMS}


@pytest.mark.parametrize("version", WHEELS)
@pytest.mark.parametrize("name", CLASSES)
def test_every_method_is_there_with_our_arguments(version: str, name: str) -> None:
    """Each method that we call exists in each release, and an overload takes our arguments by
    position, under the names that we gave them."""
    recorded = RECORDED["tensorrt"][version]["classes"][name]
    for member, value in members(OURS[name]).items():
        assert member in recorded, f"{name}.{member}"
        if inspect.isfunction(value):
            wanted = [one for one in inspect.signature(value).parameters if one != "self"]
            overloads = [parameters(one) for one in recorded[member]]
            assert any(one[: len(wanted)] == wanted for one in overloads), (member, overloads)
        elif value is None:  # something that we assign
            assert recorded[member] == "property, settable"
        else:
            assert recorded[member].startswith("property")


@pytest.mark.parametrize("version", WHEELS)
@pytest.mark.parametrize("name", sorted(set(OURS) & set(ENUMS)))
def test_every_member_of_an_enumeration_is_there(version: str, name: str) -> None:
    """Also what 11 took away is not used by us."""
    assert set(members(OURS[name])) <= set(RECORDED["tensorrt"][version]["enums"][name])


@pytest.mark.parametrize("version", WHEELS)
def test_what_the_rules_name_is_there(version: str) -> None:
    """Flags by name, types of tensors, the severity that is kept, the callbacks we bring."""
    enums = RECORDED["tensorrt"][version]["enums"]
    for options in (rules.Options(), rules.Options(refittable=False, tf32=True)):
        to_set, to_clear = rules.builder_flags(options)
        assert {*to_set, *to_clear} <= set(enums["BuilderFlag"])
    assert set(rules.DTYPES) <= set(enums["DataType"])
    assert enums["ILogger.Severity"]["INTERNAL_ERROR"] < enums["ILogger.Severity"]["ERROR"]
    assert enums["ILogger.Severity"]["ERROR"] < enums["ILogger.Severity"]["WARNING"]
    classes = RECORDED["tensorrt"][version]["classes"]
    assert classes["ILogger"]["def log"] == "severity, msg"
    allocator = classes["IOutputAllocator"]
    assert allocator["def notify_shape"] == "tensor_name, shape"
    assert (
        allocator["def reallocate_output_async"] == "tensor_name, memory, size, alignment, stream"
    )


def test_what_eleven_took_away_is_not_in_its_record() -> None:
    """The record tells releases apart: it is not one list for all."""
    flags = {one: set(RECORDED["tensorrt"][one]["enums"]["BuilderFlag"]) for one in WHEELS}
    assert {"FP16", "INT8"} <= flags["10.3.0"] & flags["10.16.1.11"]
    assert not {"FP16", "INT8"} & flags["11.4.0.106"]


@pytest.mark.parametrize("version", CUDA_WHEELS)
def test_every_call_of_cuda_is_there(version: str) -> None:
    """Functions with our arguments in order, numbers, and the facts of a device."""
    recorded = RECORDED["cuda"][version]
    for name, value in members(device.Runtime).items():
        if not inspect.isfunction(value):
            assert name in recorded["numbers"] or name in ("cudaError_t", "cudaMemcpyKind")
            continue
        inside = recorded["functions"][name].partition("(")[2].rstrip(")")
        given = [re.findall(r"\w+", one.partition(":")[0])[-1] for one in inside.split(", ") if one]
        assert given == [one for one in inspect.signature(value).parameters if one != "self"]
    assert recorded["facts"] == ["name", "major", "minor", "multiProcessorCount", "totalGlobalMem"]
    assert {"cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"} <= set(recorded["copies"])
    assert recorded["errors"] == {"cudaErrorMemoryAllocation": 2, "cudaSuccess": 0}


@pytest.mark.parametrize("version", WHEELS)
def test_long_calls_give_up_the_gil(version: str) -> None:
    """Other threads are served while a plan is parsed, built, loaded, refitted or run; recorded
    on the real bindings over a hollow library, which took all of our arguments too."""
    holds = RECORDED["tensorrt"][version]["holds_the_gil"]
    long = {"parse_from_file", "build_serialized_network", "deserialize_cuda_engine", "serialize"}
    long |= {"create_execution_context", "execute_async_v3", "refit_from_file", "refit_cuda_engine"}
    assert {name for name in long if holds[name]} == set()
    assert holds["set_tensor_address"], "a short call does not: the watch sees the difference"


@pytest.mark.parametrize("version", fake.VERSIONS)
def test_the_stand_in_has_nothing_of_its_own(version: str) -> None:
    """Every public name of the stand-in's classes is one that the release has."""
    stand_in = fake.fake_tensorrt(FakeGpu(), version)
    for name, recorded in RECORDED["tensorrt"][version]["classes"].items():
        cls = getattr(stand_in, name, None) or getattr(fake, name)
        public = {one for one in vars(cls) if not one.startswith("_")}
        assert public <= {*recorded, "Severity"}, name


def test_a_missing_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither NVIDIA's package nor the bindings: the error says so."""
    monkeypatch.setattr(library, "MODULES", ("no_such_tensorrt",))
    with pytest.raises(RefusedError, match="not installed"):
        library.import_tensorrt()


def test_bindings_without_libraries_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """What the loader of the system says is told."""
    (tmp_path / "hollow_tensorrt.py").write_text("raise ImportError('libnvinfer.so.11: no file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(library, "MODULES", ("hollow_tensorrt",))
    with pytest.raises(RefusedError, match=r"libnvinfer\.so\.11"):
        library.import_tensorrt()
