"""What alignment answers with."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.delta.numeric import ElementKind
from edge_sdk.delta.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedRange:
    """Target bytes ``start`` to ``end`` and what they are predicted from.

    ``kind`` is None where the bytes are no numbers. Without ``prediction`` they are predicted
    by as many source bytes from ``source_start`` on; otherwise by ``prediction`` from its
    beginning. Where ``is_predicted`` is false nothing predicts them: only the kind is known.
    """

    start: int
    end: int
    source_file: int
    source_start: int
    kind: ElementKind | None
    prediction: Prediction | None = None
    is_predicted: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether source bytes as they are predict it."""
        return self.is_predicted and self.prediction is None
