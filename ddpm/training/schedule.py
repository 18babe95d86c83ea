"""When a training does what, and at what rate; counted in steps."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.settings import TrainSettings


@dataclass(frozen=True)
class Schedule:
    """The clock of a training. Wherever it is asked, `step` is the number of steps done.

    Attributes:
        pictures: how many there are to train on, 1 or more.
        check_every: steps between checks, about; at a check the host waits for the device.
    """

    settings: TrainSettings
    pictures: int
    check_every: int

    @property
    def batch(self) -> int:
        """Pictures a step."""
        return min(self.settings.batch_size, self.pictures)

    @property
    def epoch_steps(self) -> int:
        """Steps an epoch; pictures that do not fill a batch are left for another epoch."""
        return self.pictures // self.batch

    @property
    def look_steps(self) -> int:
        """Steps between looks, at which the held-out loss is taken."""
        return self.settings.held_out_every * self.epoch_steps

    @property
    def total_steps(self) -> int:
        return self.settings.epochs * self.epoch_steps

    def images_seen(self, step: int) -> int:
        return step * self.batch

    def epochs(self, step: int) -> float:
        return step / self.epoch_steps

    def ends_run(self, step: int) -> bool:
        return step == self.total_steps

    def is_look(self, step: int) -> bool:
        return self.ends_run(step) or step % self.look_steps == 0

    def is_check(self, step: int) -> bool:
        """As many as fit between two looks, evenly spaced: the last, at a look, has as many steps as the others."""
        checks = max(1, round(self.look_steps / self.check_every))
        return self.ends_run(step) or step * checks % self.look_steps < checks

    def lr(self, step: int, factor: float = 1.0) -> float:
        """The rate of the next step: a linear warm-up, then constant, then a linear fall to 0 over the last part; all of
        it times `factor`."""
        settings = self.settings
        lr = settings.lr * factor
        if settings.warmup_images:
            lr *= min(1.0, self.images_seen(step + 1) / settings.warmup_images)
        if settings.decay_fraction:
            lr *= min(1.0, (self.total_steps - step) / (settings.decay_fraction * self.total_steps))
        return lr
