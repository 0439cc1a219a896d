"""All that has to do with identity, put together for a distributor that starts."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from distributor import identity
from distributor.audit import Act, recorded
from distributor.config import DistributorConfig
from distributor.identity import (
    IdentityFolder,
    Issuer,
    ListenerFiles,
    PendingMax,
    State,
    write_secret,
)
from distributor.services.enrolment import FIRST, Enrolment, Renewal, Root
from distributor.services.identities import Addresses, Identities, TokenMaker
from distributor.services.listener import ServerTls
from distributor.services.standing import Standing
from distributor.services.wakeups import Wakeups
from distributor.storage import Database
from edge_sdk.identity import CertificateFacts
from edge_sdk.rpc import check_address, plaintext_for_tests

_DAY_S = 86_400.0
_FIRST_TOKEN_S = 7 * _DAY_S
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityServices:
    """``tls`` is None under the switch for tests: then nobody is asked for a certificate."""

    standing: Standing
    issuer: Issuer
    tokens: TokenMaker
    enrolment: Enrolment
    renewal: Renewal
    identities: Identities
    tls: ServerTls | None
    addresses: Addresses
    folder: IdentityFolder
    names: tuple[str, ...] = field(default=())

    def should_renew(self, certificate: CertificateFacts) -> bool:
        return self.issuer.should_renew(certificate, now_s=time.time())

    def say_addresses(self, *, enrolment: str, device: str, operator: str, token: str) -> None:
        """Once listeners are bound: what stands in tokens from now on."""
        self.addresses.enrolment = self._outside(enrolment)
        self.addresses.device = self._outside(device)
        self.addresses.operator = self._outside(operator)
        self.addresses.token = self._outside(token) if token else ""

    def _outside(self, address: str) -> str:
        """How others reach ``address``."""
        if address.startswith("unix:"):
            return address
        host, _, port = address.rpartition(":")
        bare = host.strip("[]")
        name = self.names[0] if self.names else bare
        if not self.names and bare in _ANYWHERE:
            name = socket.gethostname()
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    async def first_operator_token(self, database: Database) -> str:
        """A file with a token for a first operator, made anew at each start until there is
        one; its path, or "" where somebody operates already."""
        operators = await database.read(identity.list_identities, kind="operator")
        file = self.folder.operator_token
        if any(one.state is State.ACTIVE for one in operators):
            file.unlink(missing_ok=True)
            return ""
        for one in await database.read(identity.list_tokens):
            if one.created_by == FIRST and not one.revoked:
                revoke = recorded(identity.revoke_token, _by_host("token.revoke", one.token))
                await database.write(revoke, one.token)
        text, _ = await self.tokens.make(
            kind="operator",
            name="",
            uses=1,
            valid_s=_FIRST_TOKEN_S,
            approval=False,
            created_by=FIRST,
            act=lambda made: _by_host("operator.token", made[1].token),
        )
        await asyncio.to_thread(write_secret, file, f"{text}\n".encode())
        return str(file)


def _by_host(action: str, token: str) -> Act:
    """What this machine does by itself, for the audit log. Who uses the token stands in the
    entry ``operator.enrol``, which names it."""
    facts = {"for": "the first operator"}
    at_ms = int(time.time() * 1000)
    return Act(at_ms=at_ms, kind="host", actor=FIRST, action=action, object=token, facts=facts)


async def make_identity_services(
    config: DistributorConfig, database: Database, *, root: Root, wakeups: Wakeups
) -> IdentityServices:
    """Raises: NotFoundError, FormatError, UsageError."""
    folder = IdentityFolder(config.data)
    for address in (config.device_address, config.operator_address, config.enrolment_address):
        check_address(address)  # before anything is made
    names = tuple(one.strip() for one in config.names.split(",") if one.strip())
    issuer = Issuer(folder, life_s=config.certificate_days * _DAY_S)
    refused = await database.read(identity.refused)
    standing = Standing({one.key: one.reason for one in refused})
    addresses = Addresses()
    tokens = TokenMaker(database, issuer, addresses, root=root)
    tls = None
    if not plaintext_for_tests():
        await asyncio.to_thread(folder.create)
        material = await asyncio.to_thread(_material, config, folder, names)
        tls = ServerTls(material=material, standing=standing, age_s=config.connection_age_s)
    return IdentityServices(
        standing=standing,
        issuer=issuer,
        tokens=tokens,
        enrolment=Enrolment(
            database,
            issuer,
            standing,
            root=root,
            grace_s=config.renewal_grace_days * _DAY_S,
            factory=_path(config.factory_authorities),
            pending_max=PendingMax(
                in_all=config.pending_max,
                of_one_factory_certificate=config.factory_pending_max,
            ),
        ),
        renewal=Renewal(database, issuer),
        identities=Identities(database, tokens, standing, wakeups),
        tls=tls,
        addresses=addresses,
        folder=folder,
        names=names,
    )


def _material(
    config: DistributorConfig, folder: IdentityFolder, names: tuple[str, ...]
) -> ListenerFiles:
    listening = (config.device_address, config.operator_address, config.enrolment_address)
    hosts = {one.rpartition(":")[0].strip("[]") for one in listening if one[:5] != "unix:"}
    own = {"localhost", "127.0.0.1", "::1", *hosts.difference(_ANYWHERE), *names}
    machine = socket.gethostname()
    if machine.isascii() and machine:
        own.add(machine)
    return ListenerFiles(
        folder,
        names=frozenset(own - {""}),
        certificate=_path(config.listener_certificate),
        key=_path(config.listener_key),
        clients=_path(config.client_authorities),
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None
