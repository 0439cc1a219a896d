"""What somebody who is enrolled has: a key, its certificate, and whom to trust."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_sdk.identity.certificates import CertificateFacts, read_certificate
from edge_sdk.rpc import Tls

_RENEW_AT = 2 / 3  # of a certificate's life


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """``key``, ``certificate`` and ``authorities`` are PEM. ``address`` is where the service
    listens, ``enrolment_address`` where an expired certificate is renewed."""

    key: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    authorities: bytes = field(repr=False)
    address: str
    enrolment_address: str

    @property
    def facts(self) -> CertificateFacts:
        """Raises: FormatError."""
        return read_certificate(self.certificate)

    def tls(self) -> Tls:
        return Tls(roots=self.authorities, key=self.key, certificate=self.certificate)

    def is_expired(self, now_s: float) -> bool:
        """By a clock that may be wrong: only what it says about the future counts."""
        return now_s >= self.facts.not_after_s

    def should_renew(self, now_s: float) -> bool:
        facts = self.facts
        life_s = facts.not_after_s - facts.not_before_s
        return now_s >= facts.not_before_s + _RENEW_AT * life_s
