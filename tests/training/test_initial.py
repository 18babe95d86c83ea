"""A training that begins with another's weights: what it takes, what it records, what it refuses."""

import dataclasses
import json
import shutil

import pytest
import torch
from engine_processes import CPU, MODEL, SETTINGS

from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.store import Damaged, Missing, open_store
from ddpm.training.checkpoint import pointed, read_checkpoint, read_facts
from ddpm.training.initial import agree, of_checkpoint, read_initial, write_initial
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

ONE = dataclasses.replace(SETTINGS, epochs=1, held_out_every=1, ema_half_lives="100 1000")


class Said(Quiet):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


class Dies(NoObserver):
    """Is gone at a look, before the checkpoint that follows it."""

    def __init__(self, epoch):
        self.epoch = epoch

    def looked(self, epoch, images_seen, model):
        if epoch == self.epoch:
            raise KeyboardInterrupt
        return False


def trainer(data, out, settings=ONE, model=MODEL, **more):
    torch.set_num_threads(1)
    return Trainer(model, settings, data, str(out), World(CPU), **more)


def begun(data, out, reference, model=MODEL, **settings):
    return trainer(data, out, dataclasses.replace(ONE, init_from=str(reference), **settings), model)


@pytest.fixture(scope="module")
def source(digits, tmp_path_factory):
    """A folder that a training has written its checkpoints to."""
    out = tmp_path_factory.mktemp("source")
    trainer(digits, out).run(NoObserver(), Quiet())
    return out


def last(out):
    return read_checkpoint(pointed(open_store(str(out)), "last"))


def copied(source, folder):
    """A copy that may be spoilt, and the folder of its last checkpoint."""
    shutil.copytree(source, folder)
    return folder / pointed(open_store(str(folder)), "last").split("/")[-2]


def test_weights_and_averages_are_taken_and_clock_and_optimizer_are_new(digits, source, tmp_path):
    of = last(source)
    run = begun(digits, tmp_path, source)
    tensors = run.learner.tensors()
    for part in ("weights", "ema", "ema-1000"):
        assert tensors[part].keys() == of.tensors[part].keys()
        assert all(torch.equal(tensors[part][name], value) for name, value in of.tensors[part].items()), part
    moments = [value for name, value in tensors["optimizer"].items() if name.startswith(("exp_avg", "step"))]
    assert moments and not any(bool(moment.any()) for moment in moments)
    assert run.steps_done == 0 and run.learner.guard.counts.tolist() == [0, 0, 0]
    said = Said()
    facts = run.run(NoObserver(), said)
    (kept,) = facts["lineage"]
    assert kept["how"] == "init_from" and kept["reference"] == of.uri
    assert kept["weights_sha256"] == of.facts["sha256"]["weights.safetensors"]
    assert (kept["images_seen"], kept["dataset_digest"]) == (of.facts["images_seen"], digits.digest)
    assert (kept["taken"], kept["anew"], kept["left"]) == (len(of.tensors["weights"]), [], [])
    assert (
        read_facts(facts["checkpoint"])["lineage"]
        == [kept]
        == json.loads((tmp_path / "training.json").read_text())["lineage"]
    )
    begins = (
        f"begins with the weights of {of.uri} (sha256 {kept['weights_sha256'][:12]}, {kept['images_seen']:,} images)"
    )
    assert [line for line in said.lines if "begins with" in line] == [f"training: {begins}"]
    assert facts["images_seen"] == of.facts["images_seen"], "an epoch of its own"
    assert facts["held_out_loss"] < of.facts["best"]["loss"], "it goes on learning"


def test_nothing_is_kept_of_a_training_that_begins_with_nothing(source):
    assert "lineage" not in last(source).facts
    assert "lineage" not in json.loads((source / "training.json").read_text())


def test_killed_it_goes_on_to_the_same_bits_without_what_it_began_with(digits, source, tmp_path):
    copied(source, tmp_path / "gone")
    two = {"epochs": 2, "checkpoint_seconds": 1e-9}
    whole = begun(digits, tmp_path / "whole", tmp_path / "gone", **two).run(NoObserver(), Quiet())
    with pytest.raises(KeyboardInterrupt):
        begun(digits, tmp_path / "parts", tmp_path / "gone", **two).run(Dies(2), Quiet())
    shutil.rmtree(tmp_path / "gone")
    parts = begun(digits, tmp_path / "parts", tmp_path / "gone", **two).run(NoObserver(), Quiet())
    assert parts["weights_sha256"] == whole["weights_sha256"] and parts["lineage"] == whole["lineage"]


