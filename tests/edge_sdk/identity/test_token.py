"""Tokens: one line that is read back as it was, or not at all, and shows no secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import FormatError
from edge_sdk.identity import EnrolmentToken, secret_hash, token_name

SECRET = "ab" * 32
TOKEN = EnrolmentToken(
    enrolment_address="fleet.example.com:7445",
    address="fleet.example.com:7443",
    kind="device",
    name="",
    authority="01" * 32,
    root="",
    uses=1,
    expires_s=1_800_000_000,
    secret=SECRET,
)


def test_it_is_read_back() -> None:
    """What is encoded is decoded, also with white space around it."""
    text = TOKEN.encode()
    assert text.startswith("edge1.")
    assert "\n" not in text
    assert EnrolmentToken.decode(f"  {text}\n") == TOKEN
    assert TOKEN.token == token_name(secret_hash(bytes.fromhex(SECRET)))


def test_its_secret_does_not_show() -> None:
    """Neither ``repr`` nor its public name tells the secret."""
    assert SECRET not in repr(TOKEN)
    assert TOKEN.token not in SECRET


@given(at=st.integers(0, 400), other=st.characters(codec="ascii"))
def test_a_changed_character(at: int, other: str) -> None:
    """A token that was changed anywhere is refused, without showing it, or is the same one."""
    text = TOKEN.encode()
    changed = text[:at] + other + text[at + 1 :]
    try:
        found = EnrolmentToken.decode(changed)
    except FormatError as error:
        assert text[6:40] not in error.message
    else:
        assert found.encode() == changed.strip()


@pytest.mark.parametrize("text", ["", "edge1.", "edge1.AAAA", "edge2.x", "edge1." + "A" * 5000])
def test_what_is_no_token(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(FormatError):
        EnrolmentToken.decode(text)


@pytest.mark.parametrize(
    "wrong", [{"kind": "admin"}, {"secret": "ab"}, {"authority": "x"}, {"root": "x"}, {"more": 1}]
)
def test_what_is_not_sound(wrong: dict[str, object]) -> None:
    """A token with a field that cannot be is refused."""
    import base64
    from dataclasses import asdict

    import msgspec

    said = {**asdict(TOKEN), **wrong}
    body = base64.urlsafe_b64encode(msgspec.json.encode(said, order="sorted")).rstrip(b"=")
    with pytest.raises(FormatError):
        EnrolmentToken.decode(f"edge1.{body.decode()}")
