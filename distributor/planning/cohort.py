"""Which devices a cohort means: names, or a selector of labels.

A selector is a comma-separated list of terms, all of which must hold:
``key=value``, ``key!=value`` (also true where the label is absent), ``key`` (the label is
there) and ``!key`` (it is not). No term means every device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from edge_sdk.base.errors import FormatError, UsageError
from edge_sdk.base.names import check_segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition on one label."""

    key: str
    how: Literal["is", "is_not", "present", "absent"]
    value: str = ""

    def holds(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        if self.how == "is":
            return found == self.value
        if self.how == "is_not":
            return found != self.value
        return (found is not None) == (self.how == "present")

    def __str__(self) -> str:
        forms = {
            "is": f"{self.key}={self.value}",
            "is_not": f"{self.key}!={self.value}",
            "present": self.key,
            "absent": f"!{self.key}",
        }
        return forms[self.how]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """All terms must hold; none: every device."""

    terms: tuple[Term, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(term.holds(labels) for term in self.terms)

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


def parse_selector(text: str) -> Selector:
    """Reads a selector such as ``site=berlin,tier!=test``. Raises: UsageError."""
    if not text.strip():
        return Selector()
    return Selector(terms=tuple(_parse_term(part.strip()) for part in text.split(",")))


def _parse_term(text: str) -> Term:
    if not text:
        raise UsageError("the selector has an empty term; write it as site=berlin,tier!=test")
    key, equals, value = text.partition("=")
    if not equals:
        negated = key.startswith("!")
        return Term(key=_label(key.removeprefix("!")), how="absent" if negated else "present")
    negated = key.endswith("!")
    key = _label(key.removesuffix("!").strip())
    return Term(key=key, how="is_not" if negated else "is", value=value.strip())


def _label(key: str) -> str:
    try:
        return check_segment(key, "label")
    except FormatError as error:
        raise UsageError(error.message) from None


def choose(
    devices: Mapping[str, Mapping[str, str]], *, names: Collection[str], selector: Selector
) -> tuple[str, ...]:
    """The devices of a cohort, sorted. ``devices`` maps names to labels.

    Names and a selector together: those of the names that the selector matches. A name that
    is no device is left out; the caller says so.
    """
    wanted = set(names) if names else set(devices)
    return tuple(sorted(name for name in wanted & set(devices) if selector.matches(devices[name])))
