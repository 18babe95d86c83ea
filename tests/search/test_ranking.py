"""The choice among models."""

import random

import pytest

from ddpm.errors import WrongInput
from ddpm.search.ranking import Candidate, deciding, explain, rank, ties

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


def test_who_decides_is_who_changes_the_ranks_when_left_out():
    """Of small tables with many equal figures each loser is really left out, and the others ranked anew."""
    draw, seen = random.Random(0), 0
    for _ in range(300):
        ranked = rank([Candidate(f"t{i}", *(draw.randint(1, 6) for _ in range(3))) for i in range(draw.randint(1, 9))])
        expected = []
        for loser in ranked[1:]:
            first = rank([other.candidate for other in ranked if other is not loser])[0].candidate
            if first != ranked[0].candidate:
                expected.append((loser.candidate, first))
        assert deciding(ranked) == expected
        seen += len(expected)
    assert seen > 30, "there is something to tell"


def test_of_thousands_few_are_named():
    """In the time of a few rankings, and in a sentence that can be read."""
    equal = [Candidate(f"m{i}", 1.0 + i, 4000.0 - i) for i in range(4000)]  # by their mean rank
    assert explain(rank(equal)).startswith("m0 shares the best mean rank, 2000.5, with 3999 others and has a lower FID")
    # Any one of the c left out, a is as good as b; they lie between the two by KID, the d by FID.
    crowd = [Candidate(f"c{i}", 50.0 + i, 25.0) for i in range(2000)]
    crowd += [Candidate(f"d{i}", 5.0, 60.0 + i) for i in range(1999)]
    said = explain(rank([Candidate("a", 1.0, 30.0), Candidate("b", 10.0, 20.0), *crowd]))
    assert said.startswith(
        "b has the best mean rank, 1001 (FID rank 2001, KID rank 1 of 4001); without c0 it would be a;"
    )
    assert said.endswith("; leaving out any one of 1997 others would change it too.") and len(said) < 300


CLOSE = [
    Candidate("trial 0", 2.296, 0.0101, 900, 0.045, 0.0011),
    Candidate("trial 1", 2.301, 0.0102, 100, 0.046, 0.0012),
    Candidate("trial 2", 3.1, 0.0101, 100, 0.045, 0.0012),
]


def test_a_choice_within_the_intervals_is_told_as_a_tie():
    """2.296 ± 0.088 and 2.301 ± 0.09 are the same figure; 3.1 is another, though its KID is not."""
    ranked = rank(CLOSE)
    assert [other.model for other in ties(ranked)] == ["trial 1"]
    said = explain(ranked)
    assert said.startswith("trial 0 has the best mean rank, ")
    assert (
        "It is a tie with trial 1, by the 95% intervals: trial 0 FID 2.296 ± 0.088, KID 0.0101 ± 0.0022; "
        "trial 1 FID 2.301 ± 0.09, KID 0.0102 ± 0.0024. One had to be taken"
    ) in said


def test_a_choice_beyond_them_is_none():
    """By one of the two figures is enough; and where intervals are not known nothing is claimed."""
    apart = [Candidate("a", 2.0, 0.010, 1, 0.01, 0.01), Candidate("b", 2.1, 0.011, 1, 0.01, 0.01)]
    assert ties(rank(apart)) == [] and "tie" not in explain(rank(apart))
    unknown = [Candidate("a", 2.0, 0.010), Candidate("b", 2.0001, 0.011)]
    assert ties(rank(unknown)) == [] and "tie" not in explain(rank(unknown))


def test_a_difference_has_the_interval_that_both_make():
    """Each is outside the other's own interval (1.96 × 0.05), and within that of the difference (1.96 × 0.0707)."""
    both = [Candidate("a", 2.0, 0.0, 1, 0.05, 1.0), Candidate("b", 2.12, 0.0, 1, 0.05, 1.0)]
    assert [other.model for other in ties(rank(both))] == ["b"]
    both[1] = Candidate("b", 2.15, 0.0, 1, 0.05, 1.0)
    assert ties(rank(both)) == []


def test_many_ties_are_counted():
    assert "a tie with 5 others" in explain(
        rank([Candidate(f"t{i}", 2 + i / 1e4, 0.01, i, 0.1, 0.01) for i in range(6)])
    )


@pytest.mark.parametrize("bad", [[], [Candidate("a", float("nan"), 1)], [Candidate("a", 1, 1), Candidate("a", 2, 2)]])
def test_what_cannot_be_ranked(bad):
    with pytest.raises(WrongInput):
        rank(bad)
