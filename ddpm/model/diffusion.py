"""The diffusion process: noise levels, the objective, and the network as a denoiser.

One coordinate is used throughout, EDM's (Karras et al. 2022, https://arxiv.org/abs/2206.00364): x = x_0 + sigma eps. DDPM's
x_t (Ho et al. 2020, https://arxiv.org/abs/2006.11239) is x / sqrt(1 + sigma^2), with sigma_t^2 = (1 - abar_t) / abar_t. In
it every objective is one preconditioner (EDM, equation 7) of the network F,

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise),

    epsilon   c_skip 1                    c_out -sigma                       F predicts eps        (DDPM)
    v         c_skip 1 / (1 + sigma^2)    c_out -sigma / sqrt(1 + sigma^2)   F predicts v          (Salimans & Ho 2022,
                                                                             https://arxiv.org/abs/2202.00512)
    edm       c_skip sd^2 / (sd^2 + s^2)  c_out s sd / sqrt(sd^2 + s^2)      F has unit variance   (EDM, table 1)

so that one loss, one denoiser and every sampler serve them all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ddpm.settings import ModelSettings

SIGMA_DATA = 0.5  # EDM's: the standard deviation of pictures in -1 ... 1
P_MEAN, P_STD = -1.2, 1.2  # of the logarithm of sigma in EDM's training (table 1)
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # EDM's sampling levels (equation 5)


def to_unit(images: Tensor) -> Tensor:
    """uint8 0 ... 255 to float32 -1 ... 1."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """-1 ... 1 to uint8 0 ... 255, rounded and clamped: what every metric and every file sees."""
    return (x.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def linear_betas(timesteps: int) -> Tensor:
    """DDPM's, 1e-4 to 0.02 at T = 1000; at another T scaled so that the end is as noisy. float64 [T]."""
    scale = 1000 / timesteps
    return torch.linspace(1e-4 * scale, 0.02 * scale, timesteps, dtype=torch.float64).clamp(max=0.999)


