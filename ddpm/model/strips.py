"""Strips of pictures between noise and what they show, as a person looks at them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddpm.errors import WrongInput
from ddpm.model.diffusion import Diffusion, to_uint8, to_unit
from ddpm.model.model import Model
from ddpm.model.sampling import PictureNoise
from ddpm.settings import DrawSettings, ModelSettings

FRAMES = 9  # states of each picture that are shown
WATCHED = 50  # steps that are enough to watch


def watchable(drawing: DrawSettings) -> DrawSettings:
    """The same way of drawing, in no more steps than are worth watching."""
    return dataclasses.replace(drawing, sampling_steps=min(drawing.sampling_steps, WATCHED))


def noising_strip(images: Tensor, settings: ModelSettings, frames: int = FRAMES) -> Tensor:
    """Pictures uint8 [n,3,h,w] being destroyed: n rows of `frames` noise levels, from the lowest that sampling knows to
    the highest, in DDPM's coordinates: uint8 [n*frames,3,h,w]."""
    sigmas = Diffusion(settings).sampling_sigmas(settings.timesteps)[:-1].flip(0)
    sigma = sigmas[torch.linspace(0, len(sigmas) - 1, frames).round().long()].repeat(len(images)).view(-1, 1, 1, 1)
    x0 = to_unit(images).repeat_interleave(frames, 0)
    noise = PictureNoise(range(len(images)), images.shape[-1], torch.device("cpu"))().repeat_interleave(frames, 0)
    return to_uint8((x0 + sigma * noise) * (1 + sigma**2).rsqrt())


def denoising_strip(model: Model, seeds: Sequence[int], drawing: DrawSettings, frames: int = FRAMES) -> Tensor:
    """Pictures appearing: a row for each seed of `frames` states between pure noise and the picture: uint8 [n*frames,3,h,w].

    The last of a row is the picture that the model draws. The others are shown in DDPM's coordinates, in which they stay
    within a picture's range of values.
    """
    if not seeds:
        raise WrongInput("seeds: none are given; a strip needs one at least")
    appearing = Appearing(drawing.sampling_steps, dict.fromkeys(range(len(seeds)), frames))
    together = dataclasses.replace(drawing, sample_batch=len(seeds))
    [pictures] = model.draw_batches(seeds, together, watch=appearing.watch)
    return torch.cat([appearing.of(row, picture) for row, picture in enumerate(pictures)])


class Appearing:
    """What is shown of a batch's pictures on the way from noise. Of its states no others are kept: a thousand of a large
    batch would not fit into memory.

    Args:
        steps: the sampler's; it shows its state at the beginning of each.
        frames: of each row of the batch that is shown, in how many states.
    """

    def __init__(self, steps: int, frames: Mapping[int, int]) -> None:
        self._wanted = {row: frames_of(steps + 1, count) for row, count in frames.items()}
        self._kept: dict[int, dict[int, Tensor]] = {row: {} for row in frames}
        self._at, self._last = 0, steps

    def watch(self, x: Tensor, sigma: Tensor) -> None:
        rows = [row for row, wanted in self._wanted.items() if self._at in wanted]
        if rows:
            for row, state in zip(rows, shown(x[rows], sigma), strict=True):
                self._kept[row][self._at] = state
        self._at += 1

    def of(self, row: int, picture: Tensor) -> Tensor:
        """From noise to the picture, which is the last: uint8 [frames,3,h,w]. It stands too for what a sampler of
        somebody's own did not show."""
        states = {**self._kept[row], self._last: picture}
        return torch.stack([states.get(at, picture) for at in self._wanted[row]])


def shown(x: Tensor, sigma: Tensor) -> Tensor:
    """A state of the sampler as a person looks at it, in DDPM's coordinates: uint8 of x's shape, on the CPU."""
    return to_uint8(x * (1 + sigma**2).rsqrt()).cpu()


def frames_of(states: int, frames: int) -> list[int]:
    """Which of so many states are shown: the first and the last, and others evenly between."""
    return torch.linspace(0, states - 1, frames).round().long().tolist()
