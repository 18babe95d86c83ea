"""Samplers on data whose best denoiser is known, and the promise that a picture belongs to its seed."""

from functools import partial

import pytest
import torch

from ddpm.model.diffusion import Denoiser, Diffusion
from ddpm.model.model import Model
from ddpm.model.sampling import SAMPLERS, PictureNoise, evaluations, heun
from ddpm.model.unet import UNet
from ddpm.settings import DrawSettings, ModelSettings

MEAN, STD = 0.3, 0.5


def gaussian_denoiser(x, sigma):
    """E[x_0 | x] for x_0 ~ N(MEAN, STD^2) and x = x_0 + sigma eps: the posterior mean of two Gaussians."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def draw_gaussian(sampler: str, steps: int, n: int = 100_000) -> torch.Tensor:
    """Sample n numbers in double precision, so that only the sampler's own error is left."""
    sigmas = Diffusion(ModelSettings()).sampling_sigmas(steps).double()
    noise = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(n, 1, 1, 1, dtype=torch.float64, generator=noise)

    return SAMPLERS[sampler].solve(gaussian_denoiser, draw() * (1 + sigmas[0] ** 2).sqrt(), sigmas, draw)


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"),
    [
        ("ancestral", 1000, 0.01),
        ("ddim", 1000, 0.01),
        ("ddim", 250, 0.01),
        ("dpm-solver++", 20, 0.015),
        ("dpm-solver++", 50, 0.01),
        ("heun", 18, 0.015),
        ("heun", 50, 0.01),
    ],
)
def test_reaches_the_gaussian(sampler, steps, tolerance):
    x = draw_gaussian(sampler, steps)
    assert float(x.mean()) == pytest.approx(MEAN, abs=tolerance)
    assert float(x.std()) == pytest.approx(STD, abs=tolerance)
    # A Gaussian's fourth moment: the shape is right, not only mean and width.
    assert float(((x - x.mean()) / x.std()).pow(4).mean()) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++", "heun"])
def test_deterministic_samplers_approach_the_ode(sampler):
    """The probability-flow ODE maps x to MEAN + (x - MEAN) * STD / sqrt(STD^2 + sigma^2), exactly, on this data."""
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    errors = []
    for steps in (25, 100):
        sigmas = Diffusion(ModelSettings()).sampling_sigmas(steps).double()
        x = start * sigmas[0]
        exact = MEAN + (x - MEAN) * STD / (STD**2 + sigmas[0] ** 2).sqrt()
        errors.append(float((SAMPLERS[sampler].solve(gaussian_denoiser, x, sigmas, lambda: 1 / 0) - exact).abs().max()))
    assert errors[1] < errors[0] / 3, "four times the steps must shrink the error"
    assert errors[1] < 0.03


def test_second_order_beats_first_at_equal_cost():
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    sigmas = Diffusion(ModelSettings()).sampling_sigmas(20).double()
    x = start * sigmas[0]
    exact = MEAN + (x - MEAN) * STD / (STD**2 + sigmas[0] ** 2).sqrt()
    error = {
        name: float((SAMPLERS[name].solve(gaussian_denoiser, x, sigmas, lambda: 1 / 0) - exact).abs().max())
        for name in ("ddim", "dpm-solver++")
    }
    assert error["dpm-solver++"] < error["ddim"]


def test_ancestral_is_the_papers_posterior():
    """One step in our coordinates against equation 7 in DDPM's: mean and variance of q(x_{t-1} | x_t, x_0)."""
    diffusion = Diffusion(ModelSettings())
    t = 400
    abar, before = diffusion.abar[t].double(), diffusion.abar[t - 1].double()
    beta = 1 - abar / before
    x0, xt = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.8, dtype=torch.float64)
    mean = before.sqrt() * beta / (1 - abar) * x0 + (abar / before).sqrt() * (1 - before) / (1 - abar) * xt
    variance = (1 - before) / (1 - abar) * beta
    sigmas = torch.stack([((1 - a) / a).sqrt() for a in (abar, before)])
    for noise in (0.0, 1.0):
        ours = SAMPLERS["ancestral"].solve(
            lambda x, s: x0, xt / abar.sqrt(), sigmas, lambda noise=noise: torch.tensor(noise, dtype=torch.float64)
        )
        assert float(ours * before.sqrt()) == pytest.approx(float(mean + noise * variance.sqrt()), rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 20, 999, 1000, 5000])
