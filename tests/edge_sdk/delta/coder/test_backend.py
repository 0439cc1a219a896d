"""Which coder works is decided by the environment, and a missing kernel is never silent."""

import sys

import pytest

from edge_sdk.delta import coder
from edge_sdk.delta.coder import twin


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extension was not built."""
    monkeypatch.setitem(sys.modules, "edge_sdk.delta._kernel", None)
    monkeypatch.delattr("edge_sdk.delta._kernel", raising=False)
    monkeypatch.delitem(sys.modules, "edge_sdk.delta.coder.kernel", raising=False)


def test_another_word_is_no_choice() -> None:
    """A misspelt choice is an error, not the default."""
    with pytest.raises(ImportError, match="'never': auto, require or skip"):
        coder._backend("never")


def test_the_twin_can_be_asked_for() -> None:
    """``skip`` leaves the kernel out where there is one."""
    assert coder._backend("skip") is twin


def test_a_kernel_that_is_required_must_be_there(no_kernel: None) -> None:
    """Without the extension ``require`` fails and ``auto`` takes the twin."""
    with pytest.raises(ImportError):
        coder._backend("require")
    assert coder._backend("auto") is twin
