"""The U-Net of Ho et al. 2020 (https://arxiv.org/abs/2006.11239, appendix B) for any list of channel multipliers.

Residual blocks with GroupNorm and SiLU, a sinusoidal timestep embedding added in each, self-attention at low
resolutions, and skip connections from the way down to the way up.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.device import memory_of
from ddpm.errors import WrongInput
from ddpm.model.norm import GroupNorm
from ddpm.settings import ModelSettings, parse_mults, require_halvable

CHANNELS = 3
AUGMENT_LABELS = 9  # numbers that say what was done to a picture


def timestep_embedding(t: Tensor, size: int) -> Tensor:
    """Sinusoids of the timestep, or of EDM's c_noise (Vaswani et al. 2017, section 3.5). t [b]; returns [b, size]."""
    half = size // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that starts as zero, so that its residual branch starts as the identity."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class _Dense(torch.autograd.Function):
    """x itself, whose gradient is laid out with channels last, and nothing between its numbers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last)


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    """[b,c,h,w] and [b,d,h,w] to [b,c+d,h,w]. Compiled, each takes its gradient out of the whole's once, for all that use it."""
    if torch.compiler.is_compiling():
        x, skip = _Dense.apply(x), _Dense.apply(skip)
    return torch.cat([x, skip], dim=1)


class ResidualBlock(nn.Module):
    """[b, inputs, h, w] and the embedding [b, e] to [b, outputs, h, w]."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embedding = nn.Linear(embedding, outputs)
        self.norm2 = GroupNorm(groups, outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.embedding(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.skip(x) + h


class SelfAttention(nn.Module):
    """Single-head attention over the pixels of [b, c, h, w], as a residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x))
        if torch.compiler.is_compiling():  # a gradient with channels last
            q, k, v = qkv.flatten(2).transpose(1, 2).unflatten(2, (3, c)).unbind(2)  # each [b, hw, c]
        else:
            q, k, v = qkv.reshape(b, 3, c, h * w).transpose(2, 3).unbind(1)
        a = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.out(a.transpose(1, 2).reshape(b, c, h, w))


class Stage(nn.Module):
    """A residual block, followed by attention where the resolution asks for it."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int, dropout: float, attend: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(inputs, outputs, embedding, groups, dropout)
        self.attention = SelfAttention(outputs, groups) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.block(x, embedding))


class Downsample(nn.Conv2d):
    """Halves the resolution by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


