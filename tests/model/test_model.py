"""A model that draws: its own way and others, what it refuses, and the strips that are made of its steps."""

import dataclasses

import numpy as np
import pytest
import torch

from ddpm import settings
from ddpm.errors import WrongInput
from ddpm.model.diffusion import Denoiser, to_uint8
from ddpm.model.model import Model, suited
from ddpm.model.sampling import SAMPLERS, Sampler, ddim, register
from ddpm.model.strips import Appearing, denoising_strip
from ddpm.model.unet import UNet
from ddpm.settings import DrawSettings, ModelSettings


def model_of(drawing=None, **others):
    """A tiny network with weights that do something."""
    chosen = ModelSettings(base_channels=8, blocks=1, attention_resolution=4, **others)
    torch.manual_seed(3)
    net = UNet(chosen, 8)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.08)
    return Model(net, chosen, 8, drawing or suited(chosen))


def test_what_suits_any_model_is_within_its_process():
    assert suited(ModelSettings(timesteps=100)).sampling_steps == 100
    assert suited(ModelSettings()).sampling_steps == 250
    assert suited(ModelSettings(timesteps=100, objective="edm")).sampling_steps == 250
    assert model_of(timesteps=10).quick(20, 4).sampling_steps == 10


def test_what_is_given_takes_the_place_of_its_own():
    model = model_of(DrawSettings(sampler="heun", sampling_steps=7, churn=2.0))
    assert model.drawing_with(sampling_steps=None, guidance=None) == model.drawing
    assert model.drawing_with(sampling_steps=5).churn == 2.0
    assert model.drawing_with(sampler="heun").churn == 2.0
    assert model.drawing_with(sampler="ddim") == DrawSettings(sampler="ddim", sampling_steps=7), "churn is heun's"


def test_refused_before_anything_is_drawn():
    model = model_of(timesteps=10)
    with pytest.raises(
        WrongInput, match="sampling_steps: 11 will not do; it must be at most the model's timesteps, 10"
    ):
        model.draw_batches([0], DrawSettings(sampling_steps=11))
    with pytest.raises(WrongInput, match="label: 0 will not do; the model has no classes"):
        model.draw_batches([0], label=0)
    with pytest.raises(WrongInput, match="label: 3 will not do; the model has classes 0 to 2"):
        model_of(classes=3).draw_batches([0], label=3)
    with pytest.raises(WrongInput, match=r"guidance: 2\.0 will not do"):
        model.draw_batches([0], DrawSettings(sampling_steps=5, guidance=2.0))


def test_no_seeds_no_pictures():
    assert model_of().draw([]).shape == (0, 3, 8, 8)


def test_evaluations_count_what_the_network_is_asked():
    for drawing, expected in (
        (DrawSettings(sampling_steps=5), 5),
        (DrawSettings(sampler="heun", sampling_steps=5), 9),
        (DrawSettings(sampler="heun", sampling_steps=5, guidance=3.0), 18),
    ):
        model, asked = model_of(classes=3), []
        forward = model.net.forward
        model.net.forward = lambda *given, forward=forward, asked=asked: asked.append(1) or forward(*given)
        model.draw([0], drawing)
        assert len(asked) == model.evaluations(drawing) == expected


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm-solver++", "heun"])
def test_a_strip_ends_with_the_picture(sampler):
    drawing = DrawSettings(sampler=sampler, sampling_steps=6, sample_batch=2)
    model = model_of()
    strip = denoising_strip(model, [4, 9], drawing, frames=4)
    assert strip.shape == (8, 3, 8, 8)
    assert torch.equal(strip[[3, 7]], model.draw([4, 9], drawing))
    assert float(strip[0].float().std()) > 60, "it begins as pure noise"
    assert len({frame.numpy().tobytes() for frame in strip}) == 8


def test_of_a_batch_s_states_those_that_are_shown_are_kept_and_no_others():
    appearing = Appearing(1000, {0: 4, 2: 9})
    states = torch.linspace(-1, 1, 1000)
    for state in states:
        appearing.watch(torch.full((3, 3, 8, 8), float(state)), torch.tensor(0.0))
    assert {row: len(kept) for row, kept in appearing._kept.items()} == {0: 3, 2: 8}, "the picture itself is the last"
    picture = torch.full((3, 8, 8), 7, dtype=torch.uint8)
    found = appearing.of(0, picture)
    assert torch.equal(found[:3, 0, 0, 0], to_uint8(states[[0, 333, 667]])) and torch.equal(found[3], picture)
    silent = Appearing(5, {0: 3})  # of a sampler that shows nothing
    assert torch.equal(silent.of(0, picture), picture.repeat(3, 1, 1, 1))


