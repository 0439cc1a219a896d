"""Makes certificates with whatever authority is in force now."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from distributor.identity.authority import issue_client
from distributor.identity.folder import Authorities, IdentityFolder, ServerFiles
from edge_sdk.base import explain_os_error
from edge_sdk.identity import CertificateFacts, RequestFacts

_RENEW_LEFT = 1 / 3  # of a certificate's life


class Issuer:
    """Follows the folder: authorities that come or go are noticed without a restart."""

    def __init__(self, folder: IdentityFolder, *, life_s: float) -> None:
        self._folder = folder
        self._life_s = life_s
        self._lock = threading.Lock()
        self._seen: tuple[tuple[int, ...], Authorities] | None = None

    @property
    def authorities(self) -> Authorities:
        with self._lock:
            changed_at = self._folder.changed_at()
            if self._seen is None or self._seen[0] != changed_at:
                self._seen = (changed_at, self._folder.load())
            return self._seen[1]

    def issue(self, request: RequestFacts, *, now_s: float) -> bytes:
        """A certificate (DER)."""
        return issue_client(self.authorities.issuing, request, now_s=now_s, life_s=self._life_s)

    def should_renew(self, facts: CertificateFacts, *, now_s: float) -> bool:
        """Whether it is time, by this clock, or another authority signs now. A certificate of
        an outside authority is not ours to renew."""
        ours = {one.key_identifier for one in self.authorities.known}
        if facts.authority not in ours:
            return False
        life_s = facts.not_after_s - facts.not_before_s
        late = now_s >= facts.not_after_s - _RENEW_LEFT * life_s
        return late or facts.authority != self.authorities.issuing.key_identifier


class ListenerFiles:
    """Key, chain and roots for the listeners, read again when something changed on disk.

    ``certificate`` and ``key`` are files of an outside authority, in place of our own;
    ``clients`` names one whose devices and operators are believed as well.
    """

    def __init__(
        self,
        folder: IdentityFolder,
        *,
        names: frozenset[str],
        certificate: Path | None = None,
        key: Path | None = None,
        clients: Path | None = None,
    ) -> None:
        self._folder = folder
        self._names = names
        self._certificate = certificate
        self._key = key
        self._clients = clients
        self._lock = threading.Lock()
        self._files = self._read()
        self._seen = self._changed_at()  # after reading, which may have written

    def current(self) -> ServerFiles:
        """The same value until something changes. Called for each new connection."""
        with self._lock:
            if self._changed_at() != self._seen:
                self._files = self._read()
                self._seen = self._changed_at()
            return self._files

    def _read(self) -> ServerFiles:
        files = self._folder.server(self._names)
        try:
            if self._certificate is not None and self._key is not None:
                chain = self._certificate.read_bytes()
                files = replace(files, key=self._key.read_bytes(), chain=chain)
            if self._clients is not None:
                files = replace(files, roots=files.roots + self._clients.read_bytes())
        except OSError as error:
            raise explain_os_error(error, Path(str(error.filename))) from error
        return files

    def _changed_at(self) -> tuple[int, ...]:
        outside = (self._certificate, self._key, self._clients)
        times = (one.stat().st_mtime_ns for one in outside if one is not None)
        return (*self._folder.changed_at(), *times)
