"""Samplers: one function each, one signature, any of them on any model.

    sampler(denoise, x, sigmas, draw) -> x_0

`denoise(x, sigma)` estimates x_0; x [b,3,h,w] = x_0 + sigma_0 eps; sigmas [steps + 1] fall and end with 0; `draw()` gives
fresh standard normal noise of x's shape to those samplers that need some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ddpm.device import keep_memory, threads_for
from ddpm.model.diffusion import Denoiser, Diffusion, to_uint8
from ddpm.randomness import generator
from ddpm.settings import ModelSettings

Denoise = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[], Tensor]
Sampler = Callable[[Denoise, Tensor, Tensor, Draw], Tensor]


def ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw) -> Tensor:
    """DDPM's own sampler (Ho et al. 2020, algorithm 2, with the posterior's variance, equation 7).

    The posterior q(x' | x, x_0), in coordinates x = x_0 + sigma eps, has the mean x_0 + (s'^2 / s^2) (x - x_0) and the
    variance s'^2 (s^2 - s'^2) / s^2.
    """
    for sigma, to in pairwise(sigmas):
        x0 = denoise(x, sigma)
        x = x0 + (to / sigma) ** 2 * (x - x0)
        if to > 0:
            x = x + (to / sigma) * (sigma**2 - to**2).sqrt() * draw()
    return x


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw) -> Tensor:
    """DDIM with eta = 0 (Song et al. 2021, https://arxiv.org/abs/2010.02502, equation 13): Euler steps of the ODE."""
    for sigma, to in pairwise(sigmas):
        x0 = denoise(x, sigma)
        x = x0 + (to / sigma) * (x - x0)
    return x


def dpm_solver_pp(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2), with lambda = -log sigma.

    The first step, and the last, to sigma 0, are of first order.
    """
    before: Tensor | None = None
    h_before = torch.tensor(0.0)
    for sigma, to in pairwise(sigmas):
        x0 = denoise(x, sigma)
        if to == 0:
            return x0
        h = (sigma / to).log()
        slope = x0 if before is None else x0 + (x0 - before) * (h / (2 * h_before))
        x = (to / sigma) * x - torch.expm1(-h) * slope
        before, h_before = x0, h
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, churn: float = 0.0) -> Tensor:
    """EDM's sampler, Heun's method of second order (Karras et al. 2022, algorithm 2; with churn 0, algorithm 1).

    `churn` is S_churn: before each step noise is added that raises sigma by up to a factor sqrt(2), here at every level
    (S_min 0, S_max infinity, S_noise 1). The last step, to sigma 0, is Euler's: 2 steps - 1 evaluations.
    """
    raised = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for sigma, to in pairwise(sigmas):
        if raised > 0:
            higher = sigma * (1 + raised)
            x, sigma = x + (higher**2 - sigma**2).sqrt() * draw(), higher
        slope = (x - denoise(x, sigma)) / sigma
        euler = x + (to - sigma) * slope
        x = x + (to - sigma) * (slope + (euler - denoise(euler, to)) / to) / 2 if to > 0 else euler
    return x


SAMPLERS: dict[str, Sampler] = {"ancestral": ancestral, "ddim": ddim, "dpm-solver++": dpm_solver_pp, "heun": heun}


def evaluations(sampler: str, steps: int) -> int:
    """How often a sampler evaluates the denoiser for a picture (NFE)."""
    return 2 * steps - 1 if sampler == "heun" else steps


class PictureNoise:
    """Standard normal noise in which each picture has a generator of its own, keyed by its seed.

    Drawn on the CPU, so that a picture's noise is the same on every device.
    """

    def __init__(self, seeds: Sequence[int], image_size: int, device: torch.device) -> None:
        self.generators = [generator("cpu", "picture", seed) for seed in seeds]
        self.shape = (3, image_size, image_size)
        self.device = device

    def __call__(self) -> Tensor:
        """[len(seeds), 3, image_size, image_size], the next draw of each picture."""
        noise = torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])
        return noise.to(self.device)


@torch.inference_mode()
def generate(
    net: nn.Module, settings: ModelSettings, image_size: int, seeds: Sequence[int], sampler: str, steps: int,
    batch: int = 256, device: torch.device | str = "cpu", *, churn: float = 0.0, guidance: float = 1.0,
    label: int | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """Pictures, one for each seed, in batches: uint8 [b, 3, image_size, image_size] on the CPU.

    Every batch has the same shape (the last is padded), so that on one device a seed's picture has the same bytes
    whatever else is drawn. A request smaller than `batch` is padded too: the shape chooses the arithmetic. `sigmas` stays
    on the CPU: the samplers branch on it, and must not wait for the device. `churn` is heun's. Of a network with classes,
    a seed's picture is of class `label`, or, without one, of class seed mod classes; `guidance` as in Denoiser.
    """
    device = torch.device(device)
    keep_memory(device)
    diffusion = Diffusion(settings).to(device)
    net = net.to(device).eval()
    sigmas = diffusion.sampling_sigmas(steps)
    solve = partial(heun, churn=churn) if sampler == "heun" else SAMPLERS[sampler]
    for start in range(0, len(seeds), batch):
        wanted = list(seeds[start : start + batch])
        padded = wanted + [wanted[-1]] * (batch - len(wanted))
        noise = PictureNoise(padded, image_size, device)
        labels = None
        if settings.classes:
            labels = torch.tensor(
                [seed % settings.classes if label is None else label for seed in padded], device=device
            )
        denoise = Denoiser(net, diffusion, device.type == "cuda", labels, guidance)
        with threads_for(settings.base_channels, device):
            pictures = solve(denoise, diffusion.prior(noise(), sigmas[0]), sigmas, noise)
        yield to_uint8(pictures[: len(wanted)]).cpu()
