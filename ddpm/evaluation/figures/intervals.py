"""Intervals of figures, and whether there are pictures enough for one: of their values alone, without the pictures."""

from __future__ import annotations

import math

from ddpm.evaluation.figures.numbers import Z

ENOUGH = 10  # pictures a feature, for FID to be trusted


def is_biased(n: int, features: int) -> bool:
    """Whether n pictures are so few for so many features that FID's bias is felt: below ten times as many."""
    return n < ENOUGH * features


def students_t(degrees: int) -> float:
    """A 95% interval in standard deviations that were found with so few degrees of freedom, to three decimals."""
    from scipy.stats import t

    return round(float(t.ppf(0.975, degrees)), 3)


def interval(value: float, std: float) -> list[float]:
    """The 95% interval of a figure with a normal error."""
    return [value - Z * std, value + Z * std]


def share_interval(share: float, n: int) -> list[float]:
    """The 95% interval of a share of n pictures (Wilson 1927)."""
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return [min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))]


def share_excess(share: float, n: int, other: float, m: int) -> tuple[float, float]:
    """One share of n less another of m, and the lower end of the difference's 95% interval (Newcombe 1998, method 10)."""
    low, high = share_interval(share, n)[0], share_interval(other, m)[1]
    excess = share - other
    return excess, excess - math.hypot(share - low, high - other)
