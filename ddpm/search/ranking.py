"""Which model of several is the best: the mean of its ranks by FID and by KID.

Equal ranks go to the lower FID, then to the smaller network. Ranks depend on who else is ranked, so the result says
when leaving out one of the losers would have changed it. And they know nothing of chance: where a loser's figures are
within the interval of the best one's, the result says that it is a tie, of which one had to be taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

from ddpm.errors import WrongInput
from ddpm.evaluation.figures.numbers import Z, plus_minus


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
    names = [candidate.model for candidate in candidates]
    for candidate in candidates:
        if names.count(candidate.model) > 1:
            raise WrongInput(f"model '{candidate.model}' is there more than once; names must differ")
        if not (math.isfinite(candidate.fid) and math.isfinite(candidate.kid)):
            raise WrongInput(
                f"model '{candidate.model}' has FID {candidate.fid} and KID {candidate.kid}; both must be finite numbers"
            )
    fid_ranks, kid_ranks = (rankdata([getattr(c, score) for c in candidates]).tolist() for score in ("fid", "kid"))
    ranked = [Ranked(*row) for row in zip(candidates, fid_ranks, kid_ranks, strict=True)]
    return sorted(ranked, key=lambda r: (r.mean_rank, r.candidate.fid, r.candidate.parameters, r.candidate.model))


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
        text = f"{best.candidate.model} shares the best mean rank, {best.mean_rank:g}, with {', '.join(t.candidate.model for t in equal)} and has {by}"
    for left_out in others:
        rest = rank([r.candidate for r in ranked if r is not left_out])
        if rest[0].candidate != best.candidate:
            text += f"; without {left_out.candidate.model} it would be {rest[0].candidate.model}"
    text += "."
    if tied := ties(ranked):
        names = " and ".join(other.model for other in tied) if len(tied) < 3 else f"{len(tied)} others"
        text += f" It is a tie with {names}, by the 95% intervals: {'; '.join(map(_scores, (best.candidate, *tied[:2])))}. One had to be taken, and the ranks, which may be chance, decided."
    return text


def _scores(candidate: Candidate) -> str:
    fid, kid = plus_minus(candidate.fid, candidate.fid_std), plus_minus(candidate.kid, candidate.kid_std, 3)
    return f"{candidate.model} FID {fid}, KID {kid}"
