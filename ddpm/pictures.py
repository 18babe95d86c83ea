"""Grids and strips of pictures, as a person looks at them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ddpm.model.diffusion import Denoiser, Diffusion, to_uint8, to_unit
from ddpm.model.sampling import SAMPLERS, PictureNoise
from ddpm.settings import ModelSettings

GAP = 2  # pixels between pictures, before enlargement
TARGET_SIDE = 64  # small pictures are enlarged by a whole factor to about this many pixels a side


def grid(images: Tensor, columns: int | None = None, together: int = 1) -> np.ndarray:
    """Pictures uint8 [n,3,h,w] in rows on white; returns uint8 [H,W,3]. Small ones are enlarged without smoothing.

    Where `together` of them belong to each other, there is more room between those and the next.
    """
    n, _, h, w = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    room = 2 * GAP if together > 1 else 0
    width = columns * (w + GAP) + GAP + (columns - 1) // together * room
    sheet = np.full((rows * (h + GAP) + GAP, width, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        row, column = divmod(i, columns)
        top, left = GAP + row * (h + GAP), GAP + column * (w + GAP) + column // together * room
        sheet[top : top + h, left : left + w] = picture
    factor = max(1, TARGET_SIDE // h)
    return sheet.repeat(factor, axis=0).repeat(factor, axis=1)


def png(picture: np.ndarray) -> bytes:
    """uint8 [h,w,3] as a PNG file's bytes; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def noising_strip(images: Tensor, settings: ModelSettings, frames: int = 9) -> Tensor:
    """Pictures uint8 [n,3,h,w] being destroyed: n rows of `frames` noise levels, from the lowest that sampling knows to
    the highest, in DDPM's coordinates: uint8 [n*frames,3,h,w]."""
    sigmas = Diffusion(settings).sampling_sigmas(settings.timesteps)[:-1].flip(0)
    sigma = sigmas[torch.linspace(0, len(sigmas) - 1, frames).round().long()].repeat(len(images)).view(-1, 1, 1, 1)
    x0 = to_unit(images).repeat_interleave(frames, 0)
    noise = PictureNoise(range(len(images)), images.shape[-1], torch.device("cpu"))().repeat_interleave(frames, 0)
    return to_uint8((x0 + sigma * noise) * (1 + sigma**2).rsqrt())


@torch.inference_mode()
def denoising_strip(
    net: nn.Module, settings: ModelSettings, image_size: int, seeds: Sequence[int], sampler: str, steps: int, device: torch.device,
    frames: int = 9,
) -> Tensor:  # fmt: skip
    """Pictures appearing: a row for each seed of `frames` states between pure noise and the picture: uint8 [n*frames,3,h,w].

    States are shown in DDPM's coordinates, in which they stay within a picture's range of values.
    """
    diffusion = Diffusion(settings).to(device)
    labels = torch.tensor([seed % settings.classes for seed in seeds], device=device) if settings.classes else None
    denoise = Denoiser(net.to(device).eval(), diffusion, labels=labels)
    sigmas = diffusion.sampling_sigmas(steps)
    states: list[Tensor] = []

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        states.append((x * (1 + sigma**2).rsqrt()).cpu())
        return denoise(x, sigma)

    noise = PictureNoise(seeds, image_size, device)
    picture = SAMPLERS[sampler](watched, diffusion.prior(noise(), sigmas[0]), sigmas, noise)
    states.append(picture.cpu())
    shown = torch.linspace(0, len(states) - 1, frames).round().long()
    return to_uint8(torch.stack([states[i] for i in shown.tolist()], dim=1).flatten(0, 1))
