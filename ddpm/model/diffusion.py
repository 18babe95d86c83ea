"""The diffusion process: noise levels, the objective, and the network as a denoiser.

Two coordinates are in use. Training follows DDPM (Ho et al. 2020, https://arxiv.org/abs/2006.11239):
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, at timesteps t = 0 ... T-1. Samplers follow EDM (Karras et al. 2022,
https://arxiv.org/abs/2206.00364): x = x_0 + sigma eps, with sigma_t = sqrt((1 - abar_t) / abar_t), so that one sampler
serves every model. The two differ by the factor sqrt(abar_t) = 1 / sqrt(1 + sigma^2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddpm.settings import ModelSettings


def to_unit(images: Tensor) -> Tensor:
    """uint8 0 ... 255 to float32 -1 ... 1."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """-1 ... 1 to uint8 0 ... 255, rounded and clamped: what every metric and every file sees."""
    return (x.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


class Diffusion(nn.Module):
    """The discrete process of DDPM. Buffers: betas, abar (the cumulative product of 1 - beta) and sigmas, each [T]."""

    abar: Tensor
    sigmas: Tensor

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.timesteps = settings.timesteps
        # Equation 2's linear betas, 1e-4 to 0.02 at T = 1000; at another T scaled so that the end is as noisy.
        scale = 1000 / self.timesteps
        betas = torch.linspace(1e-4 * scale, 0.02 * scale, self.timesteps, dtype=torch.float64).clamp(max=0.999)
        abar = (1 - betas).cumprod(0)
        self.register_buffer("abar", abar.float(), persistent=False)
        self.register_buffer("sigmas", ((1 - abar) / abar).sqrt().float(), persistent=False)

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """A draw from q(x_t | x_0) (equation 4). x0 and eps [b,3,h,w], t [b] int64."""
        abar = self.abar[t].view(-1, 1, 1, 1)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * eps

    def loss(self, net: nn.Module, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The simplified objective (equation 14), the mean squared error of the predicted noise, per picture: [b]."""
        predicted = net(self.add_noise(x0, t, eps), t)
        return (predicted.float() - eps).square().mean(dim=(1, 2, 3))

    def sampling_sigmas(self, steps: int) -> Tensor:
        """`steps` noise levels of the process, falling from t = T-1 to 0, and a final 0: [steps + 1], on the CPU.

        Timesteps are spaced quadratically (Song et al. 2021, https://arxiv.org/abs/2010.02502, appendix D.2), but no
        two are equal: with T steps they are all of them. Evenly spaced ones leave too wide a gap at the end: on data
        whose solution is known, 20 steps of DPM-Solver++ then err ten times as much. Asking for more than T gives T.
        """
        steps = min(steps, self.timesteps)
        if steps == 1:
            t = torch.tensor([self.timesteps - 1])
        else:
            i = torch.arange(steps, dtype=torch.float64)
            t = torch.maximum(((self.timesteps - 1) * (i / (steps - 1)) ** 2).round(), i).long().flip(0)
        return torch.cat([self.sigmas.cpu()[t], torch.zeros(1)])


class Denoiser:
    """The network as D(x, sigma), the expected picture x_0 given x = x_0 + sigma eps.

    Estimates are clipped to the range that pictures have, as in DDPM's own sampling code.
    """

    def __init__(self, net: nn.Module, diffusion: Diffusion, autocast: bool = False) -> None:
        self.net, self.diffusion, self.autocast = net, diffusion, autocast

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x [b,3,h,w], sigma a scalar tensor that is one of the process's own levels; returns [b,3,h,w]."""
        t = (self.diffusion.sigmas - sigma.to(x.device)).abs().argmin().expand(len(x))
        scale = (1 + sigma.to(x.device) ** 2).rsqrt()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            eps = self.net(x * scale, t)
        return (x - sigma * eps.float()).clamp(-1, 1)
