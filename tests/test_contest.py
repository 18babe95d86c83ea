"""That the contest is a fair one: equal FLOPs, the same work for all, and rows that say so. Nothing here is timed."""

import pytest
import torch

from bench import contest, flops
from bench.cost import _draw
from bench.peers import DIFFUSERS, LUCIDRAINS, MATRIX, NETWORKS, OURS, SAMPLING, TRAINING, Contest
from ddpm.device import threads_for
from ddpm.settings import ModelSettings

TINY = Contest(8, 2, "fp32", False, "cpu", "1-2", 8, blocks=1, attention_resolution=4)


@pytest.fixture(autouse=True)
def one_thread():
    with threads_for(8, torch.device("cpu")):
        yield


def test_flops_are_those_of_arithmetic():
    assert flops.counted(lambda: OneConvolution(), 8, backward=False) == 2 * 3 * 5 * 9 * 8 * 8
    assert flops.counted(lambda: OneConvolution(), 8, backward=True) == 2 * 2 * 3 * 5 * 9 * 8 * 8  # x needs no gradient


class OneConvolution(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 5, 3, padding=1)

    def forward(self, x, t):
        return super().forward(x)


@pytest.mark.parametrize("peer", [DIFFUSERS, LUCIDRAINS])
def test_ours_is_matched_to_each_peer(peer):
    at = Contest(32, 2, "fp32", False, "cpu", "1-2-4", 64)
    target = flops.counted(lambda: NETWORKS[peer](at), 32, backward=True)
    found = flops.matched(target, at.model, 32, backward=True)
    assert abs(flops.ours(found, 32, True) / target - 1) <= flops.TOLERANCE
    if peer == DIFFUSERS:  # the same graph, to the last multiplication
        assert found == at.model and flops.ours(found, 32, True) == target


def test_what_cannot_be_matched_is_said(monkeypatch):
    monkeypatch.setattr(flops, "ours", lambda settings, *_: 1e9 * settings.base_channels)
    with pytest.raises(ValueError, match="no U-Net of 1-2"):
        flops.matched(1.0, ModelSettings(channel_mults="1-2", base_channels=8), 8, backward=True)


@pytest.mark.parametrize("who", [OURS, DIFFUSERS, LUCIDRAINS])
def test_each_trains_and_draws_a_batch(who):
    train = TRAINING[who](TINY)
    assert [train(), train()] == [2, 2]
    assert SAMPLING[who](Contest(**{**vars(TINY), "nfe": 2}))() == 2


def test_rows(monkeypatch):
    speeds = {MATRIX: [1e12], DIFFUSERS: [10.0], LUCIDRAINS: [20.0], OURS: [15.0, 24.0]}  # ours as the one, the other

    class Answering:
        peak_mib, first_seconds = 8.0, 0.0

        def __init__(self, who, _):
            self.who, self.speed = who, speeds[who].pop(0)

        def work(self, seconds):
            return self.speed

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(contest, "Contestant", Answering)
    at = Contest(16, 2, "fp32", False, "cpu", "1-2", 64)
    said = []
    rows = {
        (row.metric, *row.peers): row
        for row in contest.run_contest("training", at, rounds=2, seconds=0, say=said.append)
    }
    assert rows["speed, fp32, at its FLOPs", DIFFUSERS].ratio == 1.5
    done = rows["arithmetic, fp32, at its FLOPs", DIFFUSERS]
    assert done.ours == pytest.approx(15 * flops.ours(at.model, 16, True) / 1e9) and done.ratio == pytest.approx(1.5)
    share = rows["share of the matrix rate, fp32, at its FLOPs", DIFFUSERS]
    assert share.ours == pytest.approx(done.ours / 10)  # of 1,000 GFLOP/s, in percent
    other = rows["arithmetic, fp32, at its FLOPs", LUCIDRAINS].ratio
    assert rows[("speed over the closest peer, fp32",)].ratio == min(other, done.ratio)
    assert rows["peak memory, fp32, at its FLOPs", DIFFUSERS].ratio == 1.0
    assert "(+0.0%)" in said[0]


def test_figure(tmp_path):
    cost = {who: {(8, 16): 1.0, (16, 16): 2.0, (16, 32): 4.0} for who in (OURS, DIFFUSERS)}
    _draw(tmp_path / "cost.png", Contest(16, 2, "fp32", False, "cpu", "1-2", 16), cost)
    assert (tmp_path / "cost.png").read_bytes()[:4] == b"\x89PNG"


def test_a_process_of_its_own_answers_in_turns():
    from bench.contestant import Contestant

    with Contestant(OURS, TINY) as one:
        assert one.first_seconds > 0 and one.work(0.0) > 0 and one.peak_mib > 50
    assert one.process.returncode is not None
    with (
        pytest.raises(RuntimeError, match="ours ended with status"),
        Contestant(OURS, Contest(**{**vars(TINY), "mults": "x"})),
    ):
        pass
