from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of a BLAS only wait for each other on matrices of this size."""
    with threadpool_limits(1):
        yield
