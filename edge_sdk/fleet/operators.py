"""Operators and their roles, and tokens for pipelines, from an operator's side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.fleet.connection import Connection
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos.operators_v1_pb2_grpc import OperatorServiceStub


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who may operate the fleet. Roles: ``publisher@team``, ``admin`` (in every namespace).

    via: of the caller only: what proved who it is ("certificate", "token", "plaintext").
    """

    operator: str
    roles: tuple[str, ...]
    added_ms: int = 0
    added_by: str = ""
    via: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A new token. ``secret`` is kept nowhere: not by the distributor, and not here."""

    secret: str
    token: str
    roles: tuple[str, ...]
    expires_ms: int
    address: str = ""  # where it is taken; empty: this distributor takes none

    def __repr__(self) -> str:
        return f"Token(token={self.token!r}, roles={self.roles!r}, expires_ms={self.expires_ms})"


class Operators:
    """Who may do what. Every method raises ForbiddenError where the caller may not."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = OperatorServiceStub(connection.channel)
        self._deadline_s = connection.patience.deadline_s

    def who_am_i(self) -> Operator:
        """The caller, and what they may do."""
        request = wire.WhoAmIRequest()
        return _operator(
            self._connection.repeat(lambda: self._stub.WhoAmI(request, timeout=self._deadline_s))
        )

    def list(self) -> tuple[Operator, ...]:
        """All operators, by name."""
        request = wire.ListOperatorsRequest()
        answer = self._connection.repeat(
            lambda: self._stub.ListOperators(request, timeout=self._deadline_s)
        )
        return tuple(_operator(one) for one in answer.operators)

    def add(self, operator: str, roles: Sequence[str]) -> Operator:
        """Raises: ConflictError (there already), UsageError (no such role)."""
        request = wire.AddOperatorRequest(operator=operator, roles=roles)
        return _operator(
            self._connection.once(lambda: self._stub.AddOperator(request, timeout=self._deadline_s))
        )

    def set_roles(self, operator: str, roles: Sequence[str]) -> Operator:
        """Replaces all roles. Raises: NotFoundError, RefusedError (no admin would be left)."""
        request = wire.SetRolesRequest(operator=operator, roles=roles)
        return _operator(
            self._connection.repeat(lambda: self._stub.SetRoles(request, timeout=self._deadline_s))
        )

    def remove(self, operator: str) -> Operator:
        """Raises: NotFoundError, RefusedError (no admin would be left)."""
        request = wire.RemoveOperatorRequest(operator=operator)
        return _operator(
            self._connection.once(
                lambda: self._stub.RemoveOperator(request, timeout=self._deadline_s)
            )
        )

    def token(
        self,
        *,
        operator: str = "",
        roles: Sequence[str] = (),
        life_s: float = 900,
        purpose: str = "",
    ) -> Token:
        """A token for a pipeline: for oneself, or, as an admin, for another operator.

        Raises: RefusedError (more than that operator may, or asked for by a token), UsageError.
        """
        request = wire.MintTokenRequest(
            operator=operator, roles=roles, life_s=life_s, purpose=purpose
        )
        answer = self._connection.once(
            lambda: self._stub.MintToken(request, timeout=self._deadline_s)
        )
        return Token(
            secret=answer.secret,
            token=answer.token,
            roles=tuple(answer.roles),
            expires_ms=answer.expires_ms,
            address=answer.address,
        )


def _operator(message: wire.Operator) -> Operator:
    return Operator(
        operator=message.operator,
        roles=tuple(message.roles),
        added_ms=message.added_ms,
        added_by=message.added_by,
        via=message.via,
    )
