"""The forward process and the objective, against the paper's formulas in double precision."""

import math

import pytest
import torch

from ddpm.errors import WrongInput
from ddpm.model.diffusion import Denoiser, Diffusion, to_uint8, to_unit
from ddpm.model.unet import UNet
from ddpm.settings import ModelSettings, parse_mults

SETTINGS = ModelSettings(base_channels=8, blocks=1, attention_resolution=4)


def test_schedule_is_the_papers():
    """Linear betas from 1e-4 to 0.02 over 1000 steps: abar by the definition, one product at a time."""
    abar = 1.0
    diffusion = Diffusion(ModelSettings())
    for t in range(1000):
        abar *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert float(diffusion.abar[t]) == pytest.approx(abar, rel=1e-5)
        assert float(diffusion.sigmas[t]) == pytest.approx(math.sqrt((1 - abar) / abar), rel=1e-4)
    assert abar < 1e-4, "the end must be close to pure noise"


def objective(name, **others):
    return Diffusion(ModelSettings(objective=name, base_channels=8, blocks=1, attention_resolution=4, **others))


def pair(n=8):
    noise = torch.Generator().manual_seed(0)
    return torch.linspace(-1, 1, n * 3 * 64).reshape(n, 3, 8, 8).double(), torch.randn(
        n, 3, 8, 8, generator=noise
    ).double()


def test_cosine_schedule_is_the_papers():
    """abar_t = f(t) / f(0) with f(t) = cos^2((t / T + s) / (1 + s) pi / 2), up to the cap on beta at the end."""
    abar = objective("epsilon", schedule="cosine").abar
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    for t in (0, 1, 500, 990):
        assert float(abar[t]) == pytest.approx(f[t + 1] / f[0], rel=1e-4)


