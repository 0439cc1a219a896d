"""Who answers for a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.base import NotFoundError, UnavailableError
from edge_sdk.client import VersionNotActiveError
from tests.support import onnx_models
from tests.support.serving_door import serving


def test_one_switch_changes_who_answers(tmp_path: Path) -> None:
    """After the switch only the new version is found, demanded or not."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(1.0)})
    one = made.table.find("team/linear", "1.0.0")
    two = made.load("team/linear", onnx_models.linear(2.0), "2.0.0")
    assert made.table.switch(two) is one
    assert made.table.find("team/linear", "") is two
    with pytest.raises(VersionNotActiveError) as refused:
        made.table.find("team/linear", "1.0.0")
    assert refused.value.facts == {"model": "team/linear", "version": "1.0.0", "active": "2.0.0"}


def test_absence_has_three_reasons(tmp_path: Path) -> None:
    """Still starting, never known, and unloaded are told apart."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(1.0)}, ready=False)
    with pytest.raises(UnavailableError):
        made.table.find("team/other", "", wait_s=0.01)
    made.table.set_ready()
    with pytest.raises(NotFoundError, match="is not found"):
        made.table.find("team/other", "")
    made.table.remove(made.table.find("team/linear", ""))
    with pytest.raises(NotFoundError, match="no available versions"):
        made.table.find("team/linear", "")
    with pytest.raises(UnavailableError):
        made.table.find("team/linear", "1.0.0")
    assert made.table.active() == ()


def test_only_the_active_one_is_removed(tmp_path: Path) -> None:
    """Removing a generation that does not answer changes nothing."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(1.0)})
    other = made.load("team/linear", onnx_models.linear(2.0), "2.0.0")
    made.table.remove(other)
    assert made.table.find("team/linear", "").identity.version == "1.0.0"


def test_what_is_gone_is_known_until_it_comes_back(tmp_path: Path) -> None:
    """For the index of models: unloaded ones, not those that serve again."""
    made = serving(tmp_path, {"team/a": onnx_models.linear(1.0), "team/b": onnx_models.linear(1.0)})
    assert made.table.gone() == ()
    for name in ("team/b", "team/a"):
        made.table.remove(made.table.find(name, ""))
    assert made.table.gone() == ("team/a", "team/b")
    made.serve("team/b", onnx_models.linear(1.0))
    assert made.table.gone() == ("team/a",)


def test_a_request_between_switch_and_retirement_is_asked_again(tmp_path: Path) -> None:
    """Who found a generation that was just retired gets the new one instead of an error."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(1.0)})
    one = made.table.find("team/linear", "")
    two = made.load("team/linear", onnx_models.linear(2.0), "2.0.0")
    answers = iter((one, two))
    made.table.find = lambda *_, **__: next(answers)  # type: ignore[method-assign]
    one.retire(lambda: None)
    assert made.table.enter("team/linear", "") is two
