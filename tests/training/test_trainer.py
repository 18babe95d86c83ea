"""The loop: what it writes, how it resumes, what it refuses."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from ddpm.errors import Refused, WrongInput
from ddpm.progress import Quiet
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.store import Missing, open_store
from ddpm.training.checkpoint import load_model, pointed, read_checkpoint
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

MODEL = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4, dropout=0.1)
SETTINGS = TrainSettings(lr=1e-3, epochs=4, batch_size=32, held_out_every=1, warmup_images=64, checkpoint_seconds=1e-6)
CPU = torch.device("cpu")


class Kept(NoObserver):
    """Keeps what it hears; stops, rests and fails where told."""

    def __init__(self, stop_at=None, die_at=None, rest_at=None):
        self.heard, self.stop_at, self.die_at, self.rest_at, self.epoch = [], stop_at, die_at, rest_at, 0

    def metrics(self, values, images_seen):
        self.heard.append((images_seen, {k: v for k, v in values.items() if k != "images_per_second"}))

    def looked(self, epoch, images_seen, model):
        if epoch == self.die_at:
            raise KeyboardInterrupt
        self.epoch = epoch
        return epoch == self.stop_at

    def rests(self):
        return self.epoch == self.rest_at


def trainer(data, out, settings=SETTINGS, model=MODEL, start=None):
    torch.set_num_threads(1)
    return Trainer(model, settings, data, str(out), World(CPU), start)


def state(out):
    read = read_checkpoint(pointed(open_store(str(out)), "last"))
    return {
        f"{part}.{name}": tensor for part, tensors in read.tensors.items() for name, tensor in tensors.items()
    }, read.facts


def test_loss_falls_and_facts_are_kept(digits, tmp_path):
    kept = Kept()
    facts = trainer(digits, tmp_path).run(kept, Quiet())
    losses = [values["held_out_loss"] for _, values in kept.heard if "held_out_loss" in values]
    assert len(losses) == 4 and losses == sorted(losses, reverse=True) and losses[-1] < 0.85 * losses[0]
    assert facts["images_seen"] == 4 * (len(digits.train) // 32) * 32
    assert facts["skipped_steps"] == 0 and facts["held_out_loss"] == min(losses)
    model = load_model(facts["checkpoint"])
    assert model.settings == MODEL and model.image_size == 8
    assert {"ema.safetensors", "weights.safetensors", "optimizer.safetensors"} == set(
        read_checkpoint(facts["checkpoint"]).facts["sha256"]
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["channels first", "channels last"]
)
def test_stopped_anywhere_and_resumed_ends_with_the_same_bits(digits, tmp_path, monkeypatch, layout, precision):
    """Weights, average, optimizer, guard, and every figure that was logged; however weights lie in memory."""
    monkeypatch.setattr("ddpm.training.learner.memory_format", lambda device: layout)
    whole, parts, settings = Kept(), Kept(die_at=2), dataclasses.replace(SETTINGS, precision=precision)
    facts = trainer(digits, tmp_path / "whole", settings).run(whole, Quiet())
    with pytest.raises(KeyboardInterrupt):
        trainer(digits, tmp_path / "parts", settings).run(parts, Quiet())
    parts.die_at = 3
    with pytest.raises(KeyboardInterrupt):
        trainer(digits, tmp_path / "parts", settings).run(parts, Quiet())
    parts.die_at = None
    resumed = trainer(digits, tmp_path / "parts", settings).run(parts, Quiet())
    assert resumed["weights_sha256"] == facts["weights_sha256"]
    (a, facts_a), (b, facts_b) = state(tmp_path / "whole"), state(tmp_path / "parts")
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)  # the guard's empty slots are NaN
    assert {k: facts_a[k] for k in ("best", "loss", "skipped_steps")} == {
        k: facts_b[k] for k in ("best", "loss", "skipped_steps")
    }
    assert {i: v for i, v in whole.heard if "held_out_loss" in v} == {
        i: v for i, v in parts.heard if "held_out_loss" in v
    }


def test_one_that_rests_is_saved_and_goes_on_with_the_same_bits(digits, tmp_path):
    """Whenever its last checkpoint was."""
    settings = dataclasses.replace(SETTINGS, checkpoint_seconds=3600.0)
    facts = trainer(digits, tmp_path / "whole", settings).run(NoObserver(), Quiet())
    parts = Kept(rest_at=2)
    rested = trainer(digits, tmp_path / "parts", settings).run(parts, Quiet())
    assert (rested["epochs"], rested["spent_budget"], rested["stopped"]) == (2, False, "rests")
    assert "done.json" not in open_store(str(tmp_path / "parts")).list("")
    again = trainer(digits, tmp_path / "parts", settings)
    assert again.images_seen == rested["images_seen"]
    assert again.run(parts, Quiet()) == rested, "where it is to rest on"
    parts.rest_at = None
    ended = trainer(digits, tmp_path / "parts", settings).run(parts, Quiet())
    assert (ended["weights_sha256"], ended["stopped"]) == (facts["weights_sha256"], "all epochs done")
    looks = [images for images, values in parts.heard if "held_out_loss" in values]
    assert len(looks) == len({*looks}) == 4, "none is taken twice"


def test_done_is_done(digits, tmp_path):
    facts = trainer(digits, tmp_path).run(NoObserver(), Quiet())
    before = sorted(open_store(str(tmp_path)).list(""))
    assert trainer(digits, tmp_path).run(NoObserver(), Quiet()) == facts
    assert sorted(open_store(str(tmp_path)).list("")) == before


def test_branch_goes_on_from_a_checkpoint(digits, tmp_path):
    """The winner trains on: same clock, weights, average and moments; the rate falls to 0 at the end."""
    first = trainer(digits, tmp_path / "trial", dataclasses.replace(SETTINGS, epochs=2, decay_fraction=0.0)).run(
        NoObserver(), Quiet()
    )
    kept = Kept()
    branch = trainer(
        digits, tmp_path / "final", dataclasses.replace(SETTINGS, decay_fraction=0.5), start=first["last_checkpoint"]
    )
    assert branch.images_seen == first["images_seen"]
    facts = branch.run(kept, Quiet())
    assert facts["images_seen"] == 2 * first["images_seen"]
    rates = [values["lr"] for _, values in kept.heard if "lr" in values]
    assert rates[-1] == 0 and max(rates) <= SETTINGS.lr


def test_stops_when_nothing_improves(digits, tmp_path):
    settings = dataclasses.replace(SETTINGS, lr=1e-9, epochs=50, patience=2, warmup_images=0)

    class Worse(Kept):
        def looked(self, epoch, images_seen, model):
            for p in model.net.parameters():  # every look finds the averaged network worse than before
                nn.init.normal_(p, std=float(epoch))
            return False

    facts = trainer(digits, tmp_path, settings).run(Worse(), Quiet())
    assert facts["epochs"] < 10 and "no better held-out loss for 2 epochs" in facts["stopped"]
    assert facts["checkpoint"] != facts["last_checkpoint"], "the best checkpoint is kept, and is not the last"
    assert read_checkpoint(facts["checkpoint"]).facts["epoch"] == facts["epochs"] - 2


def test_spike_is_skipped_and_counted(digits, tmp_path):
    """A batch with a poisoned picture gives gradients that are not finite: weights and moments stay as they were."""
    run = trainer(digits, tmp_path)
    for _ in range(3):
        run.step()
    before = {name: p.detach().clone() for name, p in run.learner.net.named_parameters()}
    moments = [run.learner.optimizer.state[p]["exp_avg"].clone() for p in run.learner.weights]
    calm, run.batches.feed._images = run.batches.feed._images, run.batches.feed._images.float() * float("nan")
    run.step()
    run.batches.feed._images = calm
    assert run.learner.guard.skipped() == 1
    assert all(torch.equal(before[name], p) for name, p in run.learner.net.named_parameters())
    assert all(
        torch.equal(m, run.learner.optimizer.state[p]["exp_avg"])
        for m, p in zip(moments, run.learner.weights, strict=True)
    )
    run.step()
    assert run.learner.guard.skipped() == 1 and not torch.equal(before["head.weight"], run.learner.net.head.weight)


@pytest.mark.parametrize(("precision", "advice"), [("fp32", r"lr_high\)$"), ("bf16", r", or give precision fp32$")])
def test_spikes_without_end_are_refused(digits, tmp_path, precision, advice):
    """A guard that skips all steps must not let a training pass for done."""
    settings = dataclasses.replace(SETTINGS, epochs=100, precision=precision)
    run = trainer(digits, tmp_path, settings)
    run.step()
    run.batches.feed._images = run.batches.feed._images.float() * float("nan")
    told = r"turning back 10 times did not help.*\((\d+) steps were skipped, \1 of them for .* not to be finite\); lower lr"
    with pytest.raises(Refused, match=told + ".*" + advice):
        run.run(NoObserver(), Quiet())
    assert run.steps_done < 200, "it does not spend the whole budget on it"
    with pytest.raises(Missing):
        open_store(str(tmp_path)).read("done.json")


def test_a_start_with_the_whole_budget_behind_it_is_the_result(digits, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=2)
    first = trainer(digits, tmp_path / "trial", settings).run(NoObserver(), Quiet())
    facts = trainer(digits, tmp_path / "final", settings, start=first["checkpoint"]).run(NoObserver(), Quiet())
    assert facts["weights_sha256"] == first["weights_sha256"]
    assert read_checkpoint(facts["checkpoint"]).facts["images_seen"] == first["images_seen"]
    with pytest.raises(WrongInput, match="has 2 epochs behind it, more than epochs"):
        trainer(digits, tmp_path / "x", dataclasses.replace(settings, epochs=1), start=first["checkpoint"])
    with pytest.raises(WrongInput, match="holds a training with start"):
        trainer(digits, tmp_path / "final", settings)


def test_killed_between_its_last_checkpoint_and_its_end_an_early_stop_is_kept(digits, tmp_path):
    facts = trainer(digits, tmp_path).run(Kept(stop_at=2), Quiet())
    assert not facts["spent_budget"]
    open_store(str(tmp_path)).delete("done.json")
    again = trainer(digits, tmp_path).run(NoObserver(), Quiet())
    assert again == facts


def test_a_place_that_cannot_be_written_is_refused_before_training(digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="cannot write"):
        trainer(digits, tmp_path / "file" / "out").run(Kept(die_at=1), Quiet())


def test_weights_that_blew_up_are_refused(digits, tmp_path):
    run = trainer(digits, tmp_path)
    run.learner.weights[0].data.fill_(float("nan"))
    run.steps_done = run.schedule.total_steps
    with pytest.raises(Refused, match="lower lr"):
        run.run(NoObserver(), Quiet())


def test_checkpoints_that_are_gone_at_the_end_are_said(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm.training.checkpoint.point", lambda out, name, folder: None)
    with pytest.raises(Refused, match="holds no checkpoint any more"):
        trainer(digits, tmp_path, dataclasses.replace(SETTINGS, epochs=1)).run(NoObserver(), Quiet())


def test_other_settings_in_the_same_place_are_refused(digits, tmp_path):
    trainer(digits, tmp_path, dataclasses.replace(SETTINGS, epochs=1)).run(NoObserver(), Quiet())
    with pytest.raises(WrongInput, match="lr 0.001, not 0.002"):
        trainer(digits, tmp_path, dataclasses.replace(SETTINGS, epochs=1, lr=2e-3))


def test_damaged_checkpoint_is_found_out(digits, tmp_path):
    facts = trainer(digits, tmp_path, dataclasses.replace(SETTINGS, epochs=1)).run(NoObserver(), Quiet())
    path = tmp_path / facts["checkpoint"].split("/")[-2] / "ema.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WrongInput, match="damaged"):
        load_model(facts["checkpoint"])


@pytest.mark.parametrize("text", ["not json", json.dumps({"a": 1}), json.dumps({"format_version": 99})])
def test_what_is_no_checkpoint(tmp_path, text):
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(WrongInput):
        load_model(str(tmp_path / "checkpoint.json"))
    with pytest.raises(WrongInput, match="there is no"):
        load_model(str(tmp_path / "elsewhere"))


def test_no_held_out_pictures_means_the_last_is_the_best(digits, tmp_path):
    nothing = dataclasses.replace(digits.held_out, images=digits.held_out.images[:0], labels=digits.held_out.labels[:0])
    facts = trainer(
        dataclasses.replace(digits, held_out=nothing), tmp_path, dataclasses.replace(SETTINGS, epochs=2, patience=1)
    ).run(NoObserver(), Quiet())
    assert facts["held_out_loss"] is None and facts["checkpoint"] == facts["last_checkpoint"] and facts["epochs"] == 2


def test_small_set_makes_a_small_batch(digits, tmp_path):
    few = dataclasses.replace(digits.train, images=digits.train.images[:5], labels=digits.train.labels[:5])
    facts = trainer(dataclasses.replace(digits, train=few), tmp_path, dataclasses.replace(SETTINGS, epochs=3)).run(
        NoObserver(), Quiet()
    )
    assert facts["images_seen"] == 15


def test_killed_after_any_checkpoint_no_figure_is_lost(digits, tmp_path):
    """What was told before a checkpoint is kept by then; what was not is told by the run that goes on from it."""

    class Buffered(Kept):
        """Keeps what it hears only when a checkpoint is due, and is gone after `die_after` of them."""

        def __init__(self, kept, die_after=None):
            super().__init__()
            self.kept, self.saved, self.die_after = kept, 0, die_after

        def saving(self):
            if self.saved == self.die_after:
                raise KeyboardInterrupt
            self.saved += 1
            self.kept += self.heard
            self.heard = []

    settings = dataclasses.replace(SETTINGS, checkpoint_seconds=1e-9)  # at every step
    whole, parts = [], []
    trainer(digits, tmp_path / "whole", settings).run(Buffered(whole), Quiet())
    for die_after in (2, 1):
        with pytest.raises(KeyboardInterrupt):
            trainer(digits, tmp_path / "parts", settings).run(Buffered(parts, die_after), Quiet())
    trainer(digits, tmp_path / "parts", settings).run(Buffered(parts), Quiet())
    assert dict(parts_of(parts)) == dict(parts_of(whole))
    assert len(parts) == len(whole) >= 4


def parts_of(heard):
    return [((images, *sorted(values)), values) for images, values in heard]
