"""What a figure is measured of: one draw's pictures, as one side of a reference sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from ddpm.evaluation.figures.precision_recall import precision_recall
from ddpm.evaluation.reference import Reference, Side


class Value(NamedTuple):
    """A figure, and the standard deviation of its own uncertainty, where it is known."""

    value: float
    std: float | None = None


@dataclass
class Drawn:
    """What is kept of one draw's pictures: each side's features [n,d] and, where there are any, logits [n,classes], and
    what a figure's `look` gave of them, by its name, [n,…]."""

    features: list[Tensor]
    logits: list[Tensor]
    looks: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.features[0])


@dataclass(frozen=True)
class Sample:
    """Generated pictures' features [n,d] beside a side's real ones; `looks` [n,…] are of the pictures themselves."""

    reference: Reference
    side: Side
    features: Tensor
    looks: Mapping[str, Tensor]

    @cached_property
    def finite(self) -> bool:
        return bool(self.features.isfinite().all())

    @cached_property
    def precision_recall(self) -> tuple[float, float]:
        """Both at once: they come from the same distances."""
        return precision_recall(self.features, self.side.real, self.side.radii)


def samples(reference: Reference, drawn: Drawn) -> list[Sample]:
    """A draw, side by side."""
    return [
        Sample(reference, side, features, drawn.looks)
        for side, features in zip(reference.sides, drawn.features, strict=True)
    ]
