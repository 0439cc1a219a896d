"""ggml before GGUF: tensors behind a header that only the model knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge_sdk.formats import ggml as ggml_reader
from edge_sdk.formats import open_model
from tests.support.ggml_files import GgmlTensor, ggml
from tests.support.tensor_maps import contents, opened

F = GgmlTensor("encoder.w", 0, (3, 2), np.arange(6, dtype=np.float32).tobytes())
S = GgmlTensor("scale", 0, (), np.float32(0.5).tobytes())
Q = GgmlTensor("q", 2, (32, 2), bytes(36))


@pytest.mark.parametrize(
    "header", [b"", b"\x01\0\0\0" * 9, b"\x02\0\0\0\x05\0\0\0\x01\0\0\0vocabulary" + bytes(999)]
)
def test_tensors_are_found_behind_any_header(tmp_path: Path, header: bytes) -> None:
    """Names, types, shapes and bytes of all, though numbers before them look alike."""
    found = opened(tmp_path, ggml([F, S, Q], header=header))
    assert found.format == "ggml"
    assert contents(found) == {one.name: one.data for one in (F, S, Q)}
    assert {one.name: (one.dtype, one.shape) for one in found.tensors} == {
        F.name: ("float32", (2, 3)),
        "scale": ("float32", ()),
        "q": ("uint8", (2, 1, 18)),
    }


def test_a_file_that_is_cut_is_opaque(tmp_path: Path) -> None:
    """Tensors that do not lead to the very end are none."""
    content = ggml([F, S])
    for length in set(range(len(content))) - {len(ggml([F]))}:
        assert opened(tmp_path, content[:length]).format == "opaque"
    assert opened(tmp_path, content + b"\0").format == "opaque"


def test_names_that_are_no_text_end_the_search(tmp_path: Path) -> None:
    """A name is printable."""
    for bad in ("a\nb", "\0"):
        assert opened(tmp_path, ggml([F, GgmlTensor(bad, 0, (1,), bytes(4))])).format == "opaque"


def test_a_search_that_leads_nowhere_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beginnings that deceive are tried up to a limit, all together."""
    content = ggml([F] * 50, header=b"")
    assert opened(tmp_path, content).format == "ggml"
    monkeypatch.setattr(ggml_reader, "_STEPS_MAX", 40)
    assert opened(tmp_path, content).format == "opaque"


@given(content=st.binary(max_size=300), repeated=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_any_bytes_behind_the_magic_are_survived(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, repeated: int
) -> None:
    """Ranges inside of the file, or none; but for TFLite's mark, which may stand right there."""
    assume(content[:4] != b"TFL3")
    path = tmp_path_factory.mktemp("ggml") / "model"
    path.write_bytes(b"lmgg" + content * repeated)
    assert all(one.end <= path.stat().st_size for one in open_model(path).tensors)
