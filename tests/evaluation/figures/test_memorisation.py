"""Copies are found, and what is no copy is not."""

import dataclasses

import pytest
import torch

from ddpm.data.dataset import PictureSet, Split
from ddpm.evaluation.figures.intervals import share_excess, share_interval
from ddpm.evaluation.figures.memorisation import CopySearch, Space, levels
from ddpm.evaluation.figures.uncertainty import fid_at_infinity
from ddpm.evaluation.page.verdict import verdict
from ddpm.evaluation.reference import open_reference
from ddpm.evaluation.report import THIRD
from ddpm.model.diffusion import to_unit
from ddpm.progress import Quiet
from ddpm.settings import DrawSettings, EvaluateSettings, ModelSettings, TrainSettings
from ddpm.store import open_store
from ddpm.training.checkpoint import load_model
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World


@pytest.fixture(scope="module")
def reference(digits, tmp_path_factory):
    """The digits, of which 160 are to train on and 160 are held out."""
    images = torch.cat([digits.train.images, digits.held_out.images])
    labels = torch.cat([digits.train.labels, digits.held_out.labels])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))  # neighbours have one writer
    images, labels = images[order], labels[order]
    split = {
        "train": Split(images[:160], labels[:160]),
        "held_out": Split(images[160:], labels[160:]),
        "digest": "3" * 64,
    }
    data = PictureSet(**{**vars(digits), **split})
    with pytest.MonkeyPatch.context() as patch:  # of so few pictures it learns less
        patch.setattr("ddpm.evaluation.extractors.classifier.MIN_ACCURACY", 0.6)
        patch.setattr("ddpm.evaluation.reference._require_order", lambda *_: None)
        return open_reference(
            EvaluateSettings(extractor="classifier"),
            data,
            open_store(str(tmp_path_factory.mktemp("store"))),
            "cpu",
            Quiet(),
        )


def found(reference, images):
    search = CopySearch(reference, "cpu")
    for batch in images.split(50):
        search.add(batch, [side.extractor.features(batch) for side in reference.sides])
    return search.finish()


def noisy(images, levels=3):
    noise = levels * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images.float() + noise).round().clamp(0, 255).to(torch.uint8)


def test_copied_training_pictures_are_caught(reference):
    originals = reference.data.train.images[:100]
    for copies in (originals, noisy(originals), noisy(originals).flip(-1)):
        report, pairs = found(reference, copies)
        assert report["share"] > 0.9 and report["excess_low"] > 0.8
        assert report["pixel"]["generated"]["below_threshold"] > 0.9
        assert report["pixel"]["generated"]["nearer_to_train"] > 0.95
        assert report["pixel"]["closer"]["low"] > 0.9
        assert all(pair["picture"] == pair["train"] for pair in report["pairs"] if pair["space"] == "pixel")
        assert len(pairs) == 2 * len(report["pairs"])
    assert report["pairs"][0]["flipped"]


def test_held_out_pictures_are_no_copies(reference):
    """Real pictures that the model cannot have seen: half of the held-out ones as if generated, against the other half."""
    data = reference.data
    shown, kept = data.held_out.images[:80], Split(data.held_out.images[80:], data.held_out.labels[80:])
    rest = PictureSet(**{**vars(data), "held_out": kept})
    other = open_reference_of(reference, rest)
    report, _ = found(other, shown)
    assert report["share"] < 0.05 and report["excess_low"] <= 0
    for space in ("pixel", "feature"):
        assert 0.35 < report[space]["generated"]["nearer_to_train"] < 0.65
        assert report[space]["closer"]["low"] < 0.5 < report[space]["closer"]["high"]
        assert report[space]["held_out"]["below_threshold"] <= 0.02


def open_reference_of(reference, data):
    """The same networks, with other pictures held out."""
    from ddpm.evaluation.reference import Side

    data = PictureSet(**{**vars(data), "digest": f"{len(data.train):032d}{len(data.held_out):032d}"})
    sides = [Side(side.extractor, data, side.rows, side._store, Quiet()) for side in reference.sides]
    return dataclasses.replace(reference, sides=sides, data=data)