def test_killed_before_its_first_checkpoint_it_begins_with_the_same_weights_or_not_at_all(digits, source, tmp_path):
    copied(source, tmp_path / "moving")
    with pytest.raises(KeyboardInterrupt):
        begun(digits, tmp_path / "out", tmp_path / "moving", checkpoint_seconds=1e6).run(Dies(1), Quiet())
    begun(digits, tmp_path / "out", tmp_path / "moving", checkpoint_seconds=1e6)
    trainer(digits, tmp_path / "moving2", dataclasses.replace(ONE, train_seed=1)).run(NoObserver(), Quiet())
    shutil.rmtree(tmp_path / "moving")
    (tmp_path / "moving2").rename(tmp_path / "moving")
    with pytest.raises(WrongInput, match=r"init_from: .* holds a training that began with weights [0-9a-f]{12}, and "):
        begun(digits, tmp_path / "out", tmp_path / "moving", checkpoint_seconds=1e6)


def test_an_average_that_the_other_has_not_begins_as_the_one_that_is_drawn_from(digits, source, tmp_path):
    of = last(source)
    learner = begun(digits, tmp_path, source, ema_half_lives="1000 50").learner
    for half_life, part in ((1000, "ema-1000"), (50, "ema")):
        own = dict(learner.averages[half_life].named_parameters())
        assert all(torch.equal(own[name], value) for name, value in of.tensors[part].items()), half_life


def test_one_average_may_be_named(digits, source, tmp_path):
    of = last(source)
    run = begun(digits, tmp_path, f"{source}#1000")
    tensors = run.learner.tensors()
    for part in ("weights", "ema", "ema-1000"):
        assert all(torch.equal(tensors[part][name], value) for name, value in of.tensors["ema-1000"].items()), part
    (kept,) = run.ledger.lineage
    assert kept["reference"] == f"{of.uri}#1000"
    assert kept["weights_sha256"] == of.facts["sha256"]["ema-1000.safetensors"]


OTHERS = [
    ({"objective": "v"}, {}, "with objective epsilon, not v, and its weights mean something else; give objective epsilon"),
    ({"objective": "edm"}, {}, "with objective epsilon, not edm"),
    ({"schedule": "cosine"}, {}, "with schedule linear, not cosine"),
    ({"timesteps": 500}, {}, "with timesteps 1000, not 500"),
    ({"channel_mults": "1-3"}, {}, r"another network: channel_mults 1-2, not 1-3; only \d+ tensors agree, of \d+ there and \d+ here; .*init_partial"),
    ({"base_channels": 12}, {}, "another network: base_channels 8, not 12"),
    ({"blocks": 2}, {}, "another network: blocks 1, not 2"),
    ({"classes": 10}, {}, "another network: classes 0, not 10"),
    ({"augment": 0.12}, {}, "another network: augment 0.0, not 0.12"),
    ({"objective": "v"}, {"init_partial": True}, "its weights mean something else"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "settings", "words"), OTHERS)
def test_weights_of_another_network_are_refused(digits, source, tmp_path, model, settings, words):
    with pytest.raises(WrongInput, match=f"^init_from: .*{words}") as refused:
        begun(digits, tmp_path / "out", source, dataclasses.replace(MODEL, **model), **settings)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists(), "nothing is left of it"


def test_with_init_partial_what_agrees_is_taken_and_the_rest_is_named(digits, source, tmp_path):
    of, more = last(source), dataclasses.replace(MODEL, channel_mults="1-3", classes=10)
    fresh = trainer(digits, tmp_path / "fresh", model=more).learner.tensors()["weights"]
    run = begun(digits, tmp_path / "out", source, more, init_partial=True)
    (kept,) = run.ledger.lineage
    own = run.learner.tensors()["weights"]
    assert "embed_label.weight" in kept["anew"] and "middle.0.block.conv1.weight" in kept["anew"]
    assert "middle.0.block.conv1.weight" in kept["left"] and "embed_label.weight" not in kept["left"]
    for name, weight in own.items():
        begins = fresh[name] if name in kept["anew"] else of.tensors["weights"][name]
        assert torch.equal(weight, begins), name
    assert 0 < kept["taken"] == len(own) - len(kept["anew"])
    said = Said()
    run.run(NoObserver(), said)
    (line,) = [line for line in said.lines if "begins with weights of" in line]
    assert f"{kept['taken']} of {len(own)} tensors agree; anew begin embed_label.weight, " in line
    assert f"and {len(kept['anew']) - 6} more; left behind are " in line


