"""What holds on a GPU alone: there `pytest -m gpu` runs it. The losses of steps are compared to the bit."""

import pytest
import torch

from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

pytestmark = pytest.mark.gpu
MODEL = ModelSettings(channel_mults="1-2", base_channels=32, blocks=1, objective="edm", dropout=0.1, augment=0.12)


def trainer(digits, out, recorded=True, **settings):
    told = {"lr": 1e-3, "epochs": 1000, "batch_size": 64, "precision": "bf16", "held_out_every": 1000} | settings
    made = Trainer(MODEL, TrainSettings(**told), digits, str(out), World(torch.device("cuda")))
    if not recorded:
        made.work = made._work
    return made


def losses(trainer, steps):
    found = []
    for _ in range(steps):
        found.append(trainer.step())
        if trainer.schedule.is_check(trainer.steps_done):
            trainer.check()
    return [(float(loss), float(norm)) for loss, norm in found]


def test_a_recorded_step_is_the_same_step(digits, tmp_path):
    recorded, plain = trainer(digits, tmp_path / "a"), trainer(digits, tmp_path / "b", recorded=False)
    assert losses(recorded, 60) == losses(plain, 60)
    assert recorded.work.graph is not None
    for mine, other in zip(recorded.learner.state(), plain.learner.state(), strict=True):
        assert torch.equal(mine.nan_to_num(), other.nan_to_num())


def test_a_recorded_training_resumes_as_it_would_have_gone_on(digits, tmp_path):
    first = trainer(digits, tmp_path)
    losses(first, 60)
    first._save(best=True)
    on = losses(first, 40)
    again = trainer(digits, tmp_path)
    assert losses(again, 40) == on and again.work.graph is not None
    assert losses(first, 5) == losses(again, 5), "though another was recorded since"


def test_looks_and_a_cleared_cache_between_replays_change_nothing(digits, tmp_path):
    whole, looked = trainer(digits, tmp_path / "a"), trainer(digits, tmp_path / "b", recorded=False)
    alone = losses(whole, 40)
    whole = trainer(digits, tmp_path / "c")
    found = []
    for _ in range(4):
        found += losses(whole, 10)
        whole.held_out_losses()
        whole.averaged.draw(range(4))
        torch.cuda.empty_cache()
    assert found == alone == losses(looked, 40)


def test_pictures_that_are_fetched_ahead_meanwhile(digits, tmp_path):
    fetched, there = trainer(digits, tmp_path / "a", resident="never"), trainer(digits, tmp_path / "b")
    assert losses(fetched, 30) == losses(there, 30)


def test_the_guard_skips_inside_a_recording(digits, tmp_path):
    """So low a factor skips about every second step."""
    found = trainer(digits, tmp_path, guard_factor=1.01)
    assert 0 < sum(loss != loss for loss, _ in losses(found, 50)) < 50


@pytest.mark.parametrize("compile", ["always", "never"])
def test_attentions_gradients_are_not_cudnns(digits, tmp_path, compile):
    """Whatever PyTorch prefers on this GPU. Three steps are taken before one is recorded."""
    run = trainer(digits, tmp_path, compile=compile)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        losses(run, 3)
    attention = [event.key for event in seen.key_averages() if "scaled_dot_product" in event.key]
    assert any("backward" in name for name in attention) and not any("cudnn" in name for name in attention)
