"""Requirements: read out of the model, changed by KEY=VALUE, refused when misspelt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import EdgeError, UsageError
from edge_sdk.fleet.requirements import parse_bytes, with_overrides
from edge_sdk.manifest import Requirements

FOUND = Requirements(
    engine="onnxruntime", memory_bytes=400, ir_version=10, opsets={"": 21, "com.microsoft": 1}
)


def test_nothing_asked_changes_nothing() -> None:
    """Without overrides the requirements are those that the model states."""
    assert with_overrides(FOUND, []) == FOUND


@pytest.mark.parametrize(
    ("pairs", "field", "value"),
    [
        (["accelerator=vnni"], "accelerators", ("vnni",)),
        (["accelerator=vnni,npu", "accelerator=vnni"], "accelerators", ("npu", "vnni")),
        (["architecture=x86_64, aarch64"], "architectures", ("aarch64", "x86_64")),
        (["engine=litert"], "engine", "litert"),
        (["engine="], "engine", None),
        (["ir_version=8"], "ir_version", 8),
        (["ir_version="], "ir_version", None),
        (["memory=512MiB"], "memory_bytes", 512 << 20),
        (["memory="], "memory_bytes", 0),
        (["opset=17"], "opsets", {"": 17}),
        (["opset=ai.onnx:17,com.acme:2"], "opsets", {"": 17, "com.acme": 2}),
        (["opset="], "opsets", {}),
    ],
)
def test_each_key_replaces_one_requirement(pairs, field, value) -> None:
    """A key replaces what the model says of that one thing, and nothing else."""
    changed = with_overrides(FOUND, pairs)
    assert getattr(changed, field) == value
    others = [name for name in Requirements.__dataclass_fields__ if name != field]
    assert all(getattr(changed, name) == getattr(FOUND, name) for name in others)


@pytest.mark.parametrize(
    "pair",
    ["cuda", "gpu=1", "=x", "engine=a,b", "ir_version=ten", "memory=much", "opset=x:y", "opset=-1"],
)
def test_misspelt_requirement_is_refused(pair: str) -> None:
    """What cannot be read is a UsageError, not an artifact without the requirement."""
    with pytest.raises(UsageError):
        with_overrides(FOUND, [pair])


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("7", 7), ("7 B", 7), ("3kB", 3000), ("2GB", 2 * 10**9), ("1 GiB", 1 << 30)],
)
def test_bytes_with_units(text: str, count: int) -> None:
    """Bytes are whole numbers with a decimal or a binary unit."""
    assert parse_bytes(text) == count


@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_text_is_read_or_refused(pairs: list[str]) -> None:
    """Whatever is written after --require ends in requirements or in a typed error."""
    try:
        changed = with_overrides(FOUND, pairs)
    except EdgeError:
        return
    assert isinstance(changed, Requirements)
