"""The verdict: what the figures come to, by rule, in a sentence each."""

from __future__ import annotations

from ddpm.evaluation.figures.intervals import share_excess
from ddpm.evaluation.figures.numbers import NOT_MEASURED, between
from ddpm.evaluation.likeness import BAD, FAIR, GOOD, UNKNOWN, Finding, likeness
from ddpm.evaluation.report import Closer, Copying, CopyingIn, Nearness, Report, Verdict


def verdict(report: Report) -> list[Finding]:
    """What the figures come to: likeness, copying, coverage, and the judge's word where it was asked."""
    found = [likeness(report), _copies(report), _all_kinds(report)]
    judge = report.get("judge")
    return [*found, _judged(judge)] if judge else found


def _copies(report: Report) -> Finding:
    copying = report.get("copying") or Copying()
    share, usual, surely = copying.get("share"), copying.get("share_held_out"), copying.get("excess_low")
    if share is None:
        return Finding(UNKNOWN, "Copying", NOT_MEASURED)
    words = f"{share:.1%} look like copies of a training picture"
    if usual is None:
        return Finding(UNKNOWN, "Copying", f"{words}; there are no held-out pictures to say what is usual.")
    words += f", and {usual:.1%} of unseen real pictures do"
    if surely is not None and surely > 0:
        return Finding(BAD, "Copying", f"{words}: {surely:.1%} too many at least.")
    words += ": no more than usual, beyond the interval."
    if leaning := _leaning(copying):
        return Finding(FAIR, "Copying", f"{words} But {leaning}.")
    return Finding(GOOD, "Copying", words)


def _leaning(copying: Copying) -> str:
    """What there is to say where pictures are no copies, but lie nearer to the training pictures than unseen ones do.

    Two witnesses must agree. A model that draws one bad picture all the time may have them all nearer to a training
    picture, by chance, but no nearer than real ones; one that draws grey is near to everything, the unseen too.
    """
    for name, facts in spaces(copying):
        generated, real = facts.get("generated") or Nearness(), facts.get("held_out") or Nearness()
        share, usual = generated.get("nearer_to_train"), real.get("nearer_to_train")
        low = (facts.get("closer") or Closer()).get("low")
        if share is None or usual is None or low is None or low <= 0.5:
            continue
        if share_excess(share, generated["n"], usual, real["n"])[1] > 0:
            return f"by {name} {share:.1%} are nearer to training pictures than to as many unseen ones, and {usual:.1%} of unseen real pictures are: it begins to learn its pictures by heart"
    return ""


def spaces(copying: Copying) -> list[tuple[str, CopyingIn]]:
    """Where copies were looked for, as a person says it, and what was found there."""
    found = [("pixels", copying.get("pixel")), ("features", copying.get("feature"))]
    return [(name, facts) for name, facts in found if facts]


def _all_kinds(report: Report) -> Finding:
    coverage, recall = report.get("coverage"), report.get("recall")
    words = f" Recall {recall:.2f}." if recall is not None else ""
    if not coverage:
        return Finding(UNKNOWN, "Coverage", f"By kind: {NOT_MEASURED}.{words}")
    many = {"class": "classes"}.get(coverage["by"], f"{coverage['by']}s")
    apart = f"Shares are {coverage['distance']:.1%} apart, where chance alone gives {coverage['by_chance']:.1%}.{words}"
    if coverage["missing"]:
        missing = ", ".join(coverage["missing"][:8]) + (" …" if len(coverage["missing"]) > 8 else "")
        return Finding(BAD, "Coverage", f"Drawn less than half as often as they should be: {missing}. {apart}")
    level = GOOD if coverage["distance"] <= 3 * coverage["by_chance"] else FAIR
    return Finding(level, "Coverage", f"None of {len(coverage['rows'])} {many} is missing. {apart}")


def _judged(judge: Verdict) -> Finding:
    if not judge["reported"]:
        return Finding(UNKNOWN, "Judge", f"No score: {judge['why']}.")
    score, real, other = judge["score"], judge["controls"]["real"], judge["controls"]["other"]
    assert score and real and other, "a score is reported where all three kinds have one"
    words = f"{score['mean']:.2f} of 5{between(score['low'], score['high'])}; real pictures have {real['mean']:.2f}, something else {other['mean']:.2f}."
    if score["high"] >= real["low"]:
        return Finding(GOOD, "Judge", words)
    return Finding(FAIR if score["low"] > other["high"] else BAD, "Judge", words)
