"""The network, and the diffusion process that it is fitted for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddpm.errors import WrongInput
from ddpm.fields import Typed, require, setting

OBJECTIVES = ("epsilon", "v", "edm")
SCHEDULES = ("linear", "cosine")
MULTS = r"[1-9][0-9]?(-[1-9][0-9]?){0,9}"
MULTS_FORM = "whole numbers from 1 up, as in 1-2-4, at most ten, each below 100"


def parse_mults(text: str) -> tuple[int, ...]:
    """Channel multipliers as people write them, `1-2-4`, as numbers, one for each resolution from the finest down."""
    require(bool(re.fullmatch(MULTS, str(text))), "channel_mults", text, MULTS_FORM)
    return tuple(int(part) for part in text.split("-"))


def require_halvable(image_size: int, channel_mults: str) -> None:
    """A U-Net of L levels halves its input L-1 times: refuse a size for which that does not come out even."""
    levels = len(parse_mults(channel_mults))
    step = 2 ** (levels - 1)
    if image_size % step:
        nearest = max(step, round(image_size / step) * step)
        raise WrongInput(
            f"image_size: {image_size} cannot be halved {levels - 1} times, as channel_mults {channel_mults} needs; "
            f"the nearest size that can is {nearest}"
        )


@dataclass(frozen=True)
class ModelSettings(Typed):
    """What one must know to run a set of weights: the U-Net and the diffusion process it was fitted for."""

    channel_mults: str = setting(
        "1-2-4", "channels at each resolution, finest first, in units of base_channels", pattern=MULTS, form=MULTS_FORM
    )
    base_channels: int = setting(
        64, "the unit that channel multipliers multiply", unit="channels", low=4, high=4096, multiple=4
    )
    blocks: int = setting(2, "residual blocks at each resolution on the way down", low=1, high=64)
    attention_resolution: int = setting(
        16, "self-attention at this resolution and below", unit="pixels", low=0, high=4096, zero="only at the bottom"
    )
    dropout: float = setting(0.0, "share of a residual block's values that training sets to 0", low=0, below=1)
    augment: float = setting(
        0.0,
        "probability of each non-leaky augmentation, usually 0.12 (the network is told of them)",
        low=0,
        high=1,
        zero="none",
    )
    classes: int = setting(
        0, "class labels that the network is told, as many as the data set has", low=0, high=100_000, zero="none"
    )
    objective: str = setting(
        "epsilon",
        "what the network predicts: epsilon (DDPM), v, or edm (preconditioned, continuous noise levels)",
        choices=OBJECTIVES,
    )
    schedule: str = setting("linear", "how noise grows with the timestep; edm has none", choices=SCHEDULES)
    timesteps: int = setting(1000, "noise levels of the diffusion process", low=2, high=100_000)
