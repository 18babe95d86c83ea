"""Whether a version may take the champion's place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ddpm.evaluation.figures.table import DECISIVE, FIGURES
from ddpm.evaluation.protocol import difference, measurement_of, require_same_measurement
from ddpm.evaluation.report import Report, number_in


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why, in one line."""

    promote: bool
    why: str


def decide(candidate: Report, champion: Report | None, copying_gate: float = 1.0) -> Decision:
    """Promote what is not worse by FID or KID and better by one of them, beyond the 95% intervals; or the first at all.

    What copies its training pictures is not promoted, however good its figures: they reward it.

    Args:
        candidate, champion: reports.
        copying_gate: the share of copies, over that which held-out pictures seem to hold, that is borne; 1: any.
    Raises: Refused, naming the field, where they were measured differently.
    """
    for name in DECISIVE:
        value, std = number_in(candidate, name), number_in(candidate, f"{name}_std")
        if value is None or std is None or not (math.isfinite(float(value)) and math.isfinite(float(std))):
            return Decision(False, f"its {FIGURES[name].title} is {value} ± {std}, not a number")
    if problem := _copying(candidate, copying_gate):
        return Decision(False, problem)
    if champion is None:
        return Decision(True, "the first version of this model")
    require_same_measurement(measurement_of(candidate, "candidate"), measurement_of(champion, "champion"))
    words: list[str] = []
    worse: list[str] = []
    better: list[str] = []
    for figure in (FIGURES[name] for name in DECISIVE):
        change = difference(champion, candidate, figure.name)
        assert change, "measurement_of has seen that both have it"
        low, high = change["low"], change["high"]
        assert low is not None and high is not None, "figures that decide have intervals"
        words.append(
            f"{figure.named(candidate)} {number_in(candidate, figure.name):.4g} against {number_in(champion, figure.name):.4g} "
            f"(difference {change['difference']:+.3g}, 95% from {low:+.3g} to {high:+.3g})"
        )
        risen, fallen = low > 0, high < 0
        if risen or fallen:
            (better if risen == figure.higher_is_better else worse).append(figure.title)
    if worse:
        return Decision(False, f"worse by {' and '.join(worse)}: {'; '.join(words)}")
    if better:
        return Decision(True, f"better by {' and '.join(better)}: {'; '.join(words)}")
    return Decision(False, f"not better beyond the intervals: {'; '.join(words)}")


def _copying(candidate: Report, gate: float) -> str:
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
