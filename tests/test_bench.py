"""What `make bench` writes and refuses; nothing here is timed."""

import json

import pytest

from bench import order, search
from bench.__main__ import main
from bench.rungs import Trial, correlations, replayed
from bench.table import Row, in_turns, rate_row, table, write
from ddpm.evaluation.measure import Scores
from ddpm.search.halving import rung_of_scores
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study


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
    good, kept, bad, lost = replayed(trials, {"budget": 2})
    assert (good.ours, bad.ours) == (0.75, 0.75), "half of them end at half their budget"
    assert (kept.ours, kept.peers, kept.ratio) == (10, {"grid": 10}, 1)
    assert (lost.ours, lost.peers, lost.ratio) == (50, {"grid": 10}, 0.2), "the best of the worse half"


def test_the_grid_is_a_study_of_every_list_at_every_rate(tmp_path):
    """Queued once, however often the benchmark is carried on, and as a run finds it."""
    settings = {"folder": str(tmp_path)}
    plan = search._plan(settings, {"mults_choices": "1-2 1-2-4", "trials": 4, "lr_low": 1e-4, "lr_high": 1e-3}, "grid")
    points = [{"channel_mults": mults, "lr": lr} for lr in (1e-4, 1e-3) for mults in ("1-2", "1-2-4")]
    search._queue(plan, points)
    search._queue(plan, points)
    create_study(plan.study_storage, "grid", plan.search)
    study = open_study(plan.study_storage, "grid", plan.search)
    assert len(study.trials) == 4
    assert [suggest(study.ask(), plan.search) for _ in points] == points


def test_a_search_is_judged_by_what_it_chose_and_by_what_it_trained_on():
    """Differences are weighed by those between trainings of the same settings: here each has the deviation √2/10."""
    points = {"grid": "1-2-4", "good-0": "1-2-4-8", "bad-0": "1-2-3"}
    grid, good, bad = (
        search.Studied(name, {"channel_mults": mults, "lr": 1e-3}, images, 60.0)
        for (name, mults), images in zip(points.items(), (1000, 300, 500), strict=True)
    )
    figures = {"grid": [5.0, 5.2], "good-0": [5.3, 5.5], "bad-0": [5.6, 5.8]}
    found = {row.metric: row for row in search.rows(grid, [good, bad], figures)}
    assert (found["good-0: images trained"].ours, found["bad-0: images trained"].ours) == (0.3, 0.5)
    chosen = found["good-0: its choice, 1-2-4-8 at 0.001"]
    assert (chosen.ours, chosen.peers) == (pytest.approx(5.4), {"1-2-4 at 0.001": pytest.approx(5.1)})
    assert chosen.ratio == pytest.approx(5.1 / 5.4)
    half = found["half the 95% interval of such a difference, by other training seeds"].ours
    assert half == pytest.approx(3.182 * 0.1414, rel=1e-3), "of two means of two trainings, with 3 degrees of freedom"
    assert found["as good as the grid's choice, or within that"].ours == 0.5


def test_a_choice_of_the_same_settings_is_judged_once(tmp_path):
    """Its figures are the grid's own, and count once in the noise."""
    noise, freedom = search._noise([[1.0, 1.2], [1.0, 1.2], [3.0, 3.4]])
    assert freedom == 2 and noise == pytest.approx(((0.02 + 0.08) / 2) ** 0.5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_orders_of_weights_take_their_turns(precision):
    small = {"image_size": 8, "base_channels": 8, "batch": 2, "rounds": 2, "seconds": 0.01, "precision": precision}
    settings = {**order.SETTINGS, **small}
    found = order.run(settings, lambda _: None)
    assert [row.metric for row in found] == [f"training, {precision}, channels last", "drawing, fp32, channels last"]
    assert all(row.ours > 0 and row.peers["channels first"] > 0 and row.ratio for row in found)


@pytest.mark.parametrize("bench", ["order", "training"])
def test_what_a_benchmark_itself_refuses_is_one_clear_line(bench, tmp_path):
    with pytest.raises(SystemExit, match=r"^bench: precision: 'fp8' is none; give fp32 or bf16$"):
        main([bench, "--set", "precision=fp8", "--out", str(tmp_path / "bench.json")])
    assert not (tmp_path / "bench.json").exists()
