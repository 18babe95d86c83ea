"""What happens at which step, by its numbers."""

import pytest

from ddpm.settings import TrainSettings
from ddpm.training.schedule import Schedule


def schedule(pictures=100, check_every=10, **settings):
    return Schedule(TrainSettings(**settings), pictures, check_every)


def test_epochs_and_images():
    found = schedule(pictures=100, batch_size=32, epochs=5)
    assert (found.batch, found.epoch_steps, found.total_steps) == (32, 3, 15), "the last 4 pictures fill no batch"
    assert found.images_seen(7) == 224 and found.epochs(7) == pytest.approx(7 / 3)
    assert [step for step in range(20) if found.ends_run(step)] == [15]


def test_a_set_smaller_than_a_batch_is_one_step_an_epoch():
    found = schedule(pictures=5, batch_size=32, epochs=4)
    assert (found.batch, found.epoch_steps, found.total_steps) == (5, 1, 4)


def test_the_rate_rises_stays_and_falls():
    found = schedule(pictures=100, batch_size=10, epochs=10, lr=0.5, warmup_images=40, decay_fraction=0.2)
    assert [found.lr(step) for step in range(5)] == [0.125, 0.25, 0.375, 0.5, 0.5]
    assert [found.lr(step) for step in (80, 85, 90, 100)] == pytest.approx([0.5, 0.375, 0.25, 0.0])
    assert found.lr(10, factor=0.25) == 0.125 and found.lr(90, factor=0.5) == pytest.approx(0.125)


def test_the_rate_is_constant_without_warm_up_and_decay():
    found = schedule(lr=0.5, warmup_images=0, decay_fraction=0.0)
    assert {found.lr(step) for step in range(found.total_steps + 1)} == {0.5}


def test_looks_come_every_few_epochs_and_at_the_end():
    found = schedule(pictures=100, batch_size=32, epochs=7, held_out_every=3)
    assert [step for step in range(1, 22) if found.is_look(step)] == [9, 18, 21]


@pytest.mark.parametrize(
    ("check_every", "checks"),
    [
        (4, [5, 9, 14, 18, 21]),  # two between looks, the last of them at a look
        (3, [3, 6, 9, 12, 15, 18, 21]),
        (50, [9, 18, 21]),  # at every look at least
        (1, [*range(1, 22)]),
    ],
)
def test_checks_are_spread_evenly_between_looks(check_every, checks):
    found = schedule(pictures=100, batch_size=32, epochs=7, held_out_every=3, check_every=check_every)
    assert [step for step in range(1, 22) if found.is_check(step)] == checks
    assert all(found.is_check(step) for step in range(1, 22) if found.is_look(step))
