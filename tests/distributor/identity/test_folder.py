"""Authorities on disk: readable by their owner alone, and followed from one to the next."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from distributor.identity import Authority, IdentityFolder, load_authority, make_authority
from distributor.identity.authority import issue_server, key_pem, server_names
from distributor.identity.issuer import ListenerFiles
from edge_sdk.base import NotFoundError, RefusedError, UsageError
from edge_sdk.identity import to_der

NAMES = frozenset({"localhost", "127.0.0.1"})


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    made = IdentityFolder(tmp_path)
    assert made.create()
    return made


def test_nobody_else_can_read_it(folder: IdentityFolder) -> None:
    """Folder 0700, files 0600, also of what is made later."""
    folder.server(NAMES)
    folder.add(make_authority())
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.root.iterdir()} == {0o600}


def test_what_devices_check_is_always_valid(folder: IdentityFolder) -> None:
    """Authority and listeners' certificate are valid from 1970 to 9999 and carry key
    identifiers, so that a device without a clock connects and authorities are told apart."""
    server = folder.server(NAMES)
    for one in (folder.load().serving.certificate, server.chain):
        found = x509.load_pem_x509_certificate(one)
        assert found.not_valid_before_utc.year == 1970
        assert found.not_valid_after_utc.year == 9999
        found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert server_names(server.chain) == NAMES


def test_a_second_create_changes_nothing(folder: IdentityFolder) -> None:
    """What is there stays."""
    before = folder.load().roots
    assert not folder.create()
    assert folder.load().roots == before


def test_names_that_are_added(folder: IdentityFolder) -> None:
    """The listeners' certificate is made anew for a new name, and kept otherwise."""
    first = folder.server(NAMES)
    assert folder.server(NAMES) == first
    assert server_names(folder.server(NAMES | {"fleet.example.com"}).chain) > NAMES


def test_one_after_the_other(folder: IdentityFolder) -> None:
    """The oldest serves until it is retired, the newest signs; the last one stays."""
    first = folder.load().serving
    with pytest.raises(RefusedError, match="only authority"):
        folder.retire(first.fingerprint)
    second, third = make_authority(), make_authority()
    folder.add(second)
    folder.add(third)
    authorities = folder.load()
    assert authorities.serving.fingerprint == first.fingerprint
    assert authorities.issuing.fingerprint == third.fingerprint
    with pytest.raises(RefusedError, match="oldest first"):
        folder.retire(third.fingerprint)
    with pytest.raises(NotFoundError):
        folder.retire("")
    assert folder.retire(first.fingerprint[:8]) == first.fingerprint
    assert folder.load().serving.fingerprint == second.fingerprint
    folder.retire(second.fingerprint)
    left = folder.load()
    assert [one.fingerprint for one in left.known] == [third.fingerprint]
    assert to_der(first.certificate)[0] in left.shown
    # By the first and by the second: whoever knows only one of them finds the third.
    assert len(to_der(left.bridges)) == 3


def test_listeners_follow_the_folder(folder: IdentityFolder) -> None:
    """The same value until something changes, then the new one."""
    files = ListenerFiles(folder, names=NAMES)
    first = files.current()
    assert files.current() is first
    folder.add(make_authority())
    second = files.current()
    assert second.roots != first.roots
    assert second.chain == first.chain
    assert files.current() is second


def test_an_outside_authority(tmp_path: Path, folder: IdentityFolder) -> None:
    """Listeners may show a certificate of another authority, and believe its devices too."""
    outside = make_authority()
    key, certificate = issue_server(outside, ["fleet.example.com"])
    paths = [tmp_path / name for name in ("key.pem", "certificate.pem", "clients.pem")]
    for path, text in zip(paths, (key, certificate, outside.certificate), strict=True):
        path.write_bytes(text)
    files = ListenerFiles(
        folder, names=NAMES, key=paths[0], certificate=paths[1], clients=paths[2]
    ).current()
    assert (files.key, files.chain) == (key, certificate)
    assert files.roots == folder.load().roots + outside.certificate


def test_an_authority_that_is_given(tmp_path: Path) -> None:
    """A fleet may be given the authority it signs with; key and certificate must agree."""
    given = make_authority()
    folder = IdentityFolder(tmp_path)
    folder.create(load_authority(given.certificate, key_pem(given.key)))
    assert folder.load().serving.fingerprint == given.fingerprint
    other = make_authority()
    leaf = issue_server(given, ["a"])
    for certificate, key in (
        (given.certificate, key_pem(other.key)),
        (leaf[1], leaf[0]),
        (b"junk", b"junk"),
    ):
        with pytest.raises(UsageError):
            load_authority(certificate, key)
    assert "PRIVATE" not in repr(given)
    assert isinstance(given, Authority)


def test_none_there(tmp_path: Path) -> None:
    """Without an authority the error says how one is made."""
    with pytest.raises(NotFoundError, match="edge-distributor init"):
        IdentityFolder(tmp_path).load()
