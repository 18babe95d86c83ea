"""What `make bench` writes and refuses; nothing here is timed."""

import json

import pytest

from bench.__main__ import main
from bench.search import Trial, correlations, replayed
from bench.table import Row, in_turns, rate_row, table, write
from ddpm.evaluation.measure import Scores
from ddpm.search.halving import rung_of_scores


def test_each_is_called_once_a_round_in_turns():
    calls = []
    rates = in_turns({name: lambda name=name: calls.append(name) or float(len(calls)) for name in "abc"}, rounds=2)
    assert calls == ["a", "b", "c", "b", "c", "a"] and rates == {"a": [1, 6], "b": [2, 4], "c": [3, 5]}


def test_ratio_is_to_the_best_peer_within_each_round():
    row = rate_row("b", "m", "img/s", {"ours": [2, 20, 6], "slow": [1, 1, 1], "fast": [1, 10, 2]})
    assert (row.ours, row.peers, row.ratio) == (6, {"slow": 1, "fast": 2}, 2)


def test_file_and_table(tmp_path):
    rows = [Row("training", "rate", "img/s", 3.0, {"peer": 2.0}, 1.5), Row("training", "peak", "GiB", 1.0)]
    write(tmp_path / "var" / "bench.json", rows)
    assert json.loads((tmp_path / "var" / "bench.json").read_text())[0] == {
        "bench": "training", "metric": "rate", "unit": "img/s", "ours": 3.0, "peers": {"peer": 2.0}, "ratio": 1.5
    }  # fmt: skip
    assert table(rows).splitlines()[1].split() == ["training", "rate", "img/s", "3", "peer", "2", "1.50"]


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "there is no benchmark 'nothing'" in capsys.readouterr().err


def test_quick_scores_are_judged_by_the_final_ones():
    """A score that ranks as FID does at the end, and one that ranks the other way round."""

    def trial(number):
        looks = {1: {"good": rung_of_scores(float(number), 0.01), "bad": rung_of_scores(-float(number), 0.01)}}
        return Trial(str(number), looks, Scores("fid_768", 10.0 * number, 0.1, 0.1, 0.01, 64))

    trials = [trial(number) for number in range(1, 9)]
    found = {(row.metric, row.unit): row.ours for row in correlations(trials, [1])}
    assert list(found.values()) == pytest.approx([1, 1, -1, -1]), "Spearman's and Kendall's of each"
    good, kept, bad, lost = (row.ours for row in replayed(trials, {"budget": 2, "orders": 10}))
    assert kept == 1 and lost < 0.5, "one keeps the best, the other only where it comes first"
    assert 0.5 < good < 1 and 0.5 < bad < 1
