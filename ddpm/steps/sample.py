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
from ddpm.settings import EvaluateSettings, pick, require_drawable
from ddpm.store import FileStore
from ddpm.training.checkpoint import Model


def sample(
    model: str, n: int, seed: int, out: str, tracking_uri: str, progress: Progress,
    sampler: str | None = None, sampling_steps: int | None = None, sample_batch: int = 16,
    churn: float | None = None, guidance: float | None = None, label: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write pictures seed … seed + n - 1 of `model` (a reference) as `0000.png` … and `grid.png` into the folder `out`.

    Sampler, steps, churn and guidance are the registered version's own where none are given (and churn is of its sampler
    only); of a checkpoint, 250 steps of ddim, or as many as it has. Of a network with classes,
    each picture's class follows from its seed, or is `label` for all. Returns files, grid, model and seconds.
    """
    if n < 1:
        raise WrongInput(f"n: {n} pictures cannot be drawn; ask for at least 1")
    if seed < 0:
        raise WrongInput(f"seed: {seed} will not do; seeds are whole numbers from 0")
    given = {
        "sampler": sampler, "sampling_steps": sampling_steps, "churn": churn, "guidance": guidance, "sample_batch": sample_batch,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    began = time.monotonic()
    loaded = resolve(model, tracking_uri)
    drawing = pick(EvaluateSettings, {**_own(loaded, sampler), **given})
    require_drawable(loaded.settings, drawing)
    if label is not None and not 0 <= label < loaded.settings.classes:
        has = f"classes 0 to {loaded.settings.classes - 1}" if loaded.settings.classes else "no classes"
        raise WrongInput(f"label: {label} will not do; the model has {has}")
    batches = []
    for batch in generate(
        loaded.net,
        loaded.settings,
        loaded.image_size,
        range(seed, seed + n),
        drawing.sampler,
        drawing.sampling_steps,
        drawing.sample_batch,
        pick_device(),
        churn=drawing.churn,
        guidance=drawing.guidance,
        label=label,
    ):
        batches.append(batch)
        progress.update("sampling", sum(map(len, batches)), n, f"{drawing.sampler}, {drawing.sampling_steps} steps")
    images = torch.cat(batches)
    folder = FileStore(out)
    files = []
    for number, picture in enumerate(images.permute(0, 2, 3, 1).numpy()):
        folder.write(f"{number:04d}.png", png(picture))
        files.append(folder.uri(f"{number:04d}.png"))
    folder.write("grid.png", png(grid(images)))
    return {"files": files, "grid": folder.uri("grid.png"), "model": loaded.facts.get("model", model), "sampler": drawing.sampler,
            "sampling_steps": drawing.sampling_steps, "seconds": round(time.monotonic() - began, 2)}  # fmt: skip


def _own(model: Model, sampler: str | None) -> dict[str, Any]:
    """How a registered version was evaluated; of a checkpoint, what suits any."""
    facts, settings = model.facts, model.settings
    own = {
        name: facts[name] for name in ("sampler", "sampling_steps", "churn", "guidance") if facts.get(name) is not None
    }
    if sampler not in (None, own.get("sampler")):
        own.pop("churn", None)
    most = 250 if settings.objective == "edm" else min(250, settings.timesteps)
    return {"sampler": "ddim", "sampling_steps": most, **own}
