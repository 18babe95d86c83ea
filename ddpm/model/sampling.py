"""Samplers: one function each, one signature, any of them on any model.

    sampler(denoise, x, sigmas, draw, watch=None) -> x_0

`denoise(x, sigma)` estimates x_0; x [b,3,h,w] = x_0 + sigma_0 eps; sigmas [steps + 1] fall and end with 0; `draw()` gives
fresh standard normal noise of x's shape to those samplers that need some; `watch(x, sigma)` is shown the state at the
beginning of each step. A new sampler is one such function and its row in SAMPLERS, or, elsewhere, a call of `register`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ddpm import settings
from ddpm.randomness import generator
from ddpm.settings import ModelSettings

Denoise = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[], Tensor]
Watch = Callable[[Tensor, Tensor], None]


Solve = Callable[..., Tensor]  # as above; one that churns also takes `churn`, a float, by that name


def ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, watch: Watch | None = None) -> Tensor:
    """DDPM's own sampler (Ho et al. 2020, algorithm 2, with the posterior's variance, equation 7).

    The posterior q(x' | x, x_0), in coordinates x = x_0 + sigma eps, has the mean x_0 + (s'^2 / s^2) (x - x_0) and the
    variance s'^2 (s^2 - s'^2) / s^2.
    """
    for sigma, to in pairwise(sigmas):
        if watch:
            watch(x, sigma)
        x0 = denoise(x, sigma)
        x = x0 + (to / sigma) ** 2 * (x - x0)
        if to > 0:
            x = x + (to / sigma) * (sigma**2 - to**2).sqrt() * draw()
    return x


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, watch: Watch | None = None) -> Tensor:
    """DDIM with eta = 0 (Song et al. 2021, https://arxiv.org/abs/2010.02502, equation 13): Euler steps of the ODE."""
    for sigma, to in pairwise(sigmas):
        if watch:
            watch(x, sigma)
        x0 = denoise(x, sigma)
        x = x0 + (to / sigma) * (x - x0)
    return x


def dpm_solver_pp(denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, watch: Watch | None = None) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2), with lambda = -log sigma.

    The first step, and the last, to sigma 0, are of first order.
    """
    before: Tensor | None = None
    h_before = torch.tensor(0.0)
    for sigma, to in pairwise(sigmas):
        if watch:
            watch(x, sigma)
        x0 = denoise(x, sigma)
        if to == 0:
            return x0
        h = (sigma / to).log()
        slope = x0 if before is None else x0 + (x0 - before) * (h / (2 * h_before))
        x = (to / sigma) * x - torch.expm1(-h) * slope
        before, h_before = x0, h
    return x


def heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, watch: Watch | None = None, churn: float = 0.0
) -> Tensor:
    """EDM's sampler, Heun's method of second order (Karras et al. 2022, algorithm 2; with churn 0, algorithm 1).

    `churn` is S_churn: before each step noise is added that raises sigma by up to a factor sqrt(2), here at every level
    (S_min 0, S_max infinity, S_noise 1). The last step, to sigma 0, is Euler's: 2 steps - 1 evaluations.
    """
    raised = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for sigma, to in pairwise(sigmas):
        if watch:
            watch(x, sigma)
        if raised > 0:
            higher = sigma * (1 + raised)
            x, sigma = x + (higher**2 - sigma**2).sqrt() * draw(), higher
        slope = (x - denoise(x, sigma)) / sigma
        euler = x + (to - sigma) * slope
        x = x + (to - sigma) * (slope + (euler - denoise(euler, to)) / to) / 2 if to > 0 else euler
    return x


@dataclass(frozen=True)
class Sampler:
    """A sampler: its function, how often a step evaluates the denoiser (the last, to sigma 0, once), whether it churns."""

    solve: Solve
    evaluations: int = 1
    churns: bool = False


SAMPLERS: dict[str, Sampler] = {
    "ancestral": Sampler(ancestral),
    "ddim": Sampler(ddim),
    "dpm-solver++": Sampler(dpm_solver_pp),
    "heun": Sampler(heun, evaluations=2, churns=True),
}
_OURS = tuple(SAMPLERS)


def is_own(name: str) -> bool:
    """Whether somebody registered it: what it does may change from one process to the next."""
    return name not in _OURS


def register(name: str, sampler: Sampler) -> None:
    """Make a sampler of one's own known by a name, which settings then take. Raises ValueError for a name that is taken."""
    if name in SAMPLERS:
        raise ValueError(f"there is a sampler named {name!r} already; give another name")
    SAMPLERS[name] = sampler
    settings.SAMPLERS.append(name)
    if sampler.churns:
        settings.CHURNING.append(name)


def generate(
    net: nn.Module, model: ModelSettings, image_size: int, seeds: Sequence[int], sampler: str, steps: int, batch: int,
    device: torch.device, *, churn: float = 0.0, guidance: float = 1.0,
) -> Iterator[Tensor]:  # fmt: skip
    """`Model.draw_batches` by the name under which versions that release 0.1 registered call it: they carry that call."""
    from ddpm.model.model import Model  # which draws by this file

    drawing = settings.DrawSettings(sampler, steps, churn, guidance, batch)
    return Model(net, model, image_size, drawing, device=device).draw_batches(seeds)


def evaluations(sampler: str, steps: int) -> int:
    """How often a sampler evaluates the denoiser for a picture (NFE)."""
    return SAMPLERS[sampler].evaluations * (steps - 1) + 1


@dataclass(frozen=True)
class Between:
    """A picture on the way between two seeds' ones: `share` 0 is the first's picture, and 1 the second's."""

    first: int
    second: int
    share: float


class PictureNoise:
    """Standard normal noise in which each picture has a generator of its own, keyed by its seed.

    Drawn on the CPU, so that a picture's noise is the same on every device. What lies between two seeds has both their
    draws, interpolated.
    """

    def __init__(self, seeds: Sequence[int | Between], image_size: int, device: torch.device) -> None:
        ends = [(seed.first, seed.second) if isinstance(seed, Between) else (seed,) for seed in seeds]
        self.generators = [[generator("cpu", "picture", seed) for seed in of_picture] for of_picture in ends]
        self.shares = [seed.share if isinstance(seed, Between) else 0.0 for seed in seeds]
        self.shape = (3, image_size, image_size)
        self.device = device

    def __call__(self) -> Tensor:
        """[len(seeds), 3, image_size, image_size], the next draw of each picture."""
        drawn = []
        for of_picture, share in zip(self.generators, self.shares, strict=True):
            ends = [torch.randn(self.shape, generator=g) for g in of_picture]
            drawn.append(ends[0] if len(ends) == 1 else slerp(ends[0], ends[1], share))
        return torch.stack(drawn).to(self.device)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """From a (share 0) to b (share 1) along the great circle, so that noise between two draws is as strong as they are.

    The ends are a and b themselves, bit for bit (Shoemake 1985; of a diffusion model's noise, Song et al. 2021,
    https://arxiv.org/abs/2010.02502, appendix D.5). Between parallel ones the way is straight.
    """
    if share in (0, 1):
        return b if share else a
    angle = torch.acos(torch.clamp((a * b).sum() / (a.norm() * b.norm()), -1, 1))
    if angle.sin().abs() < 1e-6:
        return a + share * (b - a)
    return (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
