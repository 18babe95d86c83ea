"""What a step trains on: this process's share of the pictures, noise levels, noise and labels of its batch.

All is drawn for the whole batch on every rank, so that the number of ranks changes no number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.data.dataset import Split
from ddpm.model.diffusion import to_unit
from ddpm.randomness import generator, key
from ddpm.training.augmentation import augment, draw_labels
from ddpm.training.feed import Batch as Fetched
from ddpm.training.feed import Feed
from ddpm.training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """x0 and eps [b,3,h,w], sigma [b]; labels int64 [b] and augment [b,9] where the network is told of them."""

    x0: Tensor
    sigma: Tensor
    eps: Tensor
    labels: Tensor | None
    augment: Tensor | None

    def __len__(self) -> int:
        return len(self.x0)

    def part(self, rows: slice) -> Batch:
        labels = None if self.labels is None else self.labels[rows]
        return Batch(
            self.x0[rows],
            self.sigma[rows],
            self.eps[rows],
            labels,
            None if self.augment is None else self.augment[rows],
        )


class Batches:
    """The batches of a training, by the number of their step."""

    def __init__(self, split: Split, recipe: Recipe) -> None:
        self.recipe = recipe
        self.feed = Feed(split, self.rows, recipe.device, recipe.settings.resident)
        self._orders: dict[int, Tensor] = {}  # shuffled, by epoch
        self.random = torch.Generator(recipe.device)  # of all that `draw` draws

    def rows(self, step: int) -> Tensor:
        """The rows of this process's share of a step's batch, from an order that is shuffled anew for every epoch."""
        recipe, schedule = self.recipe, self.recipe.schedule
        epoch, position = divmod(step, schedule.epoch_steps)
        if epoch not in self._orders:
            draw = generator("cpu", recipe.settings.train_seed, "order", epoch)
            order = torch.randperm(schedule.pictures, generator=draw)
            self._orders = {**{e: o for e, o in self._orders.items() if e == epoch - 1}, epoch: order}
        start = position * schedule.batch + recipe.world.rank * recipe.share
        return self._orders[epoch][start : start + recipe.share]

    def fetch(self, step: int) -> Fetched:
        """A step's pictures, uint8 [b,3,h,w], and labels, int64 [b]. What `draw` draws is that step's from now on."""
        self.random.manual_seed(key(self.recipe.settings.train_seed, "step", step))
        return self.feed.batch(step)

    def draw(self, images: Tensor, classes: Tensor) -> Batch:
        """What a step trains on, of the pictures and labels that were fetched for it. All of it is the device's work."""
        recipe, model, settings = self.recipe, self.recipe.model, self.recipe.settings
        device, dtype, n, rank = recipe.device, recipe.dtype, recipe.schedule.batch, recipe.world.rank
        draw = self.random
        mine = slice(rank * recipe.share, (rank + 1) * recipe.share)
        x0 = to_unit(images).to(dtype)
        mirrored = torch.rand(n, 1, 1, 1, device=device, generator=draw) < 0.5
        sigma = recipe.diffusion.draw_levels(n, draw)[mine]
        eps = torch.randn(n, *x0.shape[1:], device=device, generator=draw)[mine].to(dtype)
        if settings.flip:
            x0 = torch.where(mirrored[mine], x0.flip(3), x0)
        labels = augmented = None
        if model.classes:
            untold = torch.rand(n, device=device, generator=draw)[mine] < settings.label_dropout
            labels = torch.where(untold, -1, classes)
        if model.augment:
            augmented = draw_labels(n, model.augment, draw)[mine].to(dtype)
            x0 = augment(x0, augmented)
        return Batch(x0, sigma, eps, labels, augmented)
