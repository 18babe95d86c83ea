"""Counted FLOPs, and the U-Net of ours that does as many as a peer's.

Counted without computing (on the meta device), where every library's attention shows as the matrix products it is: a
kernel that the counter does not know would otherwise count as nothing. A multiply-add counts as two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm.model.unet import UNet
from ddpm.settings import ModelSettings

TOLERANCE = 0.05  # by which matched FLOPs may differ


def counted(make: Callable[[], nn.Module], image_size: int, backward: bool) -> float:
    """FLOPs per picture of one pass through the network, with the way back or without."""
    with torch.device("meta"):
        net = make().train()
        x, t = torch.empty(1, 3, image_size, image_size), torch.zeros(1, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            out = net(x, t)
            predicted: Tensor = out if isinstance(out, Tensor) else out.sample
            if backward:
                predicted.sum().backward()
    return float(counter.get_total_flops())


@cache
def ours(settings: ModelSettings, image_size: int, backward: bool) -> float:
    """FLOPs per picture of our U-Net."""
    return counted(lambda: UNet(settings, image_size), image_size, backward)


def matched(target: float, like: ModelSettings, image_size: int, backward: bool) -> ModelSettings:
    """Our U-Net of the same multipliers whose FLOPs are within TOLERANCE of `target`.

    `like` itself if it will do. Else one that attends where it does, if possible, and of round width, as one would choose
    it; among these the nearest count. Raises ValueError where there is none.
    """

    def off(settings: ModelSettings) -> float:
        return abs(ours(settings, image_size, backward) / target - 1)

    if off(like) <= TOLERANCE:
        return like
    for attends in (like.attention_resolution, like.attention_resolution // 2, 0):
        shapes = [replace(like, blocks=blocks, attention_resolution=attends) for blocks in (1, 2, 3)]
        for step in (16, 8, 4):
            tried = []
            for shape in shapes:
                width = like.base_channels * (target / ours(shape, image_size, backward)) ** 0.5  # nearly
                nearest = {max(step, int(width // step + more) * step) for more in (-1, 0, 1, 2)}
                tried += [replace(shape, base_channels=base) for base in sorted(nearest)]
            best = min(tried, key=off)
            if off(best) <= TOLERANCE:
                return best
    raise ValueError(f"no U-Net of {like.channel_mults} has {target / 1e9:.1f} GFLOP within {TOLERANCE:.0%}")
