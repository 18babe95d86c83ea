"""What a run costs."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.fields import Typed, setting


@dataclass(frozen=True)
class CostSettings(Typed):
    """What a run's work costs, so that it can be said."""

    price_per_hour: float = setting(
        0.0, "what an hour of one device costs, in any currency", low=0, high=10**9, zero="not given"
    )