def _doubled(x: Tensor) -> Tensor:
    """Each pixel of [b,c,h,w] four times. `interpolate`, compiled, has a gradient that is gathered channels first."""
    b, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, 2, w, 2, c)
    return pixels.reshape(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


class Upsample(nn.Module):
    """Doubles the resolution: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(_doubled(x) if torch.compiler.is_compiling() else F.interpolate(x, scale_factor=2.0))


class UNet(nn.Module):
    """The network: forward(x [b,3,h,w], t [b]) -> [b,3,h,w]; h and w must halve evenly once a level but the last.

    With classes it takes `labels`, int64 [b] (-1, or no labels at all: of no class); with augmentation `augment`, [b,9],
    what was done to each picture (none: nothing was). Raises WrongInput for an image size that cannot be halved so often.
    """

    def __init__(self, settings: ModelSettings, image_size: int) -> None:
        super().__init__()
        require_halvable(image_size, settings.channel_mults)
        mults = parse_mults(settings.channel_mults)
        base, groups, dropout = settings.base_channels, settings.base_channels // 4, settings.dropout
        self.base = base
        width = 4 * base
        self.embed = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))
        # Row 0 is "of no class". Without bias: pictures as they are must not change the embedding.
        self.embed_label = nn.Embedding(settings.classes + 1, width) if settings.classes else None
        self.embed_augment = nn.Linear(AUGMENT_LABELS, width, bias=False) if settings.augment else None
        self.head = nn.Conv2d(CHANNELS, base, 3, padding=1)

        def stage(inputs: int, outputs: int, size: int) -> Stage:
            return Stage(inputs, outputs, width, groups, dropout, attend=size <= settings.attention_resolution)

        self.down = nn.ModuleList()
        channels, size, skips = base, image_size, [base]
        for level, mult in enumerate(mults):
            if level:
                self.down.append(Downsample(channels))
                size //= 2
                skips.append(channels)
            for _ in range(settings.blocks):
                self.down.append(stage(channels, base * mult, size))
                channels = base * mult
                skips.append(channels)

        self.middle = nn.ModuleList([
            Stage(channels, channels, width, groups, dropout, attend=True),
            Stage(channels, channels, width, groups, dropout, attend=False),
        ])  # fmt: skip

        self.up = nn.ModuleList()
        for level, mult in reversed(list(enumerate(mults))):
            for _ in range(settings.blocks + 1):
                self.up.append(stage(channels + skips.pop(), base * mult, size))
                channels = base * mult
            if level:
                self.up.append(Upsample(channels))
                size *= 2

        self.tail = nn.Sequential(
            GroupNorm(groups, channels), nn.SiLU(), _zeroed(nn.Conv2d(channels, CHANNELS, 3, padding=1))
        )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None, augment: Tensor | None = None) -> Tensor:
        embedding = self.embed(timestep_embedding(t, self.base).to(self.head.weight.dtype))
        if self.embed_label is not None:
            rows = torch.zeros(len(x), dtype=torch.int64, device=x.device) if labels is None else labels + 1
            embedding = embedding + self.embed_label(rows)
        if self.embed_augment is not None and augment is not None:
            embedding = embedding + self.embed_augment(augment.to(embedding.dtype))
        embedding = F.silu(embedding)
        x = self.head(x.to(self.head.weight.dtype))
        skips = [x]
        for layer in self.down:
            x = layer(x, embedding) if isinstance(layer, Stage) else layer(x)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for layer in self.up:
            x = layer(_joined(x, skips.pop()), embedding) if isinstance(layer, Stage) else layer(x)
        return self.tail(x)


def weights_of(settings: ModelSettings, image_size: int) -> int:
    """How many weights such a network has, by arithmetic: nothing is built."""
    base, width, mults = settings.base_channels, 4 * settings.base_channels, parse_mults(settings.channel_mults)

    def conv(inputs: int, outputs: int, side: int) -> int:
        return inputs * outputs * side**2 + outputs

    def attention(channels: int) -> int:
        return 2 * channels + conv(channels, 3 * channels, 1) + conv(channels, channels, 1)

    def stage(inputs: int, outputs: int, size: int) -> int:
        block = (
            2 * inputs + conv(inputs, outputs, 3) + conv(width, outputs, 1) + 2 * outputs + conv(outputs, outputs, 3)
        )
        skip = conv(inputs, outputs, 1) if inputs != outputs else 0
        return block + skip + (attention(outputs) if size <= settings.attention_resolution else 0)

    found = conv(base, width, 1) + conv(width, width, 1) + conv(CHANNELS, base, 3)
    found += (settings.classes + 1) * width if settings.classes else 0
    found += AUGMENT_LABELS * width if settings.augment else 0
    channels, skips = base, [base]
    sizes = [image_size // 2**level for level in range(len(mults))]
    for level, (mult, size) in enumerate(zip(mults, sizes, strict=True)):
        if level:
            found += conv(channels, channels, 3)
            skips.append(channels)
        for _ in range(settings.blocks):
            found += stage(channels, base * mult, size)
            channels = base * mult
            skips.append(channels)
    found += 2 * stage(channels, channels, image_size + settings.attention_resolution) + attention(channels)
    for level in reversed(range(len(mults))):
        for _ in range(settings.blocks + 1):
            found += stage(channels + skips.pop(), base * mults[level], sizes[level])
            channels = base * mults[level]
        found += conv(channels, channels, 3) if level else 0
    return found + 2 * channels + conv(channels, CHANNELS, 3)


def require_room(settings: ModelSettings, image_size: int, bytes_a_weight: int, device: torch.device) -> None:
    """Raise WrongInput for a network that the device has no memory for, before any of it is built.

    Args:
        bytes_a_weight: of all that is kept for each weight, the weight itself included.
    """
    weights, there = weights_of(settings, image_size), memory_of(device)
    if weights * bytes_a_weight > there:
        raise WrongInput(
            f"base_channels: a network of {weights:,} weights, with base_channels {settings.base_channels}, channel_mults "
            f"{settings.channel_mults} and blocks {settings.blocks}, takes {weights * bytes_a_weight / 2**30:,.1f} GiB to "
            f"train, and there are {there / 2**30:,.1f} GiB; lower one of them"
        )
