"""Signed heads: read only where the known key signed exactly these words."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from edge_sdk.audit import Head, VerifierKey, first_link, open_note, sign_note
from edge_sdk.base import FormatError, TrustError, UsageError
from tests.support.audit_logs import AT_MS, ORIGIN, Notary, head_of, log


def test_a_signed_head_comes_back() -> None:
    """The note of a head, opened with its key, is that head; also of an empty log."""
    notary = Notary()
    for count in (0, 4):
        head = head_of(log(count))
        assert notary.signed(head) == head


def test_the_note_has_the_form_of_a_checkpoint() -> None:
    """Name, size and head each on a line, an empty line, then the signature of C2SP's form."""
    notary = Notary()
    head = head_of(log(2))
    lines = notary.note(head).split("\n")
    hashed = base64.b64encode(head.digest.raw).decode()
    assert lines[:5] == [ORIGIN, "2", hashed, f"at {AT_MS}", ""]
    signature = base64.b64decode(lines[5].removeprefix(f"— {ORIGIN} "))
    assert signature[:4] == notary.key.key_id
    assert len(signature) == 4 + 64


@pytest.mark.parametrize("old", ["2\n", "edge-audit/test\n", "17"])
def test_a_changed_head_is_refused(old: str) -> None:
    """A note with another size, name or time is not what was signed."""
    notary = Notary()
    note = notary.note(head_of(log(2))).replace(old, "1" + old, 1)
    with pytest.raises(TrustError, match="not signed by the key"):
        open_note(note, notary.key)


@pytest.mark.parametrize(
    "note", ["", "\n\n", "a\n\n— a b\n", "x" * 5000, "a\n\n— edge-audit/test !"]
)
def test_what_is_no_note_is_refused(note: str) -> None:
    """Text without a signature of the key is refused, whatever else it is."""
    with pytest.raises(TrustError):
        open_note(note, Notary().key)


def test_another_key_is_refused() -> None:
    """A head that somebody else signed is refused, also under the same name."""
    with pytest.raises(TrustError, match="audit key was replaced"):
        open_note(Notary().note(head_of(log(1))), Notary().key)


@pytest.mark.parametrize("text", ["one\n2\nAA==\nat 3\n", "a\n-1\nx\n", "a\nb\nc\nd\n"])
def test_a_signed_text_that_is_no_head_is_refused(text: str) -> None:
    """Even a signed note must be one head, spelt in the one way."""
    private = Ed25519PrivateKey.generate()
    key = VerifierKey.of(ORIGIN, CryptoSigner(private).public_key)  # type: ignore[arg-type]
    signature = base64.b64encode(key.key_id + private.sign(text.encode())).decode()
    with pytest.raises(TrustError, match=r"cannot be read|contradicts"):
        open_note(f"{text}\n— {ORIGIN} {signature}\n", key)


def test_an_empty_log_has_one_head() -> None:
    """A signed head of size 0 with another digest contradicts itself."""
    notary = Notary()
    head = Head(origin=ORIGIN, size=0, digest=first_link("other"), at_ms=0)
    with pytest.raises(TrustError, match="contradicts"):
        open_note(notary.note(head), notary.key)


def test_a_key_is_one_line_of_text() -> None:
    """The public key as text comes back; damaged, it is refused."""
    key = Notary().key
    text = str(key)
    assert VerifierKey.parse(text) == key
    for spoiled in ("", "a+b+c", text[:-4], text.replace("test", "rest"), "+" + text, text + "é"):
        with pytest.raises(FormatError):
            VerifierKey.parse(spoiled)


def test_only_ed25519_signs_heads() -> None:
    """A key of another kind is refused where the log is set up, not by who reads it."""
    with pytest.raises(UsageError, match="Ed25519"):
        sign_note(head_of([]), CryptoSigner.generate_ecdsa())
