"""What a figure means, and when two may be compared.

A report carries its protocol in two halves. `measurement`: what was measured with what, against what. `generation`: how
the pictures were made. Figures compare only where their measurement is equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.figures.numbers import Z
from ddpm.evaluation.figures.table import DECISIVE, FIGURES, Interval
from ddpm.evaluation.report import Generation, Measurement, Report, is_sealed, number_in

BESIDE = ("metric", "n", "noise_floor", "excess", "warnings")  # what `compare` shows of a report besides its figures


class Change(TypedDict):
    """One report's figure less another's, and its 95% interval: None where nobody knows it."""

    difference: float
    low: float | None
    high: float | None


class Judged(Change):
    """`better` is "a" or "b" where the interval leaves out 0, else "neither"."""

    better: str


Compared = dict[str, Any]  # a, b: what is shown of either report; by a figure's name: Judged


def drawn_in_words(generation: Generation) -> str:
    """How the pictures were made, in a few words; nothing where that is not known, as of a folder of pictures."""
    if "sampler" not in generation:
        return ""
    words = [generation["sampler"], f"{generation.get('sampling_steps', 0):,} steps"]
    if (guidance := generation.get("guidance", 1.0)) != 1:
        guide = generation.get("guide")
        words.append(f"guidance {guidance:g}" + (f" by the weaker weights {guide[:12]}" if guide else ""))
    return ", ".join(words)


def require_same_measurement(a: Mapping[str, object], b: Mapping[str, object]) -> None:
    """Raise Refused, naming the first field that differs, unless two measurements are equal."""
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            raise Refused(
                f"the measurements differ in {name}: {a.get(name)!r} and {b.get(name)!r}; evaluate both in the same way"
            )


def measurement_of(report: Report, name: str = "report") -> Measurement:
    """The measurement half of a report's protocol. Raises WrongInput where it has none, or where figures were edited."""
    figures = cast(Mapping[str, Any], report)
    if isinstance(report, dict) and not is_sealed(figures):
        raise WrongInput(
            f"{name}: what it says is not what was measured; give what `ddpm evaluate --json` printed, as it is"
        )
    try:
        for figure in DECISIVE:
            float(figures[figure])
            float(figures[f"{figure}_std"])
        return cast(Measurement, dict(report["protocol"]["measurement"]))
    except (KeyError, TypeError, ValueError):
        raise WrongInput(
            f"{name}: no report with figures and a protocol; give what `ddpm evaluate --json` printed"
        ) from None


def difference(a: Report, b: Report, name: str) -> Change | None:
    """b's figure less a's, by the way in which its interval is formed; None where one of them does not have it."""
    one, other = number_in(a, name), number_in(b, name)
    if one is None or other is None:
        return None
    value = float(other) - float(one)
    if FIGURES[name].interval is Interval.NONE:
        return {"difference": value, "low": None, "high": None}
    if FIGURES[name].interval is Interval.STD:
        stds = number_in(a, f"{name}_std"), number_in(b, f"{name}_std")
        if stds[0] is None or stds[1] is None:
            return None
        half = Z * math.hypot(float(stds[0]), float(stds[1]))
        return {"difference": value, "low": value - half, "high": value + half}
    # Of shares, from each one's own interval (Newcombe 1998, method 10).
    ends, other_ends = ((report.get("intervals") or {}).get(name) for report in (a, b))
    if ends is None or other_ends is None:
        return None
    (a_low, a_high), (b_low, b_high) = ends, other_ends
    down, up = math.hypot(other - b_low, a_high - one), math.hypot(b_high - other, one - a_low)
    return {"difference": value, "low": value - down, "high": value + up}


def compare(a: Report, b: Report) -> Compared:
    """Two reports side by side: `a`, `b` (their figures) and, by figure, difference (b's less a's), low, high and better.

    Raises Refused where they were measured differently, WrongInput where one is no report.
    """
    require_same_measurement(measurement_of(a, "A"), measurement_of(b, "B"))
    shown = (*BESIDE, *FIGURES, *(f"{name}_std" for name, figure in FIGURES.items() if figure.interval is Interval.STD))
    found: Compared = {
        side: {name: value for name, value in report.items() if name in shown} for side, report in (("a", a), ("b", b))
    }
    for name, figure in FIGURES.items():
        if figure.measure and (change := difference(a, b, name)):
            found[name] = _judged(change, figure.higher_is_better)
    return found


def _judged(change: Change, higher_is_better: bool) -> Judged:
    low, high = change["low"], change["high"]
    risen, fallen = low is not None and low > 0, high is not None and high < 0
    better = "neither" if not (risen or fallen) else "b" if risen == higher_is_better else "a"
    return {**change, "better": better}
