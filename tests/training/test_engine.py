"""What a training survives: kills, damage, want of memory; and that parts and places change no number."""

import dataclasses
import multiprocessing
import os
import random
import signal
import weakref
from pathlib import Path
from statistics import mean

import pytest
import torch
from engine_processes import CPU, MODEL, SETTINGS, Logged, limit_memory, train_here, trainer

from ddpm.data.dataset import Split
from ddpm.errors import Refused, WrongInput
from ddpm.progress import Quiet
from ddpm.store import open_store
from ddpm.training import checkpoint
from ddpm.training.augmentation import augment, draw_labels
from ddpm.training.feed import Feed, free_bytes
from ddpm.training.observer import NoObserver


def everything(out):
    read = checkpoint.read_checkpoint(checkpoint.pointed(open_store(str(out)), "last"))
    return {f"{part}.{name}": tensor for part, named in read.tensors.items() for name, tensor in named.items()}


class Heard(NoObserver):
    def __init__(self):
        self.figures = {}

    def metrics(self, values, images_seen):
        self.figures.update({(images_seen, n): v for n, v in values.items() if n != "images_per_second"})


def test_killed_ten_times_it_ends_with_the_same_bits(digits, tmp_path):
    """kill -9, at random moments of real processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["engine_processes"])

    def process(out, kill=None):
        worker = context.Process(target=train_here, args=(digits, str(out), kill))
        worker.start()
        worker.join(120)
        return worker.exitcode

    assert process(tmp_path / "whole") == 0
    moments, reached = random.Random(0), []
    for _ in range(10):
        # By steps, so that ten fit in whatever the machine's speed; by time, so that it may be amid anything.
        kill = moments.randrange(14), moments.uniform(1e-6, 0.03)
        assert process(tmp_path / "parts", kill) == -signal.SIGKILL
        last, _ = checkpoint.last_undamaged(open_store(str(tmp_path / "parts")))
        reached.append(last.facts["step"] if last else 0)
    assert 0 < reached[-1] < 96 and len(set(reached)) > 3, "some kills come before the next checkpoint, some after"
    assert process(tmp_path / "parts") == 0
    assert Logged(tmp_path / "parts").figures() == Logged(tmp_path / "whole").figures()
    torch.testing.assert_close(
        everything(tmp_path / "whole"), everything(tmp_path / "parts"), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(digits, tmp_path, damage):
    whole = trainer(digits, tmp_path / "whole")
    whole.run(NoObserver(), Quiet())
    facts = trainer(digits, tmp_path / "hurt").run(NoObserver(), Quiet())
    (tmp_path / "hurt" / "done.json").unlink()
    path = tmp_path / "hurt" / facts["last_checkpoint"].split("/")[-2] / "optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(b"" if damage == "truncated" else bytes(data))
    if damage == "gone":
        path.unlink()
    again = trainer(digits, tmp_path / "hurt")
    assert 0 < again.steps_done < whole.schedule.total_steps and "Going on from the one before it" in again.notices[0]
    again.run(NoObserver(), Quiet())
    torch.testing.assert_close(
        everything(tmp_path / "whole"), everything(tmp_path / "hurt"), rtol=0, atol=0, equal_nan=True
    )


def test_nothing_but_damage_is_refused(digits, tmp_path):
    trainer(digits, tmp_path).run(NoObserver(), Quiet())
    for path in tmp_path.glob("*/weights.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(WrongInput, match="remove it to begin anew"):
        trainer(digits, tmp_path)


def test_memory_that_runs_out_halves_the_micro_batch_and_changes_nothing_else(digits, tmp_path):
    settings = dataclasses.replace(SETTINGS, precision="fp64", epochs=1)
    free = trainer(digits, tmp_path / "free", settings)
    tight = trainer(digits, tmp_path / "tight", settings)
    limit_memory(tight, 8)
    for _ in range(5):
        torch.testing.assert_close(free.step(), tight.step(), rtol=1e-10, atol=1e-12)
    assert tight.gradients.micro == 8 and free.gradients.micro == 32 and len(tight.notices) == 2
    limit_memory(tight, 0)
    with pytest.raises(Refused, match="memory ran out with 1 pictures"):
        tight.step()


@pytest.mark.parametrize("before", [True, False])
def test_gradients_are_taken_without_cudnns_attention_and_pictures_are_drawn_as_before(digits, tmp_path, before):
    run, asked = trainer(digits, tmp_path), []
    for net in (run.learner.net, run.learner.ema_net):
        net.register_forward_pre_hook(
            lambda net, _: asked.append((net.training, torch.backends.cuda.cudnn_sdp_enabled()))
        )
    there = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(before)
    try:
        run.step()
        run.averaged.draw(range(1))
        assert set(asked) == {(True, False), (False, before)}
        limit_memory(run, 0)
        with pytest.raises(Refused):
            run.step()
        assert torch.backends.cuda.cudnn_sdp_enabled() is before, "also where it failed"
    finally:
        torch.backends.cuda.enable_cudnn_sdp(there)


def test_pictures_fetched_ahead_are_those_that_are_resident(digits, tmp_path):
    heard = []
    for place in ("always", "never"):
        heard.append(Heard())
        trainer(digits, tmp_path / place, dataclasses.replace(SETTINGS, resident=place)).run(heard[-1], Quiet())
    assert heard[0].figures == heard[1].figures


def test_where_the_system_does_not_say_what_is_free_half_of_the_memory_counts(monkeypatch):
    """macOS knows no SC_AVPHYS_PAGES."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_bytes(CPU) <= there
    monkeypatch.setattr(
        os, "sysconf_names", {name: at for name, at in os.sysconf_names.items() if "AVPHYS" not in name}
    )
    assert free_bytes(CPU) == there // 2


