"""A model as a folder that other programs read. See docs/export.md for what is in it.

    safetensors   weights.safetensors, settings.json     what `ddpm sample --model DIR` needs, and any other reader
    diffusers     model_index.json, unet/, scheduler/    what `diffusers.DDPMPipeline.from_pretrained(DIR)` loads
    space         app.py, Dockerfile, model/, ddpm/      a Hugging Face Space, which serves it (space.py)

Each holds a README.md, the model's card.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from ddpm.errors import WrongInput
from ddpm.evaluation.report import Report
from ddpm.model.model import Model
from ddpm.registry.card import Provenance, card
from ddpm.registry.catalogue import WEIGHTS_TAG
from ddpm.registry.diffusers import as_json, diffusers_files
from ddpm.registry.folder import DRAWN_BY
from ddpm.registry.space import public, public_model, space_files
from ddpm.registry.version import figures, provenance_of, resolve
from ddpm.settings import FORMAT_VERSION
from ddpm.training.checkpoint import load_model

FORMATS = ("safetensors", "diffusers", "space")

Files = dict[str, bytes]


def export(reference: str, form: str, out: str, tracking_uri: str, weights: str = "ema") -> dict[str, Any]:
    """Write the model that `reference` names into the folder `out`, whole or not at all: its files and their digest.

    `weights` is the averaged (`ema`) or, of a checkpoint, also the raw ones (`raw`). Raises WrongInput where `out` holds
    something, where the reference has no such weights, or where the format cannot say what the model does.
    """
    if form not in FORMATS:
        raise WrongInput(f"format: {form!r} will not do; it must be one of {', '.join(FORMATS)}")
    if weights not in ("ema", "raw"):
        raise WrongInput(f"weights: {weights!r} will not do; it must be ema or raw")
    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise WrongInput(f"out: {out} is there already and holds something; give a new folder, or an empty one")
    if weights == "raw" and reference.startswith("models:"):
        raise WrongInput("weights: a registered version holds its averaged weights alone; give ema, or a checkpoint")
    model = load_model(reference, "weights") if weights == "raw" else resolve(reference, tracking_uri)
    report, provenance = _registered(model, tracking_uri)
    if form == "space":  # strangers will read it
        model = public_model(model)
        report = public(report) if report else None
    files = diffusers_files(model) if form == "diffusers" else safetensors_files(model)
    told = card(model, form, weights, report, provenance)
    if form == "space":
        measured = {"report.json": as_json(dict(report))} if report else {}
        files = space_files({**files, **measured}, told)
    files = {"README.md": told.encode(), **files}
    _write_folder(folder, files)
    return {"out": str(folder), "format": form, "weights": weights, "files": sorted(files)}


def _write_folder(folder: Path, files: Files) -> None:
    """All files, or none: they are written beside the place, and renamed into it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    beside.mkdir()
    try:
        for name, data in files.items():
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        os.rename(beside, folder)  # takes the place of an empty folder, and of nothing else
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def safetensors_files(model: Model) -> Files:
    """The weights under this project's own names, and the settings without which they mean nothing."""
    data = save_tensors({name: tensor.contiguous() for name, tensor in model.net.state_dict().items()})
    origin = model.origin
    settings = {
        "format_version": FORMAT_VERSION,
        "settings": {**origin.settings, **asdict(model.settings)},
        "image_size": model.image_size,
        **{name: getattr(model.drawing, name) for name in DRAWN_BY},
        "images_seen": origin.images_seen,
        "dataset_digest": origin.dataset_digest,
        "checkpoint": origin.checkpoint,
        WEIGHTS_TAG: hashlib.sha256(data).hexdigest(),
    }
    return {"weights.safetensors": data, "settings.json": as_json(settings)}


def _registered(model: Model, tracking_uri: str) -> tuple[Report | None, Provenance | None]:
    """The figures of a registered version, and where it comes from; of a checkpoint neither is known."""
    named = model.origin.reference
    if not named.startswith("models:/"):
        return None, None
    name, version = named.removeprefix("models:/").rsplit("/", 1)
    return figures(tracking_uri, name, int(version)), provenance_of(tracking_uri, name, int(version))
