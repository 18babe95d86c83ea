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


def decide(candidate: dict[str, Any], champion: dict[str, Any] | None, copying_gate: float = 1.0) -> Decision:
    """Promote what is not worse by FID or KID and better by one of them, beyond the 95% intervals; or the first at all.

    What copies its training pictures is not promoted, however good its figures: they reward it.

    Args:
        candidate, champion: reports.
        copying_gate: the share of copies, over that which held-out pictures seem to hold, that is borne; 1: any.
    Raises: Refused, naming the field, where they were measured differently.
    """
    for metric in ("fid", "kid"):
        if not (math.isfinite(float(candidate[metric])) and math.isfinite(float(candidate[f"{metric}_std"]))):
            return Decision(
                False, f"its {metric.upper()} is {candidate[metric]} ± {candidate[f'{metric}_std']}, not a number"
            )
    if problem := _copying(candidate, copying_gate):
        return Decision(False, problem)
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


def _copying(candidate: dict[str, Any], gate: float) -> str:
    """What is wrong with a report's copying, or nothing."""
    if gate >= 1:
        return ""
    found = candidate.get("copying")
    if found is None:
        return "its report says nothing of copying, which copying_gate asks for; evaluate it again"
    if found["excess_low"] <= gate:
        return ""
    held_out = "" if found["share_held_out"] is None else f" (of held-out ones {found['share_held_out']:.1%})"
    return f"it copies: {found['share']:.1%} of its pictures are copies of training pictures{held_out}, surely more than copying_gate {gate:.1%} bears"
