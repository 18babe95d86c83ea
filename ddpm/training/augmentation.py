"""Non-leaky augmentation: pictures are moved, and the network is told how (Karras et al. 2022, appendix F.2).

Told nothing, as when pictures are drawn, it draws pictures as they are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE_STD, STRETCH_STD, MOVE_STD = 0.2, 0.2, 0.125  # EDM's; the last in widths of the picture


def draw_labels(n: int, probability: float, draw: torch.Generator) -> Tensor:
    """What to do to n pictures, each thing with this probability: [n,9] on the generator's device, zero for nothing.

    Mirrored in x and in y (0 or 1), scaled (log2), turned (cos - 1, sin), stretched along an axis (log2, times cos and
    sin of twice the axis' angle: EDM takes the angle itself, which names two different stretches alike), moved in x and
    y (widths).
    """
    device = draw.device

    def chosen(among: float = 1.0) -> Tensor:
        return (torch.rand(n, device=device, generator=draw) < probability * among).float()

    def normal(std: float) -> Tensor:
        return torch.randn(n, device=device, generator=draw) * std

    def angle() -> Tensor:
        return (torch.rand(n, device=device, generator=draw) * 2 - 1) * math.pi

    mirror_x, mirror_y = chosen(0.5), chosen(0.5)  # half of those chosen: a mirror image is as likely as not
    scale, turn = chosen() * normal(SCALE_STD), chosen() * angle()
    stretch, axis = chosen() * normal(STRETCH_STD), angle()
    moved = chosen()
    return torch.stack(
        [
            mirror_x, mirror_y, scale, turn.cos() - 1, turn.sin(), stretch * (2 * axis).cos(), stretch * (2 * axis).sin(),
            moved * normal(MOVE_STD), moved * normal(MOVE_STD),
        ],
        dim=1,
    )  # fmt: skip


def augment(x: Tensor, labels: Tensor) -> Tensor:
    """x [b,3,h,w], each picture as its labels [b,9] say. What comes in from beyond an edge is its mirror image.

    Pictures to which nothing is done are not even resampled. Never waits for the device.
    """
    mirror_x, mirror_y, scale, cos_less_1, sin, along, across, move_x, move_y = labels.unbind(1)
    # Where each pixel of the result comes from, as a matrix over coordinates -1 ... 1.
    mirror = torch.diag_embed(torch.stack([1 - 2 * mirror_x, 1 - 2 * mirror_y], dim=1))
    stretch, axis = (along**2 + across**2).sqrt(), torch.atan2(across, along) / 2
    stretched = torch.diag_embed(torch.stack([torch.exp2(-stretch), torch.exp2(stretch)], dim=1))
    turned = _rotation(cos_less_1 + 1, sin)
    there, back = _rotation(axis.cos(), axis.sin()), _rotation(axis.cos(), -axis.sin())
    linear = mirror @ there @ stretched @ back @ turned * torch.exp2(-scale).view(-1, 1, 1)
    theta = torch.cat([linear, -2 * torch.stack([move_x, move_y], dim=1).unsqueeze(2)], dim=2).to(x.dtype)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return torch.where((labels == 0).all(dim=1).view(-1, 1, 1, 1), x, moved)


def _rotation(cos: Tensor, sin: Tensor) -> Tensor:
    """[b] each, to [b,2,2]."""
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
