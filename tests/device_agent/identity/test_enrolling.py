"""From a token to an identity: what is read, what is waited for, what is refused before a call."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.errors import StateError
from device_agent.identity import KeptIdentity, enrol_device, enrolling, read_token
from device_agent.store import Store
from edge_sdk.base import FormatError, UnavailableError, UsageError
from edge_sdk.identity import Anchors, EnrolmentToken, Pending
from tests.device_agent.identity.test_kept import TOKEN


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, standard input, or the environment, from which it is taken at once."""
    said: list[str] = []
    text = TOKEN.encode()
    file = tmp_path / "token"
    file.write_text(text + "\n")
    file.chmod(0o600)
    assert read_token(str(file), said.append) == TOKEN
    assert said == []
    file.chmod(0o644)
    assert read_token(str(file), said.append) == TOKEN
    assert "chmod 600" in said[0]
    assert text not in said[0]
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_token("-", said.append) == TOKEN
    monkeypatch.setenv("EDGE_AGENT_TOKEN", text)
    assert read_token(None, said.append) == TOKEN
    assert "EDGE_AGENT_TOKEN" not in os.environ
    assert read_token(None, said.append) is None
    with pytest.raises(UsageError, match="cannot read"):
        read_token(str(tmp_path / "gone"), said.append)
    file.write_text("edge1.zzzz")
    with pytest.raises(FormatError):
        read_token(str(file), said.append)


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (replace(TOKEN, kind="operator"), UsageError),
        (replace(TOKEN, name="gate-8"), UsageError),
    ],
)
def test_a_token_for_somebody_else(
    tmp_path: Path, token: EnrolmentToken, error: type[Exception]
) -> None:
    """It is refused before a key is made or anybody is called."""
    kept = KeptIdentity(Store.create(tmp_path))
    with pytest.raises(error):
        enrol_device(kept, token, "gate-7", say=print, chance=lambda: 0.0, keep_root=lambda _: None)
    assert not kept.root.exists()


def test_a_folder_of_another_device(tmp_path: Path) -> None:
    """What was begun as one device does not go on as another."""
    kept = KeptIdentity(Store.create(tmp_path))
    kept.begin(TOKEN, "gate-1")
    with pytest.raises(StateError, match="gate-1"):
        enrol_device(kept, TOKEN, "gate-7", say=print, chance=lambda: 0.0, keep_root=lambda _: None)


def test_waiting_without_end_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network it is tried again after a pause, while an operator decides as long as
    the distributor says; with ``wait`` false neither."""
    kept = KeptIdentity(Store.create(tmp_path))
    slept: list[float] = []
    said: list[str] = []
    steps = iter([UnavailableError("away"), Pending(retry_after_s=7.0), UnavailableError("away")])

    def contact(_: EnrolmentToken) -> Anchors:
        return Anchors(authority=b"", root=b"")

    def answer(*_: object, **__: object) -> Pending:
        step = next(steps)
        if isinstance(step, Pending):
            return step
        raise step

    monkeypatch.setattr(enrolling, "first_contact", contact)
    monkeypatch.setattr(enrolling, "enrol", answer)

    def go(*, wait: bool) -> object:
        return enrol_device(
            kept,
            TOKEN,
            "gate-7",
            wait=wait,
            say=said.append,
            sleep=slept.append,
            chance=lambda: 1.0,
            keep_root=lambda _: None,
        )

    with pytest.raises(StopIteration):
        go(wait=True)
    assert slept == [1.0, 7.0, 1.0]
    assert "devices approve gate-7" in said[1]
    steps = iter([UnavailableError("away"), Pending(retry_after_s=7.0)])
    with pytest.raises(UnavailableError):
        go(wait=False)
    assert go(wait=False) is None
    assert not any(TOKEN.secret in one for one in said)
