"""Pictures by number from a checkpoint or a registered model."""

from __future__ import annotations

import time
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from ddpm.errors import WrongInput
from ddpm.model.drawing import draw_told
from ddpm.pictures import grid, png
from ddpm.registry.version import resolve
from ddpm.settings import require_guidance, require_seeds
from ddpm.store import FileStore, Missing
from ddpm.workplace import Workplace

MOST_IN_GRID = 1024


class Sampled(TypedDict):
    """What was drawn, and how: URIs of the files, the model's reference."""

    files: list[str]
    grid: str
    model: str
    sampler: str
    sampling_steps: int
    seconds: float


def sample(
    place: Workplace, model: str, n: int, seed: int, out: str, label: int | None = None, guide: str = "", **drawing: Any
) -> Sampled:  # fmt: skip
    """Write pictures seed … seed + n - 1 of `model` (a reference) into the folder `out`, each as its seed: `0005.png` ….

    All of them together are `grid.png`, or, beside another one, `grid-0005-0007.png`. A file belongs to its seed, as a
    picture does: the same model, drawn alike, writes the same bytes. Raises WrongInput, and writes nothing, where the
    folder holds another picture of that name, as another model's or another sampler's.

    `drawing` holds fields of DrawSettings; the others, and those that are None, are the model's own: of a registered
    version, how it was measured. Of a network with classes, each picture's class follows from its seed, or is `label` for
    all. `guide` refers to a weaker model, which a `guidance` above 1 leads away from.
    """
    if n < 1:
        raise WrongInput(f"n: {n} pictures cannot be drawn; ask for at least 1")
    if seed < 0:
        raise WrongInput(f"seed: {seed} will not do; seeds are whole numbers from 0")
    require_seeds("seed", seed, n)
    began = time.monotonic()
    loaded = resolve(model, place.tracking_uri)
    if guide:
        loaded = loaded.guided_by(resolve(guide, place.tracking_uri))
    how = loaded.drawing_with(**drawing)
    require_guidance(guide, how)
    folder = FileStore(out)
    batches: list[Tensor] = []
    files: dict[str, bytes] = {}
    for batch in draw_told(loaded, range(seed, seed + n), how, place.progress, "drawing pictures", label):
        drawn = range(seed + len(files), seed + len(files) + len(batch))
        new = {f"{own:04d}.png": png(picture) for own, picture in zip(drawn, _as_pictures(batch), strict=True)}
        for name, data in new.items():  # at once: a long drawing is not to be refused at its end
            _require_none_other(folder, name, data)
        files |= new
        batches.append(batch)
    place.progress.drop("drawing pictures")
    whole, whole_name = png(grid(torch.cat(batches)[:MOST_IN_GRID])), "grid.png"
    if _other(folder, whole_name, whole):
        whole_name = f"grid-{seed:04d}-{seed + n - 1:04d}.png"
        _require_none_other(folder, whole_name, whole)
    for name, data in {**files, whole_name: whole}.items():
        folder.write(name, data)
    return {
        "files": [folder.uri(name) for name in files],
        "grid": folder.uri(whole_name),
        "model": loaded.origin.reference if model.startswith("models:") else model,
        "sampler": how.sampler,
        "sampling_steps": how.sampling_steps,
        "seconds": round(time.monotonic() - began, 2),
    }


def _as_pictures(batch: Tensor) -> np.ndarray:
    """uint8 [b,3,h,w] as [b,h,w,3]."""
    return batch.permute(0, 2, 3, 1).numpy()


def _other(folder: FileStore, name: str, data: bytes) -> bool:
    """Whether the folder has a file of that name with other bytes."""
    try:
        return folder.read(name) != data
    except Missing:
        return False


def _require_none_other(folder: FileStore, name: str, data: bytes) -> None:
    if _other(folder, name, data):
        raise WrongInput(
            f"out: {folder.uri(name)} is there, and is another picture: of another model, or drawn otherwise; name another folder"
        )
