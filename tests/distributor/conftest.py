"""The distributor needs Python 3.11: on 3.10 nothing here is collected."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

collect_ignore_glob = ["*"] if sys.version_info < (3, 11) else []
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.distributor)
