"""How many pictures are drawn at once: which batches give the bytes of `ddpm sample`, and how long each takes here.

The shape of a batch chooses the arithmetic. On a CPU a smaller batch than the engine's may be another kernel, and a picture
then differs in its last bits; so a shape is used only if each of its rows is, bit for bit, what the engine's own has.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ddpm.device import keep_memory, threads_for
from ddpm.errors import WrongInput
from ddpm.model.model import BATCH, Model

CANDIDATES = (1, 2, 4, 8, 32, 64, 128, 256)
BETTER = 1.05  # a larger batch must draw so many times as many pictures a second, or it is not worth the wait
TIMES = 2  # that an evaluation is timed


@dataclass(frozen=True)
class Shape:
    """A batch's number of pictures, and the seconds of one evaluation of the network."""

    pictures: int
    seconds: float
    same: bool  # whether its rows are those of the engine's own batch, bit for bit


def measure(model: Model, latency: float) -> list[Shape]:
    """The engine's own batch and others, the smallest first; larger ones while drawing a batch takes at most `latency` s."""
    evaluations = model.evaluations()
    own, rows = _evaluate(model, BATCH)
    found = [Shape(BATCH, own, True)]
    for pictures in CANDIDATES:
        largest = max(found, key=lambda shape: shape.pictures)
        if pictures > BATCH and largest.seconds * pictures / largest.pictures * evaluations > latency:
            break
        seconds, these = _evaluate(model, pictures)
        found.append(Shape(pictures, seconds, bool((these == rows[:1]).all())))
    return sorted(found, key=lambda shape: shape.pictures)


def choose(measured: list[Shape]) -> tuple[int, ...]:
    """The shapes to draw in, the smallest first: those with the same bytes of which each draws faster than the one before."""
    same = [shape for shape in measured if shape.same]
    chosen = same[:1]
    for shape in same[1:]:
        before = chosen[-1]
        if shape.pictures / shape.seconds > BETTER * before.pictures / before.seconds:
            chosen.append(shape)
    return tuple(shape.pictures for shape in chosen)


def fixed(model: Model, pictures: int) -> list[Shape]:
    """One shape alone, as a person chose it, with its seconds. Raises WrongInput where a seed's picture would hang on its place
    among others, as on some processors in batches of 3 of networks whose widths are no multiples of 8."""
    seconds, rows = _evaluate(model, pictures)
    if not (rows == rows[:1]).all():
        raise WrongInput(
            f"batch: {pictures} will not do here: a picture would come out otherwise at one place of the batch than at another; choose 8 or 16, or 0"
        )
    return [Shape(pictures, seconds, True)]


@torch.inference_mode()
def _evaluate(model: Model, pictures: int) -> tuple[float, Tensor]:
    """Seconds of an evaluation of a network (the least of a few, after one more), and rows, [pictures,3,h,w]: all of one
    noise. Guided pictures ask two networks each time, or one network twice."""
    device = model.place
    keep_memory(device)
    labels = torch.zeros(pictures, dtype=torch.int64, device=device) if model.settings.classes else None
    denoise = model.denoiser(labels, model.drawing.guidance)
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(1, 3, model.image_size, model.image_size, generator=draw)
    x, sigma = (2 * one).repeat(pictures, 1, 1, 1).to(device), torch.tensor(1.0)
    with threads_for(model.settings.base_channels, device):
        rows = denoise(x, sigma).cpu()
        times = [time.perf_counter()]
        for _ in range(TIMES):
            denoise(x, sigma).cpu()
            times.append(time.perf_counter())
    asked = 1 if model.drawing.guidance == 1 else 2
    return min(after - before for before, after in pairwise(times)) / asked, rows
