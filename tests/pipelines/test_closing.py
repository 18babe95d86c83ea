"""The table at a run's end."""

from rich.console import Console

from pipelines.closing import trials_table

TRIAL = {"channel_mults": "1-2", "lr": 2e-3, "images_seen": 1600, "seconds": 3.0, "state": "COMPLETE"}


def printed(summary):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(trials_table(summary))
    return console.export_text().splitlines()


def test_a_tie_and_the_intervals_are_seen_in_the_table():
    trials = [
        {**TRIAL, "number": 0, "fid": 2.296, "fid_std": 0.045, "kid": 0.0101, "kid_std": 0.0011},
        {**TRIAL, "number": 1, "fid": 2.301, "fid_std": 0.046, "kid": 0.0102, "kid_std": 0.0012},
        {**TRIAL, "number": 2, "fid": None, "fid_std": None, "kid": None, "kid_std": None, "state": "FAIL"},
    ]
    lines = printed({"run_name": "one", "trials": trials, "best": 0, "tied": [1]})
    best, tied, failed = (next(line for line in lines if f"│ {' ' * 4}{number} │" in line) for number in range(3))
    assert "★" in best and "2.296 ± 0.088" in best and "0.0101 ± 0.0022" in best
    assert "≈" in tied and "2.301 ± 0.09" in tied
    assert "≈" not in failed and "★" not in failed and "±" not in failed


def test_a_summary_from_before_intervals_were_kept_is_shown():
    lines = printed({"run_name": "one", "trials": [{**TRIAL, "number": 0, "fid": 2.296, "kid": 0.0101}], "best": 0})
    assert any("★" in line and "2.296" in line and "±" not in line for line in lines)
