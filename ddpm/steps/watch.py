"""What is recorded while a network trains: figures over images, sample grids over epochs."""

from __future__ import annotations

import torch
from torch import nn

from ddpm.model.sampling import generate
from ddpm.pictures import grid
from ddpm.settings import ModelSettings
from ddpm.tracking import NoTrackedRun, TrackedRun

GRID_SEEDS = range(16)


class Recorder:
    """A trainer's observer that passes all it hears to a tracked run, and draws a grid at every look."""

    def __init__(
        self, run: TrackedRun | NoTrackedRun, model: ModelSettings, image_size: int, steps: int, device: torch.device
    ) -> None:
        self.run, self.model, self.image_size, self.steps, self.device = run, model, image_size, steps, device

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        self.run.metrics(values, images_seen)

    def looked(self, epoch: int, images_seen: int, net: nn.Module) -> bool:
        drawn = generate(
            net, self.model, self.image_size, GRID_SEEDS, "dpm-solver++", self.steps, len(GRID_SEEDS), self.device
        )
        self.run.picture("samples", grid(torch.cat(list(drawn))), step=images_seen)
        return False

    def saving(self) -> None:
        self.run.flush()
