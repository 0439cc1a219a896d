"""The rig that most tests of the updater drive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.updater_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path)
    try:
        yield one
    finally:
        one.close()
