"""Which steps the guard skips."""

import pytest
import torch

from ddpm.training.guard import WARM, WINDOW, SpikeGuard


def judged(norms, factor=10.0):
    guard = SpikeGuard(factor, torch.device("cpu"))
    return [bool(guard.judge(torch.tensor(float(norm)))) for norm in norms], guard


def test_calm_steps_pass():
    skipped, guard = judged([1 + 0.5 * (i % 3) for i in range(300)])
    assert not any(skipped) and guard.skipped() == 0


def test_not_finite_is_skipped_from_the_first_step():
    skipped, guard = judged([float("nan"), float("inf"), 1.0])
    assert skipped == [True, True, False] and guard.skipped() == 2


def test_what_is_not_finite_is_told_from_what_is_too_high():
    guard = judged([1.0] * WARM + [float("nan"), 50.0, float("inf"), 1.0])[1]
    assert (guard.skipped(), guard.skipped_not_finite()) == (3, 2)
    off = judged([float("nan")], factor=0.0)[1]
    assert (off.skipped(), off.skipped_not_finite()) == (0, 0), "nothing is skipped"


def test_its_state_is_taken_up_also_that_of_before_the_not_finite_were_counted():
    old, guard = judged([1.0] * WARM + [50.0, float("nan")])[1], judged([])[1]
    guard.load(old.state(), old.facts())
    assert guard.counts.tolist() == [WARM, 2, 2] and guard.skipped_not_finite() == 1
    assert torch.equal(guard.norms.nan_to_num(), old.norms.nan_to_num())
    guard = judged([])[1]
    guard.load({name: tensor for name, tensor in old.state().items() if name != "guard.not_finite"}, old.facts())
    assert guard.counts.tolist() == [WARM, 2, 2] and guard.skipped_not_finite() is None, "nobody knows"
    guard.judge(torch.tensor(float("nan")))
    assert guard.skipped() == 3 and guard.skipped_not_finite() is None
    again = judged([])[1]
    again.load(guard.state(), guard.facts())
    assert again.skipped_not_finite() is None, "nor after that"


def test_outliers_are_skipped_once_it_is_warm():
    assert judged([100.0] + [1.0] * WARM + [9.0, 11.0])[0][-2:] == [False, True]
    assert not any(judged([1.0] * (WARM - 1) + [1000.0])[0]), "too early to know what is ordinary"


def test_a_burst_does_not_become_ordinary():
    skipped, guard = judged([1.0] * 20 + [50.0] * 500 + [1.0])
    assert skipped == [False] * 20 + [True] * 500 + [False] and guard.skipped() == 500
    assert guard.counts[2] == 0 and judged([1.0] * 20 + [50.0] * 7)[1].counts[2] == 7


def test_median_follows_a_slow_change():
    assert not any(judged([1.02**i for i in range(600)])[0]), "growing by 2% a step is no spike"


def test_window_forgets():
    skipped, _ = judged([1.0] * 50 + [5.0] * (2 * WINDOW) + [40.0, 60.0])
    assert skipped[-2:] == [False, True], "the median is now 5, and 40 is below ten times that"


def test_the_mean_loss_of_few_steps_may_be_higher_before_it_is_trouble():
    guard = SpikeGuard(10.0, torch.device("cpu"))
    for _ in range(4):
        assert not guard.troubled(0.1)
    assert not guard.troubled(0.9, 0.1) and not guard.troubled(float("nan")), "of one step in ten; of none"
    assert guard.troubled(1.1, 0.1) and guard.troubled(0.41) and not guard.troubled(0.39)


@pytest.mark.parametrize(
    ("steps", "trouble"),
    [
        ("...ssssssssss.......", False),  # a burst that has passed
        ("................ssss", True),  # one that goes on
        ("sssssssssssssssssss.", True),  # hardly a step was taken
        ("sss.", False),  # too few to tell
    ],
)
def test_what_is_trouble_among_skipped_steps(steps, trouble):
    guard = judged([1.0] * 20)[1]
    assert not guard.troubled(0.1)
    for step in steps:
        guard.judge(torch.tensor(float("inf") if step == "s" else 1.0))
    assert guard.troubled(0.1) is trouble
