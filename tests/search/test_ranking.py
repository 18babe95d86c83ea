"""The choice among models."""

import pytest

from ddpm.errors import WrongInput
from ddpm.search.ranking import Candidate, explain, rank

FOUNDING = [
    Candidate("1-2-4-8", 24.92, 0.334),
    Candidate("1-2-3-6", 27.13, 0.328),
    Candidate("1-2-3", 18.30, 0.393),
    Candidate("1-2-4", 24.49, 0.296),
]


def test_founding_table():
    """1-2-4 is second by FID and first by KID; nobody does better on the mean."""
    ranked = rank(FOUNDING)
    assert next((r.candidate.model, r.fid_rank, r.kid_rank) for r in ranked) == ("1-2-4", 2, 1)
    assert {r.candidate.model: r.mean_rank for r in ranked} == {
        "1-2-4": 1.5,
        "1-2-3": 2.5,
        "1-2-4-8": 3.0,
        "1-2-3-6": 3.0,
    }
    assert "1-2-4" in explain(ranked) and "without" not in explain(ranked)


def test_order_of_candidates_does_not_matter():
    assert rank(FOUNDING) == rank(FOUNDING[::-1])


def test_ties_go_to_the_lower_fid_then_to_the_smaller():
    assert rank([Candidate("a", 2, 1), Candidate("b", 1, 2)])[0].candidate.model == "b"
    same = [Candidate("big", 1, 1, 900), Candidate("small", 1, 1, 100)]
    assert rank(same)[0].candidate.model == "small"
    assert rank(same)[0].mean_rank == 1.5, "equal scores share their ranks"
    assert "fewer parameters" in explain(rank(same))


def test_says_when_a_loser_decides():
    """b is the best only because c's KID pushes a's rank down."""
    candidates = [Candidate("a", 1.0, 5.0), Candidate("b", 2.0, 3.0), Candidate("c", 3.0, 4.0)]
    ranked = rank(candidates)
    assert ranked[0].candidate.model == "b"
    assert "without c it would be a" in explain(ranked)


@pytest.mark.parametrize("bad", [[], [Candidate("a", float("nan"), 1)], [Candidate("a", 1, 1), Candidate("a", 2, 2)]])
def test_what_cannot_be_ranked(bad):
    with pytest.raises(WrongInput):
        rank(bad)
