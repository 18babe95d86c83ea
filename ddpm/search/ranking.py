"""Which model of several is the best: the mean of its ranks by FID and by KID.

Equal ranks go to the lower FID, then to the smaller network. Ranks depend on who else is ranked, so the result says
when leaving out one of the losers would have changed it. And they know nothing of chance: where a loser's figures are
within the interval of the best one's, the result says that it is a tie, of which one had to be taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ddpm.errors import WrongInput
from ddpm.evaluation.figures.numbers import Z, plus_minus

MOST_NAMED = 3  # in a sentence, of thousands


@dataclass(frozen=True)
class Candidate:
    """A model with its scores and, where they are known, their standard deviations; `parameters` only breaks ties."""

    model: str
    fid: float
    kid: float
    parameters: int = 0
    fid_std: float | None = None
    kid_std: float | None = None


@dataclass(frozen=True)
class Ranked:
    """A candidate with its ranks, 1 the best; equal scores share the mean of their ranks."""

    candidate: Candidate
    fid_rank: float
    kid_rank: float

    @property
    def mean_rank(self) -> float:
        return (self.fid_rank + self.kid_rank) / 2


def rank(candidates: Sequence[Candidate]) -> list[Ranked]:
    """All candidates, the best first. Raises WrongInput for none at all, a name given twice, or a score that is no number."""
    if not candidates:
        raise WrongInput("nothing to rank: give at least one model with an FID and a KID")
    names = Counter(candidate.model for candidate in candidates)
    for candidate in candidates:
        if names[candidate.model] > 1:
            raise WrongInput(f"model '{candidate.model}' is there more than once; names must differ")
        if not (math.isfinite(candidate.fid) and math.isfinite(candidate.kid)):
            raise WrongInput(
                f"model '{candidate.model}' has FID {candidate.fid} and KID {candidate.kid}; both must be finite numbers"
            )
    fid_ranks, kid_ranks = (rankdata([getattr(c, score) for c in candidates]).tolist() for score in ("fid", "kid"))
    ranked = [Ranked(*row) for row in zip(candidates, fid_ranks, kid_ranks, strict=True)]
    return sorted(ranked, key=lambda r: (r.mean_rank, *_before(r)))


def _before(ranked: Ranked) -> tuple[float, int, str]:
    """Which of equal ranks comes first."""
    return ranked.candidate.fid, ranked.candidate.parameters, ranked.candidate.model


def deciding(ranked: Sequence[Ranked]) -> list[tuple[Candidate, Candidate]]:
    """The losers without whom another would be the best, each with that other. Takes the square of how many are ranked.

    Whoever is left out lifts those behind it, by FID and by KID, by a rank, and its equals by half of one: nobody's mean
    by more than one rank.
    """
    best = ranked[0]
    near = sorted((one for one in ranked if one.mean_rank <= best.mean_rank + 1), key=_before)
    means = np.array([one.mean_rank for one in near])
    scores = np.array([[one.candidate.fid, one.candidate.kid] for one in near])
    place = {id(one): number for number, one in enumerate(near)}
    found = []
    for left_out in ranked[1:]:
        own = np.array([left_out.candidate.fid, left_out.candidate.kid])
        without = means - ((scores > own).sum(1) + 0.5 * (scores == own).sum(1)) / 2
        if id(left_out) in place:
            without[place[id(left_out)]] = np.inf
        first = near[int(without.argmin())]  # of equal ones the first, by the order of `near`
        if first is not best:
            found.append((left_out.candidate, first.candidate))
    return found


def ties(ranked: Sequence[Ranked]) -> list[Candidate]:
    """Those whose FID and KID both differ from the best one's by less than the difference's 95% interval."""

    def within(difference: float, std: float | None, other_std: float | None) -> bool:
        return std is not None and other_std is not None and abs(difference) <= Z * math.hypot(std, other_std)

    best = ranked[0].candidate
    return [
        other
        for other in (r.candidate for r in ranked[1:])
        if within(other.fid - best.fid, other.fid_std, best.fid_std)
        and within(other.kid - best.kid, other.kid_std, best.kid_std)
    ]


def explain(ranked: Sequence[Ranked]) -> str:
    """Why the first is first, and whether that is more than chance, in a sentence or two."""
    best, others = ranked[0], ranked[1:]
    text = f"{best.candidate.model} has the best mean rank, {best.mean_rank:g} (FID rank {best.fid_rank:g}, KID rank {best.kid_rank:g} of {len(ranked)})"
    equal = [other for other in others if other.mean_rank == best.mean_rank]
    if equal:
        by = "a lower FID" if equal[0].candidate.fid > best.candidate.fid else "fewer parameters"
        names = ", ".join(other.candidate.model for other in equal)
        whom = names if len(equal) <= MOST_NAMED else f"{len(equal)} others"
        text = f"{best.candidate.model} shares the best mean rank, {best.mean_rank:g}, with {whom} and has {by}"
    decide = deciding(ranked)
    for left_out, first in decide[:MOST_NAMED]:
        text += f"; without {left_out.model} it would be {first.model}"
    if more := len(decide[MOST_NAMED:]):
        text += f"; leaving out {'one other' if more == 1 else f'any one of {more} others'} would change it too"
    text += "."
    if tied := ties(ranked):
        names = " and ".join(other.model for other in tied) if len(tied) < 3 else f"{len(tied)} others"
        text += f" It is a tie with {names}, by the 95% intervals: {'; '.join(map(_scores, (best.candidate, *tied[:2])))}. One had to be taken, and the ranks, which may be chance, decided."
    return text


def _scores(candidate: Candidate) -> str:
    fid, kid = plus_minus(candidate.fid, candidate.fid_std), plus_minus(candidate.kid, candidate.kid_std, 3)
    return f"{candidate.model} FID {fid}, KID {kid}"
