"""How well a model denoises, level by level.

In the coordinates x = x_0 + sigma eps every objective answers the same question, so these losses compare between models
of different objectives, and between training and held-out pictures of the same model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm.model.diffusion import to_unit
from ddpm.model.sampling import Denoise
from ddpm.randomness import generator

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # sigma, for pictures in -1 ... 1


@torch.inference_mode()
def loss_by_level(
    denoise: Denoise, images: Tensor, device: torch.device | str = "cpu", batch: int = 64, seed: int = 0
) -> dict[float, float]:
    """The mean squared error of D(x_0 + sigma eps, sigma), over sigma^2 (that is, in units of the noise), by sigma.

    images uint8 [n,3,h,w]. Each picture has the same noise at every level and in every call with the same seed, so that
    differences between calls are the model's. Raises ValueError without pictures.
    """
    if len(images) == 0:
        raise ValueError("there are no pictures to take a loss of")
    totals = torch.zeros(len(LEVELS), dtype=torch.float64)
    for start in range(0, len(images), batch):
        x0 = to_unit(images[start : start + batch]).to(device)
        eps = torch.randn(x0.shape, generator=generator("cpu", "levels", seed, start)).to(device)
        for number, sigma in enumerate(LEVELS):
            found = denoise(x0 + sigma * eps, torch.tensor(sigma))
            totals[number] += float((found - x0).square().mean(dim=(1, 2, 3)).cpu().double().sum()) / sigma**2
    return {sigma: float(total) / len(images) for sigma, total in zip(LEVELS, totals, strict=True)}
