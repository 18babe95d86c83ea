"""Drawing that says how far it is, after every step of the sampler: a batch may take minutes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from ddpm.model.model import Model
from ddpm.progress import Progress
from ddpm.settings import DrawSettings


def draw_told(
    model: Model, seeds: range, drawing: DrawSettings, progress: Progress, task: str, label: int | None = None
) -> Iterator[Tensor]:
    """`model.draw_batches`, whose caller ends the task: what is made of the last pictures belongs to it."""
    n, steps = len(seeds), drawing.sampling_steps
    total = math.ceil(n / drawing.sample_batch) * steps + 1  # +1: it is for the caller to say that it is done
    drawn = taken = 0

    def told() -> None:
        note = f"{drawn:,} of {n:,} pictures  {drawing.sampler}, {steps} steps"
        progress.update(task, min(taken, total - 1), total, note)

    def watch(x: Tensor, sigma: Tensor) -> None:
        nonlocal taken
        told()
        taken += 1

    for batch in model.draw_batches(seeds, drawing, label, watch):
        drawn += len(batch)
        told()
        yield batch
