"""Numbers as people read them."""

from __future__ import annotations

import math

Z = 1.96  # a 95% interval in standard deviations
NOT_MEASURED = "not measured"


def number(value: float | None) -> str:
    """Four digits, or that it was not measured."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:.6f}" if 1e-6 < abs(value) < 1e-4 else f"{value:.4g}"


def share(value: float | None) -> str:
    """As a percentage."""
    return NOT_MEASURED if value is None else f"{value:.1%}"


def distance_name(name: str, metric: str | None, n: int | None = None) -> str:
    """fid_768 (n=128): a distance with its features, as `metric` ("fid_768") has them, and the number of pictures."""
    features = (metric or "fid").removeprefix("fid")
    return f"{name}{features}" + (f" (n={n})" if n else "")


def plus_minus(value: float, std: float | None, digits: int = 4) -> str:
    """A figure with half its 95% interval, where that is known."""
    return f"{value:.{digits}g}" + ("" if std is None else f" ± {Z * std:.2g}")


def between(low: float | None, high: float | None) -> str:
    """A 95% interval behind its figure; nothing where there is none."""
    return "" if low is None or high is None else f" (95%: {number(low)} to {number(high)})"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8.4 s, 3 min 50 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