def cosine_betas(timesteps: int) -> Tensor:
    """Those of Nichol & Dhariwal 2021 (https://arxiv.org/abs/2102.09672, equation 17, with s = 0.008). float64 [T]."""
    at = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = ((at + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


BETAS = {"linear": linear_betas, "cosine": cosine_betas}


class Diffusion(nn.Module):
    """Noise levels and objective of a model.

    Buffers, for the discrete objectives: abar (the cumulative product of 1 - beta) and sigmas, each float32 [T].
    """

    abar: Tensor
    sigmas: Tensor

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.timesteps, self.objective = settings.timesteps, settings.objective
        abar = (1 - BETAS[settings.schedule](self.timesteps)).cumprod(0)
        self.register_buffer("abar", abar.float(), persistent=False)
        self.register_buffer("sigmas", ((1 - abar) / abar).sqrt().float(), persistent=False)

    @property
    def discrete(self) -> bool:
        return self.objective != "edm"

    # -- noise levels ----------------------------------------------------------------------------------------------

    def draw_levels(self, n: int, draw: torch.Generator) -> Tensor:
        """Noise levels to train at, sigma [n], on the generator's device: uniform timesteps, or EDM's log-normal."""
        if self.discrete:
            t = torch.randint(self.timesteps, (n,), device=draw.device, generator=draw)
            return self.sigmas.to(draw.device)[t]
        return (P_MEAN + P_STD * torch.randn(n, device=draw.device, generator=draw)).exp()

    def even_levels(self, n: int) -> Tensor:
        """n noise levels spread evenly over those that training draws, rising: sigma [n], on the CPU."""
        at = (torch.arange(n) + 0.5) / n
        if self.discrete:
            return self.sigmas.cpu()[(at * self.timesteps).long()]
        return (P_MEAN + P_STD * math.sqrt(2) * torch.erfinv(2 * at - 1)).exp()

    def sampling_sigmas(self, steps: int) -> Tensor:
        """`steps` noise levels to sample at, falling, and a final 0: [steps + 1], on the CPU.

        Discrete processes use their own levels: timesteps from T-1 to 0, spaced quadratically (Song et al. 2021,
        https://arxiv.org/abs/2010.02502, appendix D.2), but no two equal: with T steps they are all of them. Evenly
        spaced ones leave too wide a gap at the end: on data whose solution is known, 20 steps of DPM-Solver++ then err
        ten times as much. Asking for more than T gives T. EDM's are those of its equation 5.
        """
        if not self.discrete:
            at = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
            low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
            return torch.cat([(high + at * (low - high)) ** RHO, torch.zeros(1)]).float()
        steps = min(steps, self.timesteps)
        if steps == 1:
            t = torch.tensor([self.timesteps - 1])
        else:
            i = torch.arange(steps, dtype=torch.float64)
            t = torch.maximum(((self.timesteps - 1) * (i / (steps - 1)) ** 2).round(), i).long().flip(0)
        return torch.cat([self.sigmas.cpu()[t], torch.zeros(1)])

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """Where sampling starts: noise [b,3,h,w] at the first sigma. DDPM's x_T is standard normal in its coordinates."""
        return noise * ((1 + sigma**2).sqrt() if self.discrete else sigma)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The timestep of a noise level, float, any shape: a whole number for the process's own levels, and between them
        linear in the logarithm of sigma, so that every sampler may ask at any level."""
        levels = self.sigmas.log()
        at = sigma.clamp(self.sigmas[0], self.sigmas[-1]).log()
        high = torch.searchsorted(levels, at).clamp(1, self.timesteps - 1)
        low = high - 1
        return low + (at - levels[low]) / (levels[high] - levels[low])

    # -- the preconditioner ----------------------------------------------------------------------------------------

    def precondition(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in and c_noise at these noise levels, each of sigma's shape."""
        if self.objective == "edm":
            norm = (sigma**2 + SIGMA_DATA**2).rsqrt()
            return (SIGMA_DATA * norm) ** 2, sigma * SIGMA_DATA * norm, norm, sigma.log() / 4
        c_in = (1 + sigma**2).rsqrt()
        if self.objective == "v":
            return c_in**2, -sigma * c_in, c_in, self.timestep(sigma)
        return torch.ones_like(sigma), -sigma, c_in, self.timestep(sigma)

    def loss(
        self, net: nn.Module, x0: Tensor, sigma: Tensor, eps: Tensor, labels: Tensor | None = None,
        augment: Tensor | None = None, min_snr_gamma: float = 0.0,
    ) -> Tensor:  # fmt: skip
        """The mean squared error of F against what it should be, per picture: [b].

        x0 and eps [b,3,h,w], sigma [b]; labels int64 [b] and augment [b,9] where the network is conditioned on them. For
        epsilon it is DDPM's simplified objective (equation 14); for edm EDM's, whose weight is 1 / c_out^2 (its section
        5). `min_snr_gamma` above 0 weighs the discrete ones by min-SNR (Hang et al. 2023,
        https://arxiv.org/abs/2303.09556, section 3.4), with SNR = 1 / sigma^2.
        """
        c_skip, c_out, c_in, c_noise = (c.to(x0.dtype) for c in self.precondition(sigma))
        s = sigma.to(x0.dtype)
        # F's target, (x_0 - c_skip x) / c_out, without the cancellation of x_0 against x at low noise.
        target = _each((1 - c_skip) / c_out) * x0 - _each(c_skip * s / c_out) * eps
        found = net(_each(c_in) * (x0 + _each(s) * eps), c_noise, labels, augment).to(x0.dtype)
        loss = (found - target).square().mean(dim=(1, 2, 3))
        if min_snr_gamma:
            snr = s**-2
            loss = loss * snr.clamp(max=min_snr_gamma) / (snr + (1 if self.objective == "v" else 0))
        return loss


def _each(per_picture: Tensor) -> Tensor:
    return per_picture.view(-1, 1, 1, 1)


class Denoiser:
    """The network as D(x, sigma), the expected picture x_0 given x = x_0 + sigma eps.

    With `labels` (int64 [b]) the pictures are of these classes; `guidance` w goes beyond them, D_none + w (D_label -
    D_none) (classifier-free guidance, Ho & Salimans 2022, https://arxiv.org/abs/2207.12598), or, where there is a `guide`,
    away from what that weaker model makes of the same, D_guide + w (D - D_guide) (autoguidance, Karras et al. 2024,
    https://arxiv.org/abs/2406.02507, equation 3): 1 is none, and costs nothing. The discrete objectives' estimates are
    clipped to the range that pictures have, as in DDPM's own sampling code.
    """

    def __init__(
        self, net: nn.Module, diffusion: Diffusion, autocast: bool = False, labels: Tensor | None = None,
        guidance: float = 1.0, guide: Denoiser | None = None,
    ) -> None:  # fmt: skip
        self.net, self.diffusion, self.autocast = net, diffusion, autocast
        self.labels, self.guidance, self.guide = labels, guidance, guide

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x [b,3,h,w], sigma a scalar tensor; returns [b,3,h,w]."""
        # A model's constants do not depend on the batch, and are needed in float32 whatever x is.
        c_skip, c_out, c_in, c_noise = self.diffusion.precondition(sigma.to(x.device, torch.float32).reshape(1))
        at, scaled = c_noise.expand(len(x)), x * c_in.to(x.dtype)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            found = self.net(scaled, at, self.labels).to(x.dtype)
            if self.labels is not None and self.guidance != 1 and self.guide is None:
                without = self.net(scaled, at, None).to(x.dtype)
                found = without + self.guidance * (found - without)  # D is linear in F
        estimate = c_skip.to(x.dtype) * x + c_out.to(x.dtype) * found
        if self.guide is not None and self.guidance != 1:
            weaker = self.guide(x, sigma)
            estimate = weaker + self.guidance * (estimate - weaker)
        return estimate.clamp(-1, 1) if self.diffusion.discrete else estimate
