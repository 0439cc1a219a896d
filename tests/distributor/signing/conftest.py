"""A catalog whose publishers have keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.catalog import open_catalog
from tests.support.signing import Signing


@pytest.fixture
def signed(tmp_path: Path) -> Iterator[Signing]:
    with open_catalog(tmp_path) as catalog:
        yield Signing(catalog, tmp_path)