def test_feed_takes_only_the_rows_it_needs(digits):
    taken = []

    class Mapped(Split):
        def take(self, rows):
            taken.append(rows.tolist())
            return super().take(rows)

    split = Mapped(digits.train.images, digits.train.labels)
    feed = Feed(split, lambda number: torch.arange(4) + 4 * number, CPU, "never")
    images, labels = feed.batch(5)
    assert torch.equal(images, digits.train.images[20:24]) and torch.equal(labels, digits.train.labels[20:24])
    feed.batch(6)
    feed.close()
    assert taken[0] == [20, 21, 22, 23] and len(taken) <= 5, "each batch is fetched once"


def test_a_finished_training_whose_last_checkpoint_is_damaged_takes_its_last_steps_again(digits, tmp_path):
    facts = trainer(digits, tmp_path).run(NoObserver(), Quiet())
    whole = everything(tmp_path)
    path = Path(facts["last_checkpoint"]).parent / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    again = trainer(digits, tmp_path)
    assert "damaged" in again.notices[0]
    assert {**again.run(NoObserver(), Quiet()), "spent": 0} == {**facts, "spent": 0}
    torch.testing.assert_close(everything(tmp_path), whole, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("objective", ["epsilon", "v", "edm"])
def test_every_objective_learns(digits, tmp_path, objective):
    """With all that may be added: classes, augmentation, several averages."""
    gamma = 0.0 if objective == "edm" else 5.0
    model = dataclasses.replace(MODEL, objective=objective, classes=10, augment=0.12, schedule="cosine")
    settings = dataclasses.replace(SETTINGS, epochs=8, min_snr_gamma=gamma, ema_half_lives="20 5000")
    run, heard = trainer(digits, tmp_path, settings, model), Heard()
    before = mean(run.held_out_losses())
    facts = run.run(heard, Quiet())
    assert facts["held_out_loss"] < 0.8 * before
    bands = [name for (_, name) in heard.figures if name.startswith("held_out_loss/sigma_")]
    assert len(set(bands)) == 8
    models = [checkpoint.load_model(f"{facts['checkpoint']}#{half_life}") for half_life in (20, 5000)]
    assert not torch.equal(models[0].net.head.weight, models[1].net.head.weight)
    checkpoint.choose_average(facts["checkpoint"], 5000)
    chosen = checkpoint.load_model(facts["checkpoint"])
    assert torch.equal(chosen.net.head.weight, models[1].net.head.weight)
    assert chosen.origin.weights_sha256 == models[1].origin.weights_sha256
    with pytest.raises(WrongInput, match="no average of half-life 7; the checkpoint has 20, 5000"):
        checkpoint.load_model(f"{facts['checkpoint']}#7")


def test_what_does_not_go_together_is_refused(digits, tmp_path):
    with pytest.raises(WrongInput, match="must not be stacked"):
        trainer(
            digits,
            tmp_path,
            dataclasses.replace(SETTINGS, min_snr_gamma=5.0),
            dataclasses.replace(MODEL, objective="edm"),
        )
    with pytest.raises(WrongInput, match="classes: 7, but the data set has 10"):
        trainer(digits, tmp_path, model=dataclasses.replace(MODEL, classes=7))


def test_augmentation_does_what_its_labels_say():
    x = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(9, 9)
    labels[1, 0] = 1
    labels[2, 1] = 1
    labels[3, 3:5] = torch.tensor([0.0 - 1, 1.0])  # a quarter turn
    labels[4, 7] = 4 / 16
    labels[5, 2] = 1.0  # twice as large
    y = augment(x, labels)
    torch.testing.assert_close(y[0], x[0], rtol=0, atol=0)
    torch.testing.assert_close(y[1], x[1].flip(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(y[2], x[2].flip(1), rtol=0, atol=1e-5)
    assert any(torch.allclose(y[3], x[3].rot90(k, (1, 2)), atol=1e-4) for k in (1, 3))
    torch.testing.assert_close(y[4][:, :, 4:], x[4][:, :, :-4], rtol=0, atol=1e-4)
    torch.testing.assert_close(y[5].mean(), x[5][:, 4:12, 4:12].mean(), rtol=0, atol=0.03)


def test_augmentation_is_as_frequent_as_asked():
    labels = draw_labels(20_000, 0.12, torch.Generator().manual_seed(0))
    share = (labels != 0).float().mean(0)
    torch.testing.assert_close(share, torch.tensor([0.06, 0.06] + [0.12] * 7), rtol=0, atol=0.01)
    assert not draw_labels(100, 0.0, torch.Generator().manual_seed(0)).any()


def test_memory_that_runs_out_on_the_way_back_frees_what_it_held(digits, tmp_path):
    """The failed part's graph must be gone before the next try: else smaller parts find no more room than larger ones."""
    run = trainer(digits, tmp_path, dataclasses.replace(SETTINGS, micro_batch=16))
    forward, held = run.learner.net.forward, []

    def watched(x, *others):
        out = forward(x, *others)
        assert all(graph() is None for graph in held), "an earlier part's result is still held"
        held.append(weakref.ref(out))

        def fail(gradient):
            if len(x) > 8:
                raise torch.OutOfMemoryError("out of memory")

        out.register_hook(fail)
        return out

    run.learner.net.forward = watched
    run.step()
    assert run.gradients.micro == 8 and len(held) == 5


@pytest.mark.parametrize("file", ["last.json", "best.json", "training.json"])
def test_damaged_pointers_are_mended_or_said(digits, tmp_path, file):
    facts = trainer(digits, tmp_path).run(NoObserver(), Quiet())
    (tmp_path / "done.json").unlink()
    (tmp_path / file).write_text("")
    if file == "best.json":
        again = trainer(digits, tmp_path)
        assert "best.json is damaged" in again.notices[0]
        assert again.run(NoObserver(), Quiet()) == facts
    elif file == "last.json":
        again = trainer(digits, tmp_path)
        assert again.steps_done == again.schedule.total_steps and "damaged" in again.notices[0]
    else:
        with pytest.raises(WrongInput, match=r"training\.json is damaged"):
            trainer(digits, tmp_path)


def test_the_checkpoint_that_was_fallen_back_to_is_kept_until_the_next_is_whole(digits, tmp_path):
    facts = trainer(digits, tmp_path).run(NoObserver(), Quiet())
    (tmp_path / "done.json").unlink()
    (tmp_path / "best.json").unlink()
    last = tmp_path / facts["last_checkpoint"].split("/")[-2]
    (last / "ema.safetensors").write_bytes(b"")
    again = trainer(digits, tmp_path)
    good = again.saved
    again.step()
    again.check()
    again._save(best=False)
    assert checkpoint.read_checkpoint(good).facts["images_seen"] < again.images_seen


def test_a_changed_manifest_is_found_out(digits, tmp_path):
    facts = trainer(digits, tmp_path).run(NoObserver(), Quiet())
    path = tmp_path / facts["last_checkpoint"].split("/")[-2] / "checkpoint.json"
    path.write_text(path.read_text().replace('"step": 32', '"step": 31'))
    with pytest.raises(WrongInput, match="not what was written"):
        checkpoint.read_facts(str(path))


def test_averages_of_a_start_are_found_by_their_length(digits, tmp_path):
    first = trainer(digits, tmp_path / "a", dataclasses.replace(SETTINGS, ema_half_lives="20 5000"))
    facts = first.run(NoObserver(), Quiet())
    settings = dataclasses.replace(SETTINGS, epochs=8, ema_half_lives="5000 20 300")
    branch = trainer(digits, tmp_path / "b", settings, start=facts["last_checkpoint"])
    for half_life, source in ((5000, 5000), (20, 20), (300, 20)):
        ours, theirs = branch.learner.averages[half_life].parameters(), first.learner.averages[source].parameters()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_double_precision_draws_its_grids(digits, tmp_path):
    from ddpm.search.recorder import Recorder
    from ddpm.tracking import NoTrackedRun

    run = trainer(digits, tmp_path, dataclasses.replace(SETTINGS, precision="fp64", epochs=2))
    assert run.run(Recorder(NoTrackedRun(), 3), Quiet())["images_seen"] == 512
