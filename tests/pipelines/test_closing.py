"""The table at a run's end."""

import io

from rich.console import Console

from pipelines.closing import finalists_line, trials_table

TRIAL = {"channel_mults": "1-2-4-8", "lr": 0.00123, "images_seen": 1234567, "seconds": 3.0, "state": "COMPLETE"}


def printed(summary):
    """The rows, on a terminal of 80 columns: each cell's words."""
    console = Console(width=80, file=io.StringIO())
    console.print(trials_table({"final": {}, **summary}, 64))
    return [line.split() for line in console.file.getvalue().splitlines() if "1-2-4-8" in line]


def test_a_tie_and_the_intervals_are_seen_in_the_table():
    trials = [
        {**TRIAL, "number": 0, "fid": 2.296, "fid_std": 0.045, "kid": 0.0101, "kid_std": 0.0011},
        {**TRIAL, "number": 1, "fid": 2.301, "fid_std": 0.046, "kid": 0.0102, "kid_std": 0.0012},
        {**TRIAL, "number": 2, "fid": None, "fid_std": None, "kid": None, "kid_std": None, "state": "FAIL"},
    ]
    best, tied, failed = printed({"run_name": "one", "trials": trials, "best": 0, "tied": [1]})
    rest = ["1-2-4-8", "0.00123"]
    assert best == ["★", "0", *rest, "2.296", "±", "0.088", "0.0101", "±", "0.0022", "1234567", "3"]
    assert tied == ["≈", "1", *rest, "2.301", "±", "0.09", "0.0102", "±", "0.0024", "1234567", "3"]
    assert failed == ["2", *rest, "–", "–", "1234567", "3", "fail"]


def test_a_summary_from_before_intervals_were_kept_is_shown():
    (row,) = printed({"run_name": "one", "trials": [{**TRIAL, "number": 0, "fid": 2.296, "kid": 0.0101}], "best": 0})
    assert row == ["★", "0", "1-2-4-8", "0.00123", "2.296", "0.0101", "1234567", "3"]


def test_of_thousands_of_trials_the_best_have_a_row_and_the_others_are_counted():
    states = ["COMPLETE"] * 900 + ["PRUNED"] * 1100
    trials = [
        {
            **TRIAL,
            "number": number,
            "state": state,
            "fid": 9.0 - number / 1e4 if state == "COMPLETE" else None,
            "kid": 0.01,
        }
        for number, state in enumerate(states)
    ]
    summary = {"run_name": "one", "trials": trials, "best": 3}
    shown = [int(row[1] if row[0] == "★" else row[0]) for row in printed(summary)]
    assert shown == [3, *range(701, 900)], "the chosen one, and the lowest FIDs"
    caption = trials_table({"final": {}, **summary}, 64).caption
    assert caption == "1,800 more trials are not shown (1,100 pruned, 700 complete); MLflow has them."
    assert trials_table({"final": {}, **summary, "trials": trials[:200]}, 64).caption is None


def test_finalists_have_a_line():
    found = {"n": 2048, "fid": 2.296, "fid_std": 0.045, "kid": 0.0101, "kid_std": 0.0011, "mean_rank": 1.0}
    assert finalists_line([]) == []
    assert finalists_line([{"trial": 3, **found}, {"trial": 1, **found}]) == [
        "finalists  trial 3 FID 2.296 ± 0.088 KID 0.0101 ± 0.0022   trial 1 FID 2.296 ± 0.088 KID 0.0101 ± 0.0022   (2,048 pictures each)"
    ]
