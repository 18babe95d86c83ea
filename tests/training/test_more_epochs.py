"""A training that has spent its budget, and is given more epochs."""

import dataclasses
import json
import shutil

import pytest
import torch
from engine_processes import CPU, MODEL, SETTINGS

from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.store import open_store
from ddpm.training.checkpoint import load_model, pointed, read_facts
from ddpm.training.leftovers import unnamed
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

TWO = dataclasses.replace(SETTINGS, epochs=2, held_out_every=1, decay_fraction=0.5)


class Kept(NoObserver):
    """Keeps rates and looks; is gone at a look where told."""

    def __init__(self, die_at=None):
        self.rates, self.looks, self.die_at = {}, [], die_at

    def metrics(self, values, images_seen):
        if "lr" in values:
            self.rates[images_seen] = values["lr"]

    def looked(self, epoch, images_seen, model):
        self.looks.append(epoch)
        if epoch == self.die_at:
            raise KeyboardInterrupt
        return False


class Said(Quiet):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def trainer(data, out, **changes):
    torch.set_num_threads(1)
    return Trainer(MODEL, dataclasses.replace(TWO, **changes), data, str(out), World(CPU))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def done(digits, tmp_path):
    """A training of two epochs: its folder, and what came of it."""
    return tmp_path / "out", trainer(digits, tmp_path / "out").run(NoObserver(), Quiet())


def test_it_goes_on_as_a_branch_and_says_so(digits, done):
    out, first = done
    end = out / first["last_checkpoint"].split("/")[-2]
    before = contents(end)
    kept, said = Kept(), Said()
    run = trainer(digits, out, epochs=4)
    assert run.images_seen == first["images_seen"], "its clock goes on"
    facts = run.run(kept, said)
    assert (facts["epochs"], facts["images_seen"]) == (4, 2 * first["images_seen"]) and kept.looks == [3, 4]
    assert contents(end) == before, "the checkpoint at which it had ended is as it was"
    assert load_model(first["last_checkpoint"]).origin.images_seen == first["images_seen"]
    (one,) = facts["lineage"]
    assert (one["how"], one["epochs"], one["images_seen"]) == ("epochs", 2, first["images_seen"])
    assert one["weights_sha256"] == first["weights_sha256"] and one["reference"] == first["last_checkpoint"]
    assert read_facts(facts["last_checkpoint"])["lineage"] == facts["lineage"]
    assert "lineage" not in read_facts(first["last_checkpoint"])
    (line,) = [line for line in said.lines if "goes on" in line]
    assert "beyond its 2 epochs" in line
    assert "had fallen to 0 over the last 50% of them, begins again at 0.001 and falls over the last 50% of 4" in line
    assert "not what 4 epochs from the beginning would have been" in line
    rates = list(kept.rates.values())
    assert rates[0] < 1e-3 and rates[-1] == 0 and rates == sorted(rates, reverse=True), "it falls over epochs 3 and 4"
    again = trainer(digits, out, epochs=4)
    assert again.run(NoObserver(), Quiet()) == facts, "done is done"


def test_the_rate_that_never_fell_stays(digits, tmp_path):
    said = Said()
    trainer(digits, tmp_path, decay_fraction=0.0).run(NoObserver(), Quiet())
    facts = trainer(digits, tmp_path, decay_fraction=0.0, epochs=3).run(NoObserver(), said)
    straight = trainer(digits, tmp_path / "straight", decay_fraction=0.0, epochs=3).run(NoObserver(), Quiet())
    assert any(line.endswith("the rate stays 0.001") for line in said.lines)
    assert facts["weights_sha256"] == straight["weights_sha256"], "then it is what it would have been"


def test_killed_on_the_way_it_ends_with_the_same_bits(digits, done):
    out, _ = done
    shutil.copytree(out, whole := out.with_name("whole"))
    facts = trainer(digits, whole, epochs=4).run(NoObserver(), Quiet())
    with pytest.raises(KeyboardInterrupt):
        trainer(digits, out, epochs=4).run(Kept(die_at=4), Quiet())
    parts = trainer(digits, out, epochs=4).run(NoObserver(), Quiet())
    assert parts["weights_sha256"] == facts["weights_sha256"] and len(parts["lineage"]) == 1


