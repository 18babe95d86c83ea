"""What a training does about gradient spikes: it skips them, turns back, and tells how many there were."""

import dataclasses
from statistics import mean

import pytest
import torch
from engine_processes import SETTINGS, trainer

from ddpm.errors import Refused
from ddpm.progress import Quiet
from ddpm.training import checkpoint, learner
from ddpm.training.observer import NoObserver


def spoil(run, first, steps, factor=float("inf")):
    """The gradients of these steps are a burst: they are not finite."""
    calm = run.batches.feed.batch

    def batch(number):
        images, labels = calm(number)
        return (images.float() * factor, labels) if first <= number < first + steps else (images, labels)

    run.batches.feed.batch = batch


def test_a_burst_ruins_a_training_without_the_guard_and_not_one_with_it(digits, tmp_path):
    """On fixed held-out triples of picture, noise level and noise, to within 5% of a calm run."""
    settings = dataclasses.replace(
        SETTINGS, lr=4e-3, epochs=50, clip_norm=0.0, held_out_every=50, ema_half_lives="1000"
    )
    losses, facts = {}, {}
    for name, factor, burst in (("calm", 10.0, 0), ("bare", 0.0, 10), ("guarded", 10.0, 10)):
        run = trainer(digits, tmp_path / name, dataclasses.replace(settings, guard_factor=factor))
        spoil(run, 65, burst)
        try:
            facts[name] = run.run(NoObserver(), Quiet())
        except Refused:
            assert name == "bare"
        losses[name] = mean(run.held_out_losses())
    assert not losses["bare"] < 1.5 * losses["calm"], "without the guard the burst does harm"
    assert losses["guarded"] == pytest.approx(losses["calm"], rel=0.05)
    counted = ("rollbacks", "skipped_steps", "skipped_not_finite")
    assert [facts["guarded"][fact] for fact in counted] == [1, 10, 10]
    assert [facts["calm"][fact] for fact in counted] == [0, 0, 0]
    kept = checkpoint.read_facts(facts["guarded"]["last_checkpoint"])
    assert (kept["skipped_steps"], kept["skipped_not_finite"]) == (10, 10)


def test_what_was_skipped_for_its_height_is_not_told_as_not_finite(digits, tmp_path):
    """So low a factor skips about every second step."""
    run = trainer(digits, tmp_path, dataclasses.replace(SETTINGS, guard_factor=1.01))
    for _ in range(40):
        run.step()
    run.check()
    run._save(best=False)
    kept = checkpoint.read_facts(str(tmp_path))
    assert kept["skipped_steps"] > 0 and kept["skipped_not_finite"] == 0


def test_where_the_host_must_ask_the_same_steps_are_skipped(digits, tmp_path, monkeypatch):
    """As on a device whose fused Adam does not look at found_inf: here it is made to look away."""
    states = []
    for kinds in (learner.SKIPS_BY_ITSELF, set()):
        monkeypatch.setattr(learner, "SKIPS_BY_ITSELF", kinds)
        run = trainer(digits, tmp_path / str(len(kinds)))
        if not kinds:
            run.learner.optimizer.register_step_pre_hook(lambda adam, *_: delattr(adam, "found_inf"))
        spoil(run, 3, 2)
        for _ in range(8):
            run.step()
        assert run.learner.guard.skipped() == 2
        states.append([tensor.clone() for tensor in run.learner.state()])
    assert all(torch.equal(a.nan_to_num(-1.0), b.nan_to_num(-1.0)) for a, b in zip(*states, strict=True))


def test_turning_back_restores_the_last_good_state_and_lowers_the_rate(digits, tmp_path):
    run = trainer(digits, tmp_path)
    for _ in range(10):
        run.step()
    run.check()
    good = [tensor.clone() for tensor in run.learner.state()]
    run.batches.feed._images = run.batches.feed._images.float() * float("nan")
    run.learner.guard.factor = 1e30  # lets finite steps pass
    with torch.no_grad():
        run.learner.weights[0].add_(1.0)
    for _ in range(5):
        run.step()
    run.check()
    assert all(torch.equal(a, b) or bool(a.isnan().any()) for a, b in zip(good, run.learner.state(), strict=True))
    assert run.lr == pytest.approx(SETTINGS.lr / 2) and run.steps_done == 15 and "spike" in run.notices[0]


@pytest.mark.parametrize(("times", "learnt"), [(3, 0.2), (8, 1.0)])
def test_a_remembered_state_whose_own_gradients_are_high_is_got_out_of(digits, tmp_path, times, learnt):
    """A spike just before a check is not seen there. Every step from that state would be skipped, at any rate."""
    run = trainer(digits, tmp_path, dataclasses.replace(SETTINGS, epochs=80, held_out_every=80))
    for _ in range(20):
        run.step()
    with torch.no_grad():
        for weight in run.learner.weights:
            weight.mul_(times)  # by 8, to far above four times the usual loss
    run.check()
    assert run.learner.guard.rollbacks == 0, "nothing was seen"
    facts = run.run(NoObserver(), Quiet())
    assert facts["rollbacks"] == 2 and run.learner.guard.lowered == 0, "the rate is the whole one again"
    assert facts["loss"] < learnt, "from there on"
