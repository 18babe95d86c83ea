"""What a report says of one figure, and how that is found where it does not stand under the figure's name."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.evaluation.figures.numbers import Z, between, number
from ddpm.evaluation.report import InceptionScore, Report


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


def read_infinity(report: Report) -> Reading:
    return with_std(report.get("fid_infinity"), report.get("fid_infinity_std"), beside=0.0)


def read_held_out(report: Report) -> Reading:
    """FID's part, with what it says about the model."""
    found = report.get("held_out")
    if not found:
        return Reading(None)
    real, training = found.get("held_out") or {}, found.get("train") or {}
    drawn = f"{report.get('n')} pictures " if report.get("n") else ""
    words = f"{drawn}against {found.get('n')} of either"
    apart = (found.get("difference") or {}).get("fid")
    if apart is None or apart["low"] is None or apart["high"] is None:
        words += "; far above training: it fits what it has seen"
    else:
        fits = "it fits what it has seen" if apart["low"] > 0 else "none beyond the interval"
        words += f"; difference {number(apart['difference'])}{between(apart['low'], apart['high'])}: {fits}"
    return Reading(real.get("fid"), beside=training.get("fid"), note=" (training)", meaning=words)


def read_inception_score(report: Report) -> Reading:
    found = report.get("inception_score") or InceptionScore()
    return with_std(found.get("mean"), found.get("std"), meaning=found.get("why") or "")


def read_recognisable(report: Report) -> Reading | None:
    found = report.get("recognisable")
    return Reading(found["generated"], beside=found["real"], note=" (real)") if found else None
