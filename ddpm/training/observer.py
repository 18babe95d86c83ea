"""Who hears of a training: the loop tells, and asks, whoever started it, and knows nothing more of them."""

from __future__ import annotations

from typing import Protocol

from ddpm.model.model import Model


class Observer(Protocol):
    """What the loop tells, and asks, the one who started it."""

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        """Figures of the last steps: loss, grad_norm, lr, skipped_steps and those of them whose gradient was not finite
        (skipped_not_finite), rollbacks, images_per_second, held_out_loss (of all noise levels, and of each part of them)."""

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        """After each held-out loss, with the averaged model. True ends the training here."""

    def rests(self) -> bool:
        """Asked where it goes on, and after `looked`. True lets the training rest here, saved: the same `out` goes on with it."""

    def saving(self) -> None:
        """A checkpoint follows: a run that is killed goes on from it, and will not tell again what it told before."""


class NoObserver:
    """Nobody watches."""

    def metrics(self, values: dict[str, float], images_seen: int) -> None: ...

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        return False

    def rests(self) -> bool:
        return False

    def saving(self) -> None: ...
