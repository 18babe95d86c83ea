"""How much generated pictures are like the real ones, graded by rule: what the page, the terminal and the gate go by.

FID grades where there are enough pictures for its features. Where there are not, KID does, which has no bias: by what
it has above its noise floor, in shares of what noise has (`figures/noise.py`). docs/evaluation.md says how the limits
were found.
"""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.evaluation.figures.intervals import is_biased
from ddpm.evaluation.figures.numbers import NOT_MEASURED, between, number, share
from ddpm.evaluation.figures.table import FIGURES
from ddpm.evaluation.report import BesideNoise, Excess, Measurement, NoiseFloor, Protocol, Report

GOOD, FAIR, BAD, UNKNOWN = "good", "fair", "bad", "unknown"  # a word and a sign on the page, not only a colour
LOW_PRECISION = 0.05  # below, next to no picture lies among the real ones
FAR = 0.25  # of the way from real pictures to noise: further is poor
NEAR = 0.1  # of that way: nearer may be good
FAR_BY_FID = 10  # times the noise floor: more is poor


@dataclass(frozen=True)
class Finding:
    """A sentence of the verdict, and how good that is."""

    level: str
    title: str
    text: str


def likeness(report: Report) -> Finding:
    """The grade: unknown where there are no more pictures than features, unless these are surely poor."""
    fid, floor, excess = report.get("fid"), report.get("noise_floor") or NoiseFloor(), report.get("excess") or Excess()
    if fid is None or floor.get("fid") is None or excess.get("fid") is None or excess.get("kid") is None:
        return Finding(UNKNOWN, "Likeness", NOT_MEASURED)
    by_kid = _in_words(report)
    if problem := _surely_poor(report):
        return Finding(BAD, "Likeness", problem + by_kid)
    measurement = (report.get("protocol") or Protocol()).get("measurement") or Measurement()
    n, features = report.get("n") or 0, measurement.get("layer")
    if features and n <= features:
        few = f"No verdict: {n:,} pictures are too few for {features:,} features; {features + 1:,} are the least."
        return Finding(UNKNOWN, "Likeness", few + by_kid)
    fewest = min(n, measurement.get("n_real") or n)
    low, high = excess.get("fid_interval") or (None, None)
    words = (
        f"{FIGURES['fid'].named(report)} {number(fid)}, where real pictures against other real ones have "
        f"{number(floor['fid'])}: {number(excess['fid'])} above that{between(low, high)}."
    )
    if features and is_biased(fewest, features):
        words += f" {fewest:,} pictures are few for {features:,} features, so KID is what grades."
        return Finding(_grade_by_kid(report), "Likeness", words + by_kid)
    grade = GOOD if low is not None and low <= 0 else FAIR if fid <= FAR_BY_FID * floor["fid"] else BAD
    return Finding(_worse(grade, _grade_by_kid(report)), "Likeness", words + by_kid)


def told_from_noise(report: Report, limit: float) -> bool | None:
    """Whether anything tells the pictures from noise: KID's excess is below `limit` times that of noise.

    A report of an earlier release says nothing of noise: False where its precision is next to 0, else None.
    """
    way = way_to_noise(report)
    if way is None:
        return False if _precision(report) < LOW_PRECISION else None
    return way < limit


def way_to_noise(report: Report) -> float | None:
    """How far the pictures are from real ones by KID: 0 as real ones are, 1 as noise is. None where it is not known."""
    return _noise(report)["share"]


def _noise(report: Report) -> BesideNoise:
    return report.get("noise") or BesideNoise(kid=0.0, n=0, share=None, interval=None)


def _precision(report: Report) -> float:
    precision = report.get("precision")
    return 1.0 if precision is None else precision


def _surely_poor(report: Report) -> str:
    """What makes pictures poor, however few they are; nothing where nothing does."""
    if _precision(report) < LOW_PRECISION:
        return f"Next to none lie among the real pictures (precision {share(_precision(report))})."
    low, _ = _interval(report)
    return "Far from real pictures." if low is not None and low >= FAR else ""


def _interval(report: Report) -> tuple[float | None, float | None]:
    low, high = _noise(report)["interval"] or (None, None)
    return low, high


def _grade_by_kid(report: Report) -> str:
    """By the way to noise; where that is not known, by whether KID has anything above its noise floor."""
    way, (low, _) = way_to_noise(report), _interval(report)
    if way is None:
        kid_low, _ = (report.get("excess") or Excess()).get("kid_interval") or (None, None)
        return GOOD if kid_low is not None and kid_low <= 0 else UNKNOWN
    if way >= FAR:
        return BAD
    return GOOD if low is not None and low <= 0 and way < NEAR else FAIR


def _in_words(report: Report) -> str:
    """A sentence, with a space before it, of what KID says."""
    way, (low, high) = way_to_noise(report), _interval(report)
    if way is None:
        return " How far noise would be was not measured: evaluate again."
    sure = "" if low is None or high is None else f" (95%: {max(low, 0):.0%} to {max(high, 0):.0%})"
    return f" By KID {max(way, 0):.0%} of the way from real pictures to noise{sure}."


def _worse(a: str, b: str) -> str:
    return max(a, b, key=(GOOD, UNKNOWN, FAIR, BAD).index)
