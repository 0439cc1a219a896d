"""What a pipeline needs to call a distributor for some minutes: one file, made by an operator."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_sdk.base import FormatError, explain_os_error, whole_file
from edge_sdk.rpc import Credentials, Tls

_BYTES_MAX = 256 << 10


class Bearer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A short-lived token, where it is taken, and whom to believe there (PEM)."""

    address: str
    authorities: str
    secret: str
    expires_ms: int

    def credentials(self) -> Credentials:
        """Only over TLS: the secret goes to nobody whom the authorities do not vouch for."""
        return Credentials(tls=Tls(roots=self.authorities.encode()), token=self.secret)

    def __repr__(self) -> str:
        return f"Bearer(address={self.address!r}, expires_ms={self.expires_ms})"

    def save(self, file: Path) -> None:
        """To a new file, for its owner alone. Raises: ConflictError."""
        with whole_file(file, replace=False, private=True) as stream:
            stream.write(msgspec.json.encode(self) + b"\n")

    @classmethod
    def load(cls, file: Path) -> Bearer:
        """Raises: NotFoundError, FormatError."""
        try:
            with file.open("rb") as stream:
                return msgspec.json.decode(stream.read(_BYTES_MAX), type=cls)
        except OSError as error:
            raise explain_os_error(error, file) from error
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise FormatError(
                f"{file} is no token file; make one with: edge-fleet operators token --output"
            ) from None
