"""The held-out loss: on fixed triples of picture, noise level and noise, so that two looks differ by the network alone."""

from __future__ import annotations

import itertools
from decimal import Decimal

import torch
from torch import nn

from ddpm.data.dataset import Split
from ddpm.model.diffusion import Diffusion, to_unit
from ddpm.randomness import generator
from ddpm.training.recipe import Recipe

PICTURES = 512  # at most
BANDS = 8  # parts of the noise levels that have losses of their own


def held_out_losses(net: nn.Module, split: Split, recipe: Recipe, micro: int) -> list[float]:
    """A network's loss on each triple, `micro` at a time; empty without pictures.

    The levels are spread evenly over those that training draws, rising from the first picture to the last.
    """
    images, labels = split.images[:PICTURES], split.labels[:PICTURES]
    device, diffusion = recipe.device, recipe.diffusion
    sigma = diffusion.even_levels(len(images))
    eps = torch.randn(images.shape, generator=generator("cpu", "held-out loss"))
    losses: list[float] = []
    with torch.inference_mode():
        for rows in torch.arange(len(images)).split(micro):
            x0, noise = to_unit(images[rows]).to(device, recipe.dtype), eps[rows].to(device, recipe.dtype)
            told = labels[rows].to(device) if recipe.model.classes else None
            losses += diffusion.loss(net, x0, sigma[rows].to(device), noise, told).tolist()
    return losses


def by_band(losses: list[float], diffusion: Diffusion) -> dict[str, float]:
    """The mean loss of each part of the noise levels, by the level in its middle."""
    sigma = diffusion.even_levels(len(losses)).tolist()
    bands = min(BANDS, len(set(sigma)))
    edges = [len(losses) * band // bands for band in range(bands + 1)]
    return {
        f"held_out_loss/sigma_{_two_digits(sigma[(low + high) // 2])}": sum(losses[low:high]) / (high - low)
        for low, high in itertools.pairwise(edges)
    }


def _two_digits(level: float) -> str:
    """The two digits that matter, in fixed point: 110, never 1.1e+02, which is no part of a metric's name in MLflow."""
    return f"{Decimal(f'{level:.2g}'):f}"
