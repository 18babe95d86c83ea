"""Pictures by number from a checkpoint or a registered model."""

from __future__ import annotations

import time
from typing import Any, TypedDict

import torch

from ddpm.errors import WrongInput
from ddpm.model.drawing import draw_told
from ddpm.pictures import grid, png
from ddpm.registry.version import resolve
from ddpm.store import FileStore
from ddpm.workplace import Workplace


class Sampled(TypedDict):
    """What was drawn, and how: URIs of the files, the model's reference."""

    files: list[str]
    grid: str
    model: str
    sampler: str
    sampling_steps: int
    seconds: float


def sample(
    place: Workplace, model: str, n: int, seed: int, out: str, label: int | None = None, **drawing: Any
) -> Sampled:  # fmt: skip
    """Write pictures seed … seed + n - 1 of `model` (a reference) as `0000.png` … and `grid.png` into the folder `out`.

    `drawing` holds fields of DrawSettings; the others, and those that are None, are the model's own: of a registered
    version, how it was measured. Of a network with classes, each picture's class follows from its seed, or is `label` for
    all.
    """
    if n < 1:
        raise WrongInput(f"n: {n} pictures cannot be drawn; ask for at least 1")
    if seed < 0:
        raise WrongInput(f"seed: {seed} will not do; seeds are whole numbers from 0")
    began = time.monotonic()
    loaded = resolve(model, place.tracking_uri)
    how = loaded.drawing_with(**drawing)
    images = torch.cat(list(draw_told(loaded, range(seed, seed + n), how, place.progress, "drawing pictures", label)))
    place.progress.drop("drawing pictures")
    folder = FileStore(out)
    files = []
    for number, picture in enumerate(images.permute(0, 2, 3, 1).numpy()):
        folder.write(f"{number:04d}.png", png(picture))
        files.append(folder.uri(f"{number:04d}.png"))
    folder.write("grid.png", png(grid(images)))
    return {
        "files": files,
        "grid": folder.uri("grid.png"),
        "model": loaded.origin.reference if model.startswith("models:") else model,
        "sampler": how.sampler,
        "sampling_steps": how.sampling_steps,
        "seconds": round(time.monotonic() - began, 2),
    }
