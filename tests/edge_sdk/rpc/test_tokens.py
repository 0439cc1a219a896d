"""Where an app's token comes from, and what of it travels."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.base import NotFoundError, UsageError
from edge_sdk.rpc import AUTHORIZATION, app_token, bearer_token


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_APP_TOKEN", raising=False)
    monkeypatch.delenv("EDGE_APP_TOKEN_FILE", raising=False)


def test_argument_then_environment_then_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The nearest counts; without any there is none."""
    assert app_token() is None
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("EDGE_APP_TOKEN_FILE", str(tmp_path / "token"))
    assert app_token() == "from-file"
    monkeypatch.setenv("EDGE_APP_TOKEN", "from-environment")
    assert app_token() == "from-environment"
    assert app_token("given") == "given"


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said, not passed over."""
    monkeypatch.setenv("EDGE_APP_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(NotFoundError):
        app_token()


@pytest.mark.parametrize("token", ["two\nlines", "ümlaut", "\x00", " ", "x" * 1025])
def test_what_is_no_token(token: str) -> None:
    """What cannot travel as metadata is refused, and not shown in the message."""
    with pytest.raises(UsageError) as refused:
        app_token(token)
    assert token.strip() not in refused.value.message or not token.strip()


def test_exactly_one_bearer() -> None:
    """Two are none; another scheme, or bytes, are none."""
    assert bearer_token([(AUTHORIZATION, "Bearer abc")]) == "abc"
    assert bearer_token([("other", "x"), (AUTHORIZATION, "bearer  abc ")]) == "abc"
    for shown in (
        [],
        [(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer a")],
        [(AUTHORIZATION, "Basic abc")],
        [(AUTHORIZATION, b"Bearer abc")],
        [(AUTHORIZATION, "Bearer")],
        [(AUTHORIZATION, "Bearer " + "x" * 2000)],
    ):
        assert bearer_token(shown) == ""
    assert bearer_token(None) == ""