def test_another_size_will_do_where_the_network_is_the_same(digits, source):
    initial = of_checkpoint(str(source))
    twice = dataclasses.replace(MODEL, attention_resolution=8)  # on the same level as before
    assert agree(initial, twice, 16, False).anew == []
    with pytest.raises(WrongInput, match="another network: image_size 8, not 16; "):
        agree(initial, MODEL, 16, False)


def test_classes_of_another_set_are_told(digits, tmp_path):
    told = dataclasses.replace(MODEL, classes=10)
    trainer(digits, tmp_path / "source", model=told).run(NoObserver(), Quiet())
    same, other = Said(), Said()
    begun(digits, tmp_path / "same", tmp_path / "source", told).run(NoObserver(), same)
    begun(dataclasses.replace(digits, digest="1" * 64), tmp_path / "other", tmp_path / "source", told).run(
        NoObserver(), other
    )
    words = "training: its classes are those of another data set: each begins as the one of its number there"
    assert words not in same.lines and words in other.lines
    few = dataclasses.replace(digits, classes=digits.classes[:5])
    with pytest.raises(WrongInput, match="another network: classes 10, not 5"):
        begun(few, tmp_path / "few", tmp_path / "source", dataclasses.replace(told, classes=5))


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def test_what_cannot_be_begun_with(digits, source, tmp_path):
    for reference, kind, words in (
        (tmp_path / "nowhere", Missing, "there is no checkpoint at"),
        (f"{source}#7", WrongInput, "there is no average of half-life 7; the checkpoint has 100, 1000"),
        (f"{source}#often", WrongInput, "'often' is no half-life"),
    ):
        with pytest.raises(kind, match=words):
            begun(digits, tmp_path / "out", reference)
    for name, spoil, words in (
        ("damaged", lambda folder: flip_a_bit(folder / "weights.safetensors"), "weights.safetensors is damaged"),
        ("average", lambda folder: flip_a_bit(folder / "ema-1000.safetensors"), "ema-1000.safetensors is damaged"),
        ("gone", lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors"),
        ("text", lambda folder: (folder / "checkpoint.json").write_text("none"), "is not a checkpoint"),
        (
            "future",
            lambda folder: (folder / "checkpoint.json").write_text('{"format_version": 99, "sha256": {}}'),
            "format_version 99 is not known here",
        ),
    ):
        spoil(copied(source, tmp_path / name))
        with pytest.raises(WrongInput, match=words):
            begun(digits, tmp_path / "out", tmp_path / name)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_refused(source):
    found = of_checkpoint(str(source))
    spoilt = {**found.weights, "head.bias": torch.full_like(found.weights["head.bias"], torch.nan)}
    with pytest.raises(WrongInput, match="has weights that are not finite"):
        dataclasses.replace(found, weights=spoilt)
    with pytest.raises(Damaged, match="its averages are of another network"):
        dataclasses.replace(found, averages={100: {"head.bias": torch.zeros(3)}})


def test_a_run_keeps_them_as_they_are(source, tmp_path):
    found, place = of_checkpoint(str(source)), str(tmp_path / "init")
    write_initial(place, found)
    again = read_initial(place)
    assert (again.origin, again.image_size, again.drawn) == (found.origin, 8, 100)
    torch.testing.assert_close(again.weights, found.weights, rtol=0, atol=0)
    torch.testing.assert_close(again.averages, found.averages, rtol=0, atol=0)
    flip_a_bit(tmp_path / "init" / "ema-100.safetensors")
    with pytest.raises(Damaged, match="give the run another name"):
        read_initial(place)
    (tmp_path / "init" / "init.json").unlink()
    with pytest.raises(Missing):
        read_initial(place)


def test_a_training_of_an_earlier_release_goes_on(digits, tmp_path):
    """Its settings knew of no other weights, and called some values otherwise."""
    facts = trainer(digits, tmp_path).run(NoObserver(), Quiet())
    kept = json.loads((tmp_path / "training.json").read_text())
    assert kept.pop("init_from") == "" and kept.pop("init_partial") is False
    assert kept["ema_half_lives"] == "100 1k"
    old = {**kept, "ema_half_lives": "100 1000", "compile": "no"}
    (tmp_path / "training.json").write_text(json.dumps(old))
    never = dataclasses.replace(ONE, compile="never")
    assert trainer(digits, tmp_path, never).run(NoObserver(), Quiet()) == facts
    with pytest.raises(WrongInput, match="holds a training with compile 'never', not 'auto'"):
        trainer(digits, tmp_path)
