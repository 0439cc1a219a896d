"""FORMAT.md is enough: a decoder written from it alone agrees with ours."""

from pathlib import Path

import numpy as np
import pytest

from tests.independent_decoder.decode import decode
from tests.support.deltas import decoded, encoded, safetensors, tuned, weights, write_folder

KINDS = ["int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [1, 40])
def test_both_decoders_agree(tmp_path: Path, kind: str, every: int) -> None:
    """Dense and sparse updates of each kind of element, with copies, text and new bytes."""
    before = weights(kind, 3000, 1)
    after = before.copy()
    after[::every] = tuned(before, 2)[::every]
    text = "\n".join(f"{n} label" for n in range(500)).encode()
    source = {"kept": bytes(range(256)) * 3, "m": safetensors({"w": (kind, before)}), "t": text}
    target = {
        "empty": b"",
        "kept": source["kept"],
        "m": safetensors({"w": (kind, after)}),
        "new": np.random.default_rng(3).bytes(400),
        "t": text.replace(b"77 label", b"77 other"),
    }
    delta = encoded(write_folder(tmp_path / "s", source), write_folder(tmp_path / "t", target))
    assert decode(delta, list(source.values())) == target
    assert decoded(delta, list(source.values())) == list(target.values())


def test_elements_cut_by_a_chunk_agree(tmp_path: Path) -> None:
    """A tensor at an odd offset: elements that a chunk's border cuts come back in both."""
    before = weights("float32", (1 << 18) + 400, 1)
    source = safetensors({"odd": ("int8", weights("int8", 3, 1)), "w": ("float32", before)})
    target = safetensors(
        {"odd": ("int8", weights("int8", 3, 2)), "w": ("float32", tuned(before, 2))}
    )
    (tmp_path / "a").write_bytes(source)
    (tmp_path / "b").write_bytes(target)
    delta = encoded(tmp_path / "a", tmp_path / "b")
    assert decode(delta, [source]) == {"b": target}
