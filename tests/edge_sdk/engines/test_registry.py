"""Which engines there are."""

from __future__ import annotations

import pytest

from edge_sdk.base import NotFoundError, RefusedError
from edge_sdk.engines import available_engines, open_engine, registry


def test_installed_engines_are_named() -> None:
    """ONNX Runtime is installed wherever the tests are."""
    assert "onnxruntime" in available_engines()


def test_an_unknown_engine_is_not_found() -> None:
    """The error names the known ones."""
    with pytest.raises(NotFoundError, match="onnxruntime"):
        open_engine("abacus")


def test_an_engine_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered engine whose library is missing says which one."""
    monkeypatch.setitem(registry.ENGINES, "other", ("nowhere", "Nothing", "no_such_library"))
    assert "other" not in available_engines()
    with pytest.raises(RefusedError, match="no_such_library"):
        open_engine("other")
