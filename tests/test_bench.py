"""What `make bench` writes and refuses; nothing here is timed."""

import json

import pytest

from bench.__main__ import main
from bench.table import Row, in_turns, rate_row, table, write


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
