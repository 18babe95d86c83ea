"""What is recorded while a network trains: figures over images, sample grids over epochs."""

from __future__ import annotations

from collections.abc import Callable

from ddpm.model.model import Model
from ddpm.pictures import grid, png
from ddpm.tracking import NoTrackedRun, TrackedRun

GRID_SEEDS = range(16)


class Recorder:
    """A trainer's observer that passes all it hears to a tracked run, and draws a grid, in `steps` steps, at every look.

    Args:
        keep: is given each grid too, as a PNG file.
    """

    def __init__(
        self, run: TrackedRun | NoTrackedRun, steps: int, keep: Callable[[bytes], object] | None = None
    ) -> None:
        self.run, self.steps, self.keep = run, steps, keep

    def begins(self, model: Model) -> None:
        """Step 0, at which MLflow's slider stands first: what is drawn before anything was learned, or, where training
        goes on from another's weights, from those."""
        if not self.run.has_picture("samples", 0):
            self.looked(0, 0, model)

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        self.run.metrics(values, images_seen)

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        drawn = model.draw(GRID_SEEDS, model.quick(self.steps, len(GRID_SEEDS)))
        picture = grid(drawn)
        self.run.picture("samples", picture, step=images_seen)
        if self.keep:
            self.keep(png(picture))
        return False

    def rests(self) -> bool:
        return False

    def saving(self) -> None:
        self.run.flush()
