"""What a training is made of, as each of its parts must know it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ddpm.model.diffusion import Diffusion
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.schedule import Schedule
from ddpm.training.world import World


@dataclass(frozen=True)
class Recipe:
    """A model, how it is trained, when, and by whom. The diffusion process is on the world's device."""

    model: ModelSettings
    settings: TrainSettings
    schedule: Schedule
    diffusion: Diffusion
    world: World

    @property
    def device(self) -> torch.device:
        return self.world.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and pictures."""
        return torch.float64 if self.settings.precision == "fp64" else torch.float32

    @property
    def share(self) -> int:
        """Pictures of a batch that are this process's."""
        return self.schedule.batch // self.world.size
