"""Pictures by number from a checkpoint or a registered model."""

from __future__ import annotations

import time
from typing import Any

import torch

from ddpm.device import pick_device
from ddpm.errors import WrongInput
from ddpm.model.sampling import generate
from ddpm.pictures import grid, png
from ddpm.progress import Progress
from ddpm.registry.version import resolve
from ddpm.settings import SAMPLERS
from ddpm.store import FileStore


def sample(
    model: str, n: int, seed: int, out: str, tracking_uri: str, progress: Progress,
    sampler: str | None = None, sampling_steps: int | None = None, sample_batch: int = 16,
    churn: float | None = None, guidance: float | None = None, label: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write pictures seed … seed + n - 1 of `model` (a reference) as `0000.png` … and `grid.png` into the folder `out`.

    Sampler, steps, churn and guidance are the registered version's own where none are given. Of a network with classes,
    each picture's class follows from its seed, or is `label` for all. Returns files, grid, model and seconds.
    """
    if n < 1:
        raise WrongInput(f"n: {n} pictures cannot be drawn; ask for at least 1")
    if seed < 0:
        raise WrongInput(f"seed: {seed} will not do; seeds are whole numbers from 0")
    if sampling_steps is not None and sampling_steps < 1:
        raise WrongInput(f"sampling_steps: {sampling_steps} will not do; it must be at least 1")
    if sampler is not None and sampler not in SAMPLERS:
        raise WrongInput(f"sampler: {sampler!r} will not do; it must be one of {', '.join(SAMPLERS)}")
    if sample_batch < 1:
        raise WrongInput(f"sample_batch: {sample_batch} will not do; it must be at least 1")
    began = time.monotonic()
    loaded = resolve(model, tracking_uri)
    sampler = sampler or loaded.facts.get("sampler") or "ddim"
    steps = sampling_steps or loaded.facts.get("sampling_steps") or 250
    if label is not None and not 0 <= label < loaded.settings.classes:
        has = f"classes 0 to {loaded.settings.classes - 1}" if loaded.settings.classes else "no classes"
        raise WrongInput(f"label: {label} will not do; the model has {has}")
    batches = []
    for batch in generate(
        loaded.net,
        loaded.settings,
        loaded.image_size,
        range(seed, seed + n),
        sampler,
        steps,
        sample_batch,
        pick_device(),
        churn=loaded.facts.get("churn", 0.0) if churn is None else churn,
        guidance=loaded.facts.get("guidance", 1.0) if guidance is None else guidance,
        label=label,
    ):
        batches.append(batch)
        progress.update("sampling", sum(map(len, batches)), n, f"{sampler}, {steps} steps")
    images = torch.cat(batches)
    folder = FileStore(out)
    files = []
    for number, picture in enumerate(images.permute(0, 2, 3, 1).numpy()):
        folder.write(f"{number:04d}.png", png(picture))
        files.append(folder.uri(f"{number:04d}.png"))
    folder.write("grid.png", png(grid(images)))
    return {"files": files, "grid": folder.uri("grid.png"), "model": loaded.facts.get("model", model), "sampler": sampler,
            "sampling_steps": steps, "seconds": round(time.monotonic() - began, 2)}  # fmt: skip
