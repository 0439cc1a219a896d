"""Operators: who they are, what they may do, and short-lived tokens for pipelines.

``decide`` is pure and knows every method; the records say who has which role where.
"""

from distributor.operators.records import (
    Operator,
    add_operator,
    find_operator,
    list_operators,
    remove_operator,
    set_grants,
)
from distributor.operators.roles import (
    ADMIN,
    DEPLOYER,
    EVERYWHERE,
    PUBLISHER,
    ROLES,
    VIEWER,
    Grant,
    within,
)
from distributor.operators.rules import LASTING, RULES, Decision, Rule, decide
from distributor.operators.tokens import Minted, TokenBearer, bearer_of, forget_tokens, mint

__all__ = [
    "ADMIN",
    "DEPLOYER",
    "EVERYWHERE",
    "LASTING",
    "PUBLISHER",
    "ROLES",
    "RULES",
    "VIEWER",
    "Decision",
    "Grant",
    "Minted",
    "Operator",
    "Rule",
    "TokenBearer",
    "add_operator",
    "bearer_of",
    "decide",
    "find_operator",
    "forget_tokens",
    "list_operators",
    "mint",
    "remove_operator",
    "set_grants",
    "within",
]
