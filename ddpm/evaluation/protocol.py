"""What a figure means, and when two may be compared.

A report carries its protocol in two halves. `measurement`: what was measured with what, against what. `generation`: how
the pictures were made. Figures compare only where their measurement is equal.
"""

from __future__ import annotations

import math
from typing import Any

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.figures.uncertainty import Z

SIDE_BY_SIDE = (
    "metric", "fid", "fid_std", "kid", "kid_std", "precision", "recall", "inception_score", "n", "noise_floor", "excess",
    "fid_infinity",
)  # fmt: skip
HIGHER_IS_BETTER = ("precision", "recall")


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
    """Two reports side by side: `a`, `b` (their figures) and, by metric, difference (b's less a's), low, high and better.

    `better` is "a" or "b" where the 95% interval of the difference leaves out 0, else "neither". Raises Refused where they
    were measured differently, WrongInput where one is no report.
    """
    require_same_measurement(measurement_of(a, "A"), measurement_of(b, "B"))
    figures = [{name: report[name] for name in SIDE_BY_SIDE if name in report} for report in (a, b)]
    changes = {metric: difference(a, b, metric) for metric in ("fid", "kid")}
    changes |= {
        metric: _of_intervals(a, b, metric)
        for metric in ("precision", "recall")
        if all(metric in report and metric in (report.get("intervals") or {}) for report in (a, b))
    }
    return {"a": figures[0], "b": figures[1], **{metric: _judged(metric, change) for metric, change in changes.items()}}


def _of_intervals(a: dict[str, Any], b: dict[str, Any], metric: str) -> dict[str, float]:
    """The difference of two shares, with its interval from each one's own (Newcombe 1998, method 10)."""
    value = float(b[metric]) - float(a[metric])
    (a_low, a_high), (b_low, b_high) = (report["intervals"][metric] for report in (a, b))
    down, up = math.hypot(b[metric] - b_low, a_high - a[metric]), math.hypot(b_high - b[metric], a[metric] - a_low)
    return {"difference": value, "low": value - down, "high": value + up}


def _judged(metric: str, change: dict[str, float]) -> dict[str, Any]:
    risen, fallen = change["low"] > 0, change["high"] < 0
    if not (risen or fallen):
        return {**change, "better": "neither"}
    return {**change, "better": "b" if risen == (metric in HIGHER_IS_BETTER) else "a"}


def table(found: dict[str, Any]) -> str:
    """What `compare` found, as a person reads it."""
    a, b = found["a"], found["b"]
    rows = [("", "A", "B", "B - A", "95%", "better")]
    for metric in ("fid", "kid", "precision", "recall"):
        if change := found.get(metric):
            better = {"a": "A", "b": "B"}.get(change["better"], "neither")
            between = f"{change['low']:+.3g} to {change['high']:+.3g}"
            rows.append(
                (metric, f"{a[metric]:.4g}", f"{b[metric]:.4g}", f"{change['difference']:+.3g}", between, better)
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if floor := a.get("noise_floor"):
        note = " (extrapolated)" if floor.get("extrapolated") else ""
        lines.append(f"noise floor: FID {floor['fid']:.4g}{note}, KID {floor['kid']:.4g}")
    return "\n".join([f"{a.get('metric', 'fid')}, {a.get('n', 'as many')} pictures each", *lines])
