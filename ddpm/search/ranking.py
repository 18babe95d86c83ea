"""Which model of several is the best: the mean of its ranks by FID and by KID.

Ties go to the lower FID, then to the smaller network. Ranks depend on who else is ranked, so the result says when
leaving out one of the losers would have changed it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

from ddpm.errors import WrongInput


@dataclass(frozen=True)
class Candidate:
    """A model with its scores; `parameters` only breaks ties."""

    model: str
    fid: float
    kid: float
    parameters: int = 0


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


def explain(ranked: Sequence[Ranked]) -> str:
    """Why the first is first, in a sentence or two."""
    best, others = ranked[0], ranked[1:]
    text = f"{best.candidate.model} has the best mean rank, {best.mean_rank:g} (FID rank {best.fid_rank:g}, KID rank {best.kid_rank:g} of {len(ranked)})"
    tied = [other for other in others if other.mean_rank == best.mean_rank]
    if tied:
        by = "a lower FID" if tied[0].candidate.fid > best.candidate.fid else "fewer parameters"
        text = f"{best.candidate.model} shares the best mean rank, {best.mean_rank:g}, with {', '.join(t.candidate.model for t in tied)} and has {by}"
    for left_out in others:
        rest = rank([r.candidate for r in ranked if r is not left_out])
        if rest[0].candidate != best.candidate:
            text += f"; without {left_out.candidate.model} it would be {rest[0].candidate.model}"
    return text + "."