@pytest.mark.parametrize("name", ["epsilon", "v"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_network_sees_and_predicts_what_the_papers_say(name, schedule):
    """DDPM's x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps at timestep t; eps, or v = sqrt(abar) eps - sqrt(1 - abar) x_0."""
    diffusion = objective(name, schedule=schedule)
    x0, eps = pair()
    t = torch.tensor([0, 1, 10, 100, 400, 700, 990, 999])
    abar = diffusion.abar[t].double().view(-1, 1, 1, 1)
    expected = eps if name == "epsilon" else abar.sqrt() * eps - (1 - abar).sqrt() * x0
    seen = {}

    def net(x, at, labels, augment):
        seen.update(x=x, t=at)
        return expected

    assert float(diffusion.loss(net, x0, diffusion.sigmas[t], eps).max()) < 1e-6
    torch.testing.assert_close(seen["x"], abar.sqrt() * x0 + (1 - abar).sqrt() * eps, atol=1e-4, rtol=1e-4)
    assert seen["t"].tolist() == t.tolist()
    none = diffusion.loss(lambda x, *_: torch.zeros_like(x), x0, diffusion.sigmas[t], eps)
    torch.testing.assert_close(none, expected.square().mean(dim=(1, 2, 3)), rtol=1e-3, atol=1e-5)


def test_edm_loss_is_the_papers():
    """lambda(sigma) |D(x) - x_0|^2 with lambda = (sigma^2 + sd^2) / (sigma sd)^2 (EDM, equations 2 and 8), any network."""
    diffusion = objective("edm")
    x0, eps = pair()
    sigma = torch.tensor([0.002, 0.02, 0.1, 0.5, 1, 5, 20, 80])
    found = diffusion.loss(lambda x, *_: x.tanh(), x0, sigma, eps)
    s = sigma.double().view(-1, 1, 1, 1)
    x, norm = x0 + s * eps, (s**2 + 0.25).sqrt()
    estimate = 0.25 / norm**2 * x + s * 0.5 / norm * (x / norm).tanh()
    expected = (norm**2 / (s * 0.5) ** 2 * (estimate - x0) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "over"), [("epsilon", 0), ("v", 1)])
def test_min_snr_weighs_by_the_smaller_of_snr_and_gamma(name, over):
    diffusion = objective(name)
    x0, eps = pair()
    sigma = diffusion.sigmas[torch.arange(8) * 120 + 20]
    plain = diffusion.loss(lambda x, *_: x.tanh(), x0, sigma, eps)
    weighed = diffusion.loss(lambda x, *_: x.tanh(), x0, sigma, eps, min_snr_gamma=5.0)
    snr = sigma.double() ** -2
    torch.testing.assert_close(weighed / plain, snr.clamp(max=5) / (snr + over), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["epsilon", "v", "edm"])
def test_denoiser_recovers_the_picture_from_a_perfect_network(name):
    """At the process's own levels and between them."""
    diffusion = objective(name)
    x0, eps = (part.float() for part in pair(2))
    for sigma in [*diffusion.sampling_sigmas(7)[:-1], torch.tensor(0.37)]:
        c_skip, c_out, c_in, c_noise = diffusion.precondition(sigma.reshape(1))
        x = x0 + sigma * eps

        def net(scaled, at, labels, x=x, c_in=c_in, c_noise=c_noise, c_skip=c_skip, c_out=c_out):
            torch.testing.assert_close(scaled, x * c_in)
            assert at.tolist() == c_noise.tolist() * 2
            return (x0 - c_skip * x) / c_out

        found = Denoiser(net, diffusion)(x, sigma)
        torch.testing.assert_close(found, x0, atol=1e-4 * max(1.0, float(sigma)), rtol=0)


def test_timesteps_between_levels():
    diffusion = objective("epsilon")
    assert diffusion.timestep(diffusion.sigmas).tolist() == list(range(1000))
    between = diffusion.timestep((diffusion.sigmas[400] * diffusion.sigmas[401]).sqrt())
    assert float(between) == pytest.approx(400.5, abs=1e-2)
    assert diffusion.timestep(torch.tensor([1e-9, 1e9])).tolist() == [0, 999]


@pytest.mark.parametrize("name", ["epsilon", "edm"])
def test_levels_for_training(name):
    """Drawn ones are spread as the even ones are: timesteps uniformly, EDM's logarithm normally about -1.2 by 1.2."""
    diffusion = objective(name)
    drawn = diffusion.draw_levels(20_000, torch.Generator().manual_seed(0)).sort().values
    torch.testing.assert_close(drawn[400:-400].log(), diffusion.even_levels(20_000)[400:-400].log(), atol=0.15, rtol=0)
    if name == "edm":
        assert float(drawn.log().mean()) == pytest.approx(-1.2, abs=0.03)
        assert float(drawn.log().std()) == pytest.approx(1.2, abs=0.03)


def test_guidance_goes_beyond_the_label():
    """D_none + w (D_label - D_none), by the definition."""
    diffusion, labels = objective("edm"), torch.tensor([1, 2])

    def net(x, at, told):
        return torch.zeros_like(x) if told is None else told.view(-1, 1, 1, 1).expand_as(x).float()

    x, sigma = torch.ones(2, 3, 8, 8), torch.tensor(1.0)
    asked = ((None, 1.0), (labels, 1.0), (labels, 3.0))
    none, plain, strong = (Denoiser(net, diffusion, labels=told, guidance=w)(x, sigma) for told, w in asked)
    torch.testing.assert_close(strong, none + 3 * (plain - none))


def test_network_takes_labels_and_augmentation():
    settings = ModelSettings(base_channels=8, blocks=1, attention_resolution=4, classes=3, augment=0.1)
    torch.manual_seed(0)
    net = UNet(settings, 8)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([5.0, 7.0])
    plain = net(x, t)
    assert torch.equal(plain, net(x, t, torch.tensor([-1, -1]), torch.zeros(2, 9))), "no class, and nothing done"
    assert not torch.allclose(plain, net(x, t, torch.tensor([0, 2])))
    assert not torch.allclose(plain, net(x, t, None, torch.ones(2, 9)))


def test_uint8_round_trip_is_exact():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_unit(values)), values)
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


@pytest.mark.parametrize("mults", ["1", "1-2", "1-2-4", "1-2-4-8", "1-2-3-6", "1-2-3", "3-1"])
@pytest.mark.parametrize("attention", [0, 4, 16])
def test_unet_takes_any_multipliers(mults, attention):
    net = UNet(ModelSettings(channel_mults=mults, base_channels=8, blocks=1, attention_resolution=attention), 16)
    out = net(torch.randn(2, 3, 16, 16), torch.tensor([0, 999]))
    assert out.shape == (2, 3, 16, 16)
    assert out.abs().max() == 0, "the last convolution starts as zero"
    torch.nn.functional.mse_loss(out, torch.randn(2, 3, 16, 16)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_unet_sees_the_timestep():
    torch.manual_seed(0)
    net = UNet(SETTINGS, 8)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x = torch.randn(1, 3, 8, 8)
    assert not torch.allclose(net(x, torch.tensor([5])), net(x, torch.tensor([500])))


@pytest.mark.parametrize("text", ["1-x-4", "", "1--2", "0-1", "-1", "1-2-", "1.5-2", "1 2"])
def test_multipliers_that_are_none(text):
    with pytest.raises(WrongInput, match="1-2-4"):
        parse_mults(text)


def test_size_that_cannot_be_halved_names_the_nearest():
    with pytest.raises(WrongInput, match="nearest size that can is 28"):
        UNet(ModelSettings(channel_mults="1-2-4"), 30 - 1)
    with pytest.raises(WrongInput, match="cannot be halved 3 times"):
        UNet(ModelSettings(channel_mults="1-2-4-8"), 12)
