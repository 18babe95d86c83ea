"""Precision and recall: how many generated pictures lie among the real ones, and how many real among the generated.

Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991: a picture lies among others if it is within the distance
from one of them to that one's third neighbour. The arithmetic is torch-fidelity's, done block by block, so that no
matrix of all distances is held, and with the real pictures' radii given, so that they are found once.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 3
BLOCK = 10_000  # torch-fidelity's own: another size would round otherwise


def radii(features: Tensor) -> Tensor:
    """Each picture's distance to its third neighbour in the same set: float32 [n] of features [n,d]."""
    found = [_distances(block, features).kthvalue(NEIGHBOURS + 1).values for block in features.split(BLOCK)]
    return torch.cat(found)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.cdist(a, block) for block in b.split(BLOCK)], dim=1)


def precision_recall(generated: Tensor, real: Tensor, real_radii: Tensor) -> tuple[float, float]:
    """The share of generated pictures among the real ones, and of real ones among the generated. Features [n,d]."""
    generated_radii = radii(generated)
    precise = torch.zeros(len(generated), dtype=torch.bool)
    recalled = []
    for start in range(0, len(real), BLOCK):
        distances = _distances(real[start : start + BLOCK], generated)
        recalled.append((distances <= generated_radii).any(dim=1))
        precise |= (distances <= real_radii[start : start + BLOCK, None]).any(dim=0)
    return float(precise.float().mean()), float(torch.cat(recalled).float().mean())