def test_noise_levels_fall_to_zero(steps):
    sigmas = Diffusion(ModelSettings()).sampling_sigmas(steps)
    assert len(sigmas) == min(steps, 1000) + 1
    assert sigmas[-1] == 0 and (sigmas[:-1] > sigmas[1:]).all()


@pytest.fixture(scope="module")
def network():
    settings = ModelSettings(base_channels=8, blocks=1, attention_resolution=4)
    torch.manual_seed(3)
    net = UNet(settings, 8)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.08)
    return net, settings


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_belongs_to_its_seed(network, sampler):
    """Bytes of a seed are the same alone, among others, in another order and in another batch."""
    net, settings = network
    model = Model(net, settings, 8, DrawSettings(sampler=sampler, sampling_steps=5, sample_batch=4))

    def pictures(seeds):
        return model.draw(seeds)

    together = pictures(range(10))
    assert together.shape == (10, 3, 8, 8) and together.dtype == torch.uint8
    assert len({p.numpy().tobytes() for p in together}) == 10, "different seeds, different pictures"
    assert torch.equal(pictures([7])[0], together[7])
    assert torch.equal(pictures([9, 2, 5]), together[[9, 2, 5]])
    assert torch.equal(pictures(range(10)), together)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_are_finite_on_a_real_network(sampler):
    """From the highest noise level of all, where sigma is about 157, to none."""
    settings = ModelSettings(base_channels=8, blocks=1)
    diffusion = Diffusion(settings)
    denoise = Denoiser(UNet(settings, 8).eval(), diffusion)
    sigmas = diffusion.sampling_sigmas(10)
    noise = PictureNoise([0, 1], 8, torch.device("cpu"))
    with torch.inference_mode():
        x = SAMPLERS[sampler].solve(denoise, noise() * (1 + sigmas[0] ** 2).sqrt(), sigmas, noise)
    assert bool(x.isfinite().all()) and float(x.abs().max()) <= 1 + 1e-5, "the last step gives the clipped estimate"


def edm_sigmas(steps):
    return Diffusion(ModelSettings(objective="edm")).sampling_sigmas(steps).double()


def test_edm_levels_are_the_papers():
    sigmas = edm_sigmas(18)
    assert len(sigmas) == 19 and sigmas[-1] == 0
    for i in (0, 7, 17):
        expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        assert float(sigmas[i]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("churn", [0.0, 1.0, 40.0, 1000.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_reaches_the_gaussian_on_edms_levels(sampler, churn):
    """And churn leaves the distribution as it is."""
    if churn and sampler != "heun":
        return
    sigmas, noise = edm_sigmas(200), torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(50_000, 1, 1, 1, dtype=torch.float64, generator=noise)

    solve = partial(heun, churn=churn) if churn else SAMPLERS[sampler].solve
    x = solve(gaussian_denoiser, draw() * sigmas[0], sigmas, draw)
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.02) and float(x.std()) == pytest.approx(STD, abs=0.02)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evaluations_are_counted(sampler):
    asked = []

    def denoise(x, sigma):
        asked.append(float(sigma))
        return gaussian_denoiser(x, sigma)

    SAMPLERS[sampler].solve(denoise, torch.zeros(1, 1, 1, 1), edm_sigmas(18).float(), lambda: torch.zeros(1, 1, 1, 1))
    assert len(asked) == evaluations(sampler, 18)


@pytest.mark.parametrize("objective", ["epsilon", "v", "edm"])
def test_classes_of_pictures(objective):
    """A seed's class follows from the seed; a label given is for all; and both are the picture's own, whatever the batch."""
    settings = ModelSettings(base_channels=8, blocks=1, attention_resolution=4, classes=3, objective=objective)
    torch.manual_seed(3)
    net = UNet(settings, 8)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.08)

    model = Model(net, settings, 8, DrawSettings(sampler="heun", sampling_steps=4, sample_batch=4))

    def pictures(seeds, label=None, **others):
        return model.draw(seeds, model.drawing_with(**others), label)

    together = pictures(range(6))
    assert torch.equal(pictures([4])[0], together[4])
    assert torch.equal(pictures([4], label=1)[0], together[4]), "4 mod 3 is 1"
    assert not torch.equal(pictures([4], label=0)[0], together[4])
    assert not torch.equal(pictures([4], guidance=4.0)[0], together[4])