def test_a_strip_is_drawn_as_pictures_are(monkeypatch):
    """By the same denoiser: in the same precision (bf16 on a GPU), with the same classes and guidance."""
    asked = []
    init = Denoiser.__init__

    def noted(self, net, diffusion, autocast=False, labels=None, guidance=1.0, guide=None):
        asked.append((autocast, labels.tolist(), guidance))
        init(self, net, diffusion, autocast, labels, guidance, guide)

    monkeypatch.setattr(Denoiser, "__init__", noted)
    monkeypatch.setattr("ddpm.model.model.AUTOCAST", {"cpu"})
    model = model_of(classes=3)
    drawing = DrawSettings(sampling_steps=3, sample_batch=2, guidance=2.0)
    denoising_strip(model, [4, 9], drawing, frames=2)
    model.draw([4, 9], drawing)
    assert asked == [(True, [1, 0], 2.0)] * 2


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_pictures_lie_row_by_row_however_the_weights_do(monkeypatch, order):
    monkeypatch.setattr("ddpm.device.drawing_format", lambda device: order)
    model = model_of(DrawSettings(sampling_steps=3))
    drawn = model.draw(range(3))
    assert all(one.is_contiguous(memory_format=order) for one in model.net.parameters() if one.dim() == 4)
    assert drawn.is_contiguous() and drawn.dtype == torch.uint8
    assert all(batch.is_contiguous() for batch in model.draw_batches(range(3)))


def test_seeds_of_every_kind_of_whole_number():
    model = model_of()
    drawing = DrawSettings(sampling_steps=2, sample_batch=4)
    expected = model.draw([0, 1, 2], drawing)
    for seeds in (range(3), np.arange(3), torch.arange(3), (n for n in range(3)), [np.int64(0), 1, torch.tensor(2)]):
        assert torch.equal(model.draw(seeds, drawing), expected)
    for wrong, said in (
        ([0.5], "give whole numbers"),
        ("ab", "give whole numbers"),
        (3, "give whole numbers"),
        ([-1], "-1 will not do"),
    ):
        with pytest.raises(WrongInput, match=f"seeds: .*{said}"):
            model.draw(wrong, drawing)


def test_a_device_may_be_a_name():
    assert model_of().place == torch.device("cpu")
    assert dataclasses.replace(model_of(), device="meta").place == torch.device("meta")


def test_samplers_of_settings_are_those_that_there_are():
    assert list(SAMPLERS) == settings.SAMPLERS
    assert [name for name, sampler in SAMPLERS.items() if sampler.churns] == settings.CHURNING


@pytest.fixture
def _known_samplers():
    """The field of the settings holds this very list."""
    known = list(settings.SAMPLERS)
    yield
    settings.SAMPLERS[:] = known


@pytest.fixture
def forgotten():
    """What a test registers is forgotten again."""
    known, names, churning = dict(SAMPLERS), list(settings.SAMPLERS), list(settings.CHURNING)
    yield
    SAMPLERS.clear()
    SAMPLERS.update(known)
    settings.SAMPLERS[:], settings.CHURNING[:] = names, churning


def test_a_sampler_of_ones_own(forgotten):
    churned = []

    def churns(denoise, x, sigmas, draw, watch=None, churn=0.0):
        churned.append(churn)
        return ddim(denoise, x, sigmas, draw, watch)

    with pytest.raises(WrongInput, match="sampler: 'mine' will not do"):
        DrawSettings(sampler="mine")
    register("mine", Sampler(churns, evaluations=3, churns=True))
    model = model_of()
    mine = DrawSettings(sampler="mine", sampling_steps=4, churn=1.5)
    assert torch.equal(model.draw([5], mine), model.draw([5], DrawSettings(sampling_steps=4)))
    assert churned == [1.5] and model.evaluations(mine) == 3 * 3 + 1
    with pytest.raises(ValueError, match="there is a sampler named 'mine' already"):
        register("mine", Sampler(ddim))
