"""Looks at the held-out pictures on the way: how good the network is, which state was the best, and whether to go on."""

from __future__ import annotations

import math
from typing import NamedTuple

from ddpm.data.dataset import Split
from ddpm.model.model import Model
from ddpm.training.gradients import Gradients
from ddpm.training.held_out import by_band, held_out_losses
from ddpm.training.learner import Learner
from ddpm.training.ledger import Ledger
from ddpm.training.observer import Observer
from ddpm.training.recipe import Recipe


class Best(NamedTuple):
    """The best look so far. Without one, or without held-out pictures, its loss is infinite."""

    loss: float
    epoch: int


class Looks:
    """A training's looks. `best` and `last`, the loss of the last one, are rank 0's; `stopped` says why it ended early,
    `rests` whether the observer lets it rest."""

    def __init__(self, recipe: Recipe, learner: Learner, gradients: Gradients, ledger: Ledger, held_out: Split) -> None:
        self.recipe, self.learner, self.gradients = recipe, learner, gradients
        self.ledger, self.held_out = ledger, held_out
        self.best = Best(math.inf, 0)
        self.last = math.nan
        self.stopped, self.rests = "", False

    def losses(self) -> list[float]:
        """The averaged network's loss on each of the fixed triples; empty without pictures."""
        return held_out_losses(self.learner.ema_net, self.held_out, self.recipe, self.gradients.micro)

    def take(self, observer: Observer, step: int, averaged: Model) -> bool:
        """Take the held-out loss, and ask the observer whether to go on: rank 0 does, and the others are told.

        True where the loss is the best so far (or where there is none to go by).
        """
        schedule, patience = self.recipe.schedule, self.recipe.settings.patience
        epoch, images_seen = step // schedule.epoch_steps, schedule.images_seen(step)

        def look() -> tuple[bool, Best, str, bool]:
            best, stopped = self.best, ""
            losses = self.losses()
            mean = sum(losses) / len(losses) if losses else math.inf
            self.last = mean if losses else math.nan
            improved = not losses or mean < best.loss
            if losses:
                observer.metrics({"held_out_loss": mean, **by_band(losses, self.recipe.diffusion)}, images_seen)
            if improved:
                best = Best(mean, epoch)
            if observer.looked(epoch, images_seen, averaged):
                stopped = "ended by its observer"
            elif losses and 0 < patience <= epoch - max(best.epoch, self._given_more):
                stopped = f"no better held-out loss for {patience} epochs"
            return improved, best, stopped, observer.rests()

        improved, self.best, self.stopped, self.rests = self.recipe.world.decide(look)
        return improved

    @property
    def _given_more(self) -> int:
        """The epoch after which it was last given more of them. The rate rose then, and the loss with it."""
        ends = [one["images_seen"] for one in self.ledger.lineage if one["how"] == "epochs"]
        return max(ends, default=0) // (self.recipe.schedule.batch * self.recipe.schedule.epoch_steps)
