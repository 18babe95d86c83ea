"""What a report says of one figure."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.evaluation.figures.numbers import Z


@dataclass(frozen=True)
class Reading:
    """A figure's value and 95% interval, as far as the report has them.

    `beside` is what real pictures have, and a `note` to that; `meaning` is there where it depends on the report.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    beside: float | None = None
    note: str = ""
    meaning: str = ""


def with_std(value: float | None, std: float | None, beside: float | None = None, meaning: str = "") -> Reading:
    """A figure with its standard deviation."""
    if value is None or std is None:
        return Reading(value, beside=beside, meaning=meaning)
    return Reading(value, value - Z * std, value + Z * std, beside, meaning=meaning)