def test_a_model_that_learnt_its_pictures_by_heart_is_caught(reference, tmp_path):
    """Sixteen digits, each seen 700 times: half of what is drawn is a copy, far above what promotion bears."""
    data = reference.data
    few = PictureSet(**{**vars(data), "train": Split(data.train.images[:16], data.train.labels[:16])})
    settings = TrainSettings(
        lr=3e-3, epochs=700, batch_size=16, held_out_every=700, flip=False, ema_half_lives="2000", checkpoint_seconds=1e6
    )  # fmt: skip
    model = ModelSettings(channel_mults="1-2", base_channels=16, blocks=1, attention_resolution=2)
    facts = Trainer(model, settings, few, str(tmp_path), World(torch.device("cpu"))).run(NoObserver(), Quiet())
    fitted = load_model(facts["checkpoint"])
    drawn = fitted.draw(range(64), DrawSettings(sampler="ancestral", sampling_steps=50, sample_batch=64))
    report, _ = found(open_reference_of(reference, few), drawn)
    assert report["excess_low"] > 2 * EvaluateSettings().copying_gate
    assert report["pixel"]["generated"]["nearer_to_train"] > 0.9
    (finding,) = (one for one in verdict({"copying": report}) if one.title == "Copying")
    assert finding.level == "bad"


def test_some_copies_among_others_are_counted(reference):
    images = torch.cat([reference.data.train.images[:20], reference.data.held_out.images[:60]])
    report, _ = found(reference, images)
    assert report["share"] == pytest.approx(0.25, abs=0.05)
    assert sorted(pair["picture"] for pair in report["pairs"] if pair["space"] == "pixel")[0] < 20


def test_neighbours_distances_and_ratios():
    train = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0]])
    held_out = torch.tensor([[6.0, 0.0]])
    space = Space(train, train + 1000, held_out, held_out + 1000, 0.5, "cpu")
    near = space.look(torch.tensor([[1.0, 0.0], [5.5, 0.0], [0.0, 20.0], [1010.0, 1000.0]]))
    assert near.row.tolist() == [0, 1, 2, 1]
    assert near.flipped.tolist() == [False, False, False, True]
    assert near.distance.tolist() == pytest.approx([0.5, 2.25, 0.0, 0.0])
    assert near.ratio.tolist() == pytest.approx([1 / 9, 4.5 / 5.5, 0.0, 0.0])
    # each training picture is a set as large as the held-out one; the first picture is nearer to one of the three than to it
    assert near.nearer.tolist() == pytest.approx([1 / 3, 0, 2 / 3, 1 / 3])
    assert near.below(THIRD).tolist() == [True, False, True, True]


def test_without_held_out_pictures_there_is_no_yardstick(reference):
    none = Split(reference.data.held_out.images[:0], reference.data.held_out.labels[:0])
    alone = open_reference_of(reference, PictureSet(**{**vars(reference.data), "held_out": none}))
    report, _ = found(alone, reference.data.train.images[:40])
    assert report["share"] == 1.0 and report["share_held_out"] is None
    assert report["pixel"]["held_out"] is None and report["pixel"]["threshold"] == THIRD
    assert report["pixel"]["generated"]["nearer_to_train"] is None


def test_a_model_that_knows_its_pictures_has_a_gap_at_every_level(reference):
    """A denoiser that answers with the nearest training picture, against one that answers with grey."""
    train = to_unit(reference.data.train.images).flatten(1)

    def remembering(x, sigma):
        return train[torch.cdist(x.flatten(1), train).argmin(1)].view_as(x)

    remembered = levels(remembering, reference, torch.device("cpu"))
    assert min(remembered["gap"][:6]) > 0.5
    assert remembered["train"][:3] == pytest.approx([0, 0, 0], abs=1e-9)
    blank = levels(lambda x, sigma: torch.zeros_like(x), reference, torch.device("cpu"))
    assert max(map(abs, blank["gap"])) < 0.1


def test_intervals_of_shares():
    assert share_interval(0.0, 10) == pytest.approx([0, 0.2775], abs=1e-3)
    assert share_interval(0.5, 100) == pytest.approx([0.4038, 0.5962], abs=1e-3)
    excess, low = share_excess(56 / 70, 70, 48 / 80, 80)  # the example of Newcombe's table II
    assert excess == pytest.approx(0.2) and low == pytest.approx(0.0524, abs=1e-3)


def test_the_line_over_1_over_n_meets_its_intercept():
    value, std = fid_at_infinity([(n, 3 + 500 / n) for n in (100, 200, 300, 400)])
    assert value == pytest.approx(3) and std == pytest.approx(0, abs=1e-9)
