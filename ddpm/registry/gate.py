"""Whether a version may take the champion's place: rules, each with its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddpm.evaluation.figures.table import DECISIVE, FIGURES
from ddpm.evaluation.likeness import told_from_noise, way_to_noise
from ddpm.evaluation.protocol import difference, measurement_of, require_same_measurement
from ddpm.evaluation.report import Report, number_in


@dataclass(frozen=True)
class Rule:
    """A rule of the gate, whether the version passes it, and the numbers that it went by, in words."""

    name: str
    passed: bool
    says: str


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why, in one line; and all rules that it looked at."""

    promote: bool
    why: str
    rules: Sequence[Rule] = ()


def decide(
    candidate: Report,
    champion: Report | None,
    copying_gate: float = 1.0,
    noise_gate: float = 1.0,
    before: Sequence[Rule] = (),
    first: str = "the first version of this model",
) -> Decision:
    """Promote what is not worse by FID or KID and better by one of them, beyond the 95% intervals; or the first at all.

    What copies its training pictures is not promoted, however good its figures: they reward it. Nor is a first version
    whose pictures nothing tells from noise: there is no champion that it would have to be better than.

    Args:
        candidate, champion: reports.
        copying_gate: the share of copies, over that which held-out pictures seem to hold, that is borne; 1: any.
        noise_gate: the share of the way to noise, by KID, at which a first version is no more told from it; 1: any is.
        before: rules that were looked at before, and that must hold too.
        first: why there is no champion.
    Raises: Refused, naming the field, where they were measured differently.
    """
    rules = [*before, *by_itself(candidate, copying_gate).rules]
    if champion is None:
        rules.append(_noise(candidate, noise_gate))
    elif all(rule.passed for rule in [*before, *(_number(candidate, name) for name in DECISIVE)]):
        rules += _against(candidate, champion)  # what is of other data, or no number, does not compare
    if failed := [rule for rule in rules if not rule.passed]:
        return Decision(False, failed[0].says, rules)
    return Decision(True, first if champion is None else rules[-1].says, rules)


def by_itself(candidate: Report, copying_gate: float = 1.0) -> Decision:
    """What can be said of a version without another one beside it: whether its figures are numbers, and whether it copies."""
    rules = [*(_number(candidate, name) for name in DECISIVE), _copying(candidate, copying_gate)]
    failed = [rule.says for rule in rules if not rule.passed]
    return Decision(not failed, failed[0] if failed else "", rules)


def _number(candidate: Report, name: str) -> Rule:
    value, std = number_in(candidate, name), number_in(candidate, f"{name}_std")
    title = FIGURES[name].title
    if value is None or std is None or not (math.isfinite(float(value)) and math.isfinite(float(std))):
        return Rule(f"{title} is a number", False, f"its {title} is {value} ± {std}, not a number")
    return Rule(f"{title} is a number", True, f"{float(value):.4g} ± {float(std):.2g}")


def _copying(candidate: Report, gate: float) -> Rule:
    name, found = "it does not copy", candidate.get("copying")
    if gate >= 1:
        return Rule(name, True, "copying_gate 100% bears any copies")
    if found is None:
        return Rule(name, False, "its report says nothing of copying, which copying_gate asks for; evaluate it again")
    held_out = "" if found["share_held_out"] is None else f" (of held-out ones {found['share_held_out']:.1%})"
    copies = f"{found['share']:.1%} of its pictures are copies of training pictures{held_out}"
    if found["excess_low"] <= gate:
        return Rule(
            name, True, f"{copies}: surely too many {max(0.0, found['excess_low']):.1%}, copying_gate {gate:.1%}"
        )
    return Rule(name, False, f"it copies: {copies}, surely more than copying_gate {gate:.1%} bears")


def _noise(candidate: Report, gate: float) -> Rule:
    """Whether anything tells the pictures from noise, as the verdict's likeness does."""
    name, told, way = "its pictures are told from noise", told_from_noise(candidate, gate), way_to_noise(candidate)
    if gate >= 1:
        return Rule(name, True, "noise_gate 100% takes any first version")
    if told is None and "noise" not in candidate:
        return Rule(name, True, "its report, of an earlier release, says nothing of noise: noise_gate was not asked")
    if way is not None:
        found = f"by KID they are {max(way, 0):.1%} of the way from real ones to noise"
    elif told is False:
        found = "next to none lie among the real ones (precision)"
    else:
        found = "the extractor that measured them does not tell noise from real pictures"
    if told:
        return Rule(name, True, f"{found}, noise_gate {gate:.1%}")
    right = f"a first champion must be below noise_gate {gate:.1%}; train it longer"
    return Rule(name, False, f"nothing tells its pictures from noise: {found}, and {right}")


def _against(candidate: Report, champion: Report) -> list[Rule]:
    """Not worse by either figure, and better by one."""
    require_same_measurement(measurement_of(candidate, "candidate"), measurement_of(champion, "champion"))
    rules: list[Rule] = []
    words: list[str] = []
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
        worse = (risen or fallen) and risen != figure.higher_is_better
        if (risen or fallen) and not worse:
            better.append(figure.title)
        rules.append(Rule(f"not worse by {figure.title}", not worse, words[-1]))
    if failed := [rule for rule in rules if not rule.passed]:
        titles = " and ".join(rule.name.removeprefix("not worse by ") for rule in failed)
        return [
            *(rule for rule in rules if rule.passed),
            Rule("not worse", False, f"worse by {titles}: {'; '.join(words)}"),
        ]
    if better:
        return [*rules, Rule("better by one of them", True, f"better by {' and '.join(better)}: {'; '.join(words)}")]
    return [*rules, Rule("better by one of them", False, f"not better beyond the intervals: {'; '.join(words)}")]
