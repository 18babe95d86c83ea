"""Strips of pictures between noise and what they show, as a person looks at them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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
    states: list[Tensor] = []

    def watch(x: Tensor, sigma: Tensor) -> None:
        states.append(shown(x, sigma))

    together = dataclasses.replace(drawing, sample_batch=len(seeds))
    states += list(model.draw_batches(seeds, together, watch=watch))
    return torch.stack([states[i] for i in frames_of(len(states), frames)], dim=1).flatten(0, 1)


def shown(x: Tensor, sigma: Tensor) -> Tensor:
    """A state of the sampler as a person looks at it, in DDPM's coordinates: uint8 of x's shape, on the CPU."""
    return to_uint8(x * (1 + sigma**2).rsqrt()).cpu()


def frames_of(states: int, frames: int) -> list[int]:
    """Which of so many states are shown: the first and the last, and others evenly between."""
    return torch.linspace(0, states - 1, frames).round().long().tolist()
