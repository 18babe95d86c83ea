"""Whether a version may take the champion's place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ddpm.evaluation.protocol import difference, measurement_of, require_same_measurement


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why, in one line."""

    promote: bool
    why: str


def decide(candidate: dict[str, Any], champion: dict[str, Any] | None) -> Decision:
    """Promote what is not worse by FID or KID and better by one of them, beyond the 95% intervals; or the first at all.

    Both are reports. Raises Refused, naming the field, where they were measured differently.
    """
    for metric in ("fid", "kid"):
        if not (math.isfinite(float(candidate[metric])) and math.isfinite(float(candidate[f"{metric}_std"]))):
            return Decision(
                False, f"its {metric.upper()} is {candidate[metric]} ± {candidate[f'{metric}_std']}, not a number"
            )
    if champion is None:
        return Decision(True, "the first version of this model")
    require_same_measurement(measurement_of(candidate, "candidate"), measurement_of(champion, "champion"))
    found = {metric: difference(champion, candidate, metric) for metric in ("fid", "kid")}
    words = "; ".join(
        f"{metric.upper()} {candidate[metric]:.4g} against {champion[metric]:.4g} "
        f"(difference {change['difference']:+.3g}, 95% from {change['low']:+.3g} to {change['high']:+.3g})"
        for metric, change in found.items()
    )
    worse = [metric.upper() for metric, change in found.items() if change["low"] > 0]
    better = [metric.upper() for metric, change in found.items() if change["high"] < 0]
    if worse:
        return Decision(False, f"worse by {' and '.join(worse)}: {words}")
    if better:
        return Decision(True, f"better by {' and '.join(better)}: {words}")
    return Decision(False, f"not better beyond the intervals: {words}")
