"""What a figure means, and when two may be compared.

A report carries its protocol in two halves. `measurement`: what was measured with what, against what. `generation`: how
the pictures were made. Figures compare only where their measurement is equal.
"""

from __future__ import annotations

import math
from typing import Any

from ddpm.errors import Refused, WrongInput

Z = 1.96  # a 95% interval in standard deviations


def require_same_measurement(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Raise Refused, naming the first field that differs, unless two measurements are equal."""
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            raise Refused(
                f"the measurements differ in {name}: {a.get(name)!r} and {b.get(name)!r}; evaluate both in the same way"
            )


def measurement_of(report: dict[str, Any], name: str = "report") -> dict[str, Any]:
    """The measurement half of a report's protocol. Raises WrongInput where it has none."""
    try:
        for figure in ("fid", "fid_std", "kid", "kid_std"):
            float(report[figure])
        return dict(report["protocol"]["measurement"])
    except (KeyError, TypeError, ValueError):
        raise WrongInput(
            f"{name}: no report with figures and a protocol; give what `ddpm evaluate --json` printed"
        ) from None


def difference(a: dict[str, Any], b: dict[str, Any], metric: str) -> dict[str, float]:
    """b's figure minus a's, with the 95% interval of the difference."""
    value = float(b[metric]) - float(a[metric])
    half = Z * math.hypot(float(a[f"{metric}_std"]), float(b[f"{metric}_std"]))
    return {"difference": value, "low": value - half, "high": value + half}


def compare(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Two reports side by side: `a`, `b` (their figures) and, by metric, difference, low and high. Lower is better.

    Raises Refused where they were measured differently, WrongInput where one is no report.
    """
    require_same_measurement(measurement_of(a, "A"), measurement_of(b, "B"))
    names = ("metric", "fid", "fid_std", "kid", "kid_std", "n", "noise_floor")
    figures = [{name: report[name] for name in names if name in report} for report in (a, b)]
    return {"a": figures[0], "b": figures[1], **{metric: difference(a, b, metric) for metric in ("fid", "kid")}}
