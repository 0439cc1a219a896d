"""The switch for tests: without it nobody says who they are without proof, with it only here."""

from __future__ import annotations

import pytest

from edge_sdk.base import RefusedError, UsageError
from edge_sdk.rpc import (
    Credentials,
    Tls,
    allow_plaintext,
    check_address,
    open_channel,
    plaintext_for_tests,
)


def test_without_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device or operator without a certificate gets no channel, wherever it leads; an app of
    this machine does, and so does who has a certificate."""
    monkeypatch.delenv("EDGE_TEST_PLAINTEXT", raising=False)
    assert not plaintext_for_tests()
    for credentials in (Credentials(device="gate-7"), Credentials(operator="ann")):
        for address in ("127.0.0.1:7443", "unix:/nowhere.sock", "192.0.2.1:7443"):
            with pytest.raises(RefusedError, match="enrol first"):
                open_channel(address, credentials)
    open_channel("127.0.0.1:7443", Credentials()).close()
    open_channel("192.0.2.1:7443", Credentials(tls=Tls(roots=b""))).close()


@pytest.mark.parametrize("value", ["", "0", "true", "yes"])
def test_other_values(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Only the one value is the switch."""
    monkeypatch.setenv("EDGE_TEST_PLAINTEXT", value)
    with pytest.raises(RefusedError):
        allow_plaintext("127.0.0.1:7443")


def test_with_the_switch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Only to this machine, and the log says so each time."""
    monkeypatch.setenv("EDGE_TEST_PLAINTEXT", "1")
    open_channel("127.0.0.1:7443", Credentials(device="gate-7")).close()
    assert "UNPROTECTED" in caplog.text
    for address in ("192.0.2.1:7443", "0.0.0.0:7443", "fleet.example.com:7443"):
        with pytest.raises(RefusedError):
            open_channel(address, Credentials(device="gate-7"))


def test_a_private_key_does_not_show() -> None:
    """Nor does a certificate's key in ``repr``."""
    assert "SECRET" not in repr(Credentials(tls=Tls(roots=b"", key=b"SECRET")))
    for wrong in ("unix:", "nowhere", f"unix:/{'a' * 200}"):
        with pytest.raises(UsageError):
            check_address(wrong)
