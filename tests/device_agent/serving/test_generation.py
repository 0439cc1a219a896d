"""A generation's life: requests inside, retired, empty."""

from __future__ import annotations

from pathlib import Path

from tests.support import onnx_models
from tests.support.serving_door import serving


def test_the_last_request_out_closes_the_door(tmp_path: Path) -> None:
    """Retired with two inside: nobody enters, and the second to leave says it is empty."""
    generation = serving(tmp_path).load("team/linear", onnx_models.linear(1.0))
    empty: list[bool] = []
    assert generation.enter()
    assert generation.enter()
    generation.retire(lambda: empty.append(True))
    assert not generation.enter()
    generation.leave()
    assert empty == []
    generation.leave()
    assert empty == [True]


def test_an_idle_generation_is_empty_at_once(tmp_path: Path) -> None:
    """Retired with nobody inside, it says so immediately."""
    generation = serving(tmp_path).load("team/linear", onnx_models.linear(1.0))
    empty: list[bool] = []
    generation.retire(lambda: empty.append(True))
    assert empty == [True]