def test_killed_as_it_begins_to_go_on_it_goes_on(digits, done):
    out, _ = done
    trainer(digits, out, epochs=4).ledger.begin()
    said = Said()
    facts = trainer(digits, out, epochs=4).run(NoObserver(), said)
    assert facts["epochs"] == 4 and len(facts["lineage"]) == 1
    assert not any("taken again" in line for line in said.lines)


def test_it_may_be_given_more_again_and_every_end_is_kept(digits, done):
    out, first = done
    second = trainer(digits, out, epochs=3).run(NoObserver(), Quiet())
    third = trainer(digits, out, epochs=5).run(NoObserver(), Quiet())
    assert [one["epochs"] for one in third["lineage"]] == [2, 3]
    for facts in (first, second, third):
        assert load_model(facts["last_checkpoint"])
    store = open_store(str(out.parent))
    entries = {entry.key: entry for entry in store.entries("")}
    garbage = {key for key, _ in unnamed(store, entries)}
    ends = {facts["last_checkpoint"].split("/")[-2] for facts in (first, second, third)}
    assert not {key for key in garbage if key.split("/")[1] in ends}


def test_the_best_stays_the_best(digits, done):
    out, first = done
    best = read_facts(first["checkpoint"])["best"]
    trainer(digits, out, epochs=3, patience=0).run(NoObserver(), Quiet())
    found = read_facts(pointed(open_store(str(out)), "best"))["best"]
    assert found["loss"] <= best["loss"]


def test_patience_counts_from_where_it_was_given_more(digits, tmp_path):
    """The rate rises there, and the loss with it: what was best before must not end it at its first look."""
    trainer(digits, tmp_path, patience=2).run(NoObserver(), Quiet())
    run = trainer(digits, tmp_path, epochs=9, patience=2)
    run.looks.best = run.looks.best._replace(loss=-1.0, epoch=1)
    kept = Kept()
    assert "no better held-out loss for 2 epochs" in run.run(kept, Quiet())["stopped"]
    assert kept.looks == [3, 4]


def test_what_is_refused(digits, done):
    out, _ = done
    for changes, words in (
        ({"epochs": 1}, "holds a training with epochs 2, not 1"),
        ({"epochs": 4, "lr": 2e-3}, "holds a training with lr 0.001, not 0.002"),
        ({"epochs": 4, "ema_half_lives": "7"}, "holds a training with ema_half_lives"),
    ):
        with pytest.raises(WrongInput, match=words):
            trainer(digits, out, **changes)
    kept = json.loads((out / "training.json").read_text())
    assert kept["epochs"] == 2 and "lineage" not in kept


def test_one_that_has_not_ended_is_not_given_more(digits, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trainer(digits, tmp_path).run(Kept(die_at=2), Quiet())
    with pytest.raises(WrongInput, match="holds a training with epochs 2, not 4"):
        trainer(digits, tmp_path, epochs=4)


def test_one_that_ended_early_is_told_what_would_help(digits, tmp_path):
    class Enough(NoObserver):
        def looked(self, epoch, images_seen, model):
            return True

    facts = trainer(digits, tmp_path).run(Enough(), Quiet())
    with pytest.raises(WrongInput, match="ended before its 2 epochs were over .*; go on from it .* --start") as refused:
        trainer(digits, tmp_path, epochs=4)
    assert facts["checkpoint"] in str(refused.value)


def test_one_whose_end_is_damaged_is_mended_first(digits, done):
    out, first = done
    path = out / first["last_checkpoint"].split("/")[-2] / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WrongInput, match=r"is damaged.*; give epochs 2 once more, which mends it"):
        trainer(digits, out, epochs=4)
    assert trainer(digits, out).run(NoObserver(), Quiet())["weights_sha256"] == first["weights_sha256"]
    assert trainer(digits, out, epochs=4).run(NoObserver(), Quiet())["epochs"] == 4
