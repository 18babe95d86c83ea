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


@pytest.mark.parametrize("t", [0, 10, 250, 999])
def test_moments_of_q(t):
    """x_t given x_0 has the mean sqrt(abar) x_0 and the variance 1 - abar (equation 4), and composes step by step."""
    diffusion = Diffusion(ModelSettings())
    n = 40_000
    x0 = torch.full((n, 1, 1, 1), 0.7)
    eps = torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(t))
    x = diffusion.add_noise(x0, torch.full((n,), t), eps)
    abar = float(diffusion.abar[t])
    assert float(x.mean()) == pytest.approx(0.7 * math.sqrt(abar), abs=4 * math.sqrt((1 - abar) / n) + 1e-6)
    assert float(x.var()) == pytest.approx(1 - abar, rel=0.03)


def test_loss_of_the_true_noise_is_zero():
    """A network that knows the noise has no loss; one that says 0 has the loss of the noise's variance, 1."""
    diffusion = Diffusion(SETTINGS)
    x0, eps = torch.zeros(8, 3, 8, 8), torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.arange(8) * 100
    assert diffusion.loss(lambda x, t: eps, x0, t, eps).tolist() == [0.0] * 8
    assert float(diffusion.loss(lambda x, t: torch.zeros_like(x), x0, t, eps).mean()) == pytest.approx(1, abs=0.1)


def test_denoiser_recovers_the_picture_from_the_true_noise():
    diffusion = Diffusion(SETTINGS)
    x0 = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)
    eps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for sigma in diffusion.sampling_sigmas(7)[:-1]:
        t = int((diffusion.sigmas == sigma).nonzero())
        estimate = Denoiser(lambda x, at, t=t: eps if int(at[0]) == t else 1 / 0, diffusion)(x0 + sigma * eps, sigma)
        torch.testing.assert_close(estimate, x0, atol=1e-4, rtol=0)


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
