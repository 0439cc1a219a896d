"""Which processor this is."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edge_sdk.base.processor import processor, processor_name

X86 = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu avx2

processor\t: 1
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu avx2
"""
ARM = """processor\t: 0
Features\t: fp asimd
CPU part\t: 0xd08

Hardware\t: BCM2711
Model\t\t: Raspberry Pi 4 Model B
"""


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        (X86, "Some CPU @ 2.00GHz", "Some CPU @ 2.00GHz fpu avx2"),
        (ARM, "Raspberry Pi 4 Model B", "fp asimd 0xd08"),
        (None, "", ""),
    ],
)
def test_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: str | None, name: str, words: str
) -> None:
    """Its name for people, and once what decides about instructions; without, the machine's."""
    path = tmp_path / "cpuinfo"
    if facts is not None:
        path.write_text(facts)
    monkeypatch.setattr("edge_sdk.base.processor._FACTS", path)
    assert processor_name() == (name or platform.machine())
    assert processor() == f"{platform.machine()} {words}".strip()
