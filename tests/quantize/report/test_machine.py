"""The CPU's features that can change a calibration are read from the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.report import cpu_features


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 sse avx512_vnni\n", ("avx2", "avx512_vnni")),
        ("Features\t: fp asimd asimddp i8mm\n", ("asimddp", "i8mm")),
        ("model name : some cpu\n", ()),
    ],
)
def test_features_are_read(tmp_path: Path, text: str, features: tuple[str, ...]) -> None:
    """x86 calls them flags, ARM Features; others are left out."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    assert cpu_features(cpuinfo) == features


def test_no_answer_is_none(tmp_path: Path) -> None:
    """Where the system does not say, nothing is claimed."""
    assert cpu_features(tmp_path / "none") == ()
