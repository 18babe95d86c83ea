"""A model as a folder that other programs read. See docs/export.md for what is in it.

    safetensors   weights.safetensors, settings.json     what `ddpm sample --model DIR` needs, and any other reader
    diffusers     model_index.json, unet/, scheduler/    what `diffusers.DDPMPipeline.from_pretrained(DIR)` loads
    space         app.py, Dockerfile, model/, ddpm/      a Hugging Face Space, which serves it (space.py)

Each holds a README.md, the model's card; the first and the last, of a registered version, its figures and where it comes
from too (exported.py), so that who opens the folder, or exports it again, knows them.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch

from ddpm.errors import WrongInput
from ddpm.evaluation.report import Report
from ddpm.model.model import Model
from ddpm.registry.card import Provenance, card
from ddpm.registry.diffusers import as_json, diffusers_files
from ddpm.registry.exported import PROVENANCE, exported, provenance_file, recorded_provenance, report_of
from ddpm.registry.folder import ENGINE_FILES, GUIDE, REPORT, described
from ddpm.registry.space import public, public_model, space_files
from ddpm.registry.version import figures, provenance_of, resolve
from ddpm.training.checkpoint import load_model

FORMATS = ("safetensors", "diffusers", "space")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Files = dict[str, bytes]


def export(
    reference: str, form: str, out: str, tracking_uri: str, weights: str = "ema", dtype: str = "fp32"
) -> dict[str, Any]:
    """Write the model that `reference` names into the folder `out`, whole or not at all: its files and their digest.

    Args:
        weights: the averaged ones (`ema`) or, of a checkpoint, also the raw ones (`raw`).
        dtype: in which the weights are kept, fp32, or bf16: rounded, and half as large. They are drawn from as float32.

    Raises WrongInput where `out` holds something, where the reference has no such weights, or where the format cannot say
    what the model does.
    """
    if form not in FORMATS:
        raise WrongInput(f"format: {form!r} will not do; it must be one of {', '.join(FORMATS)}")
    if dtype not in DTYPES:
        raise WrongInput(f"dtype: {dtype!r} will not do; it must be one of {', '.join(DTYPES)}")
    if dtype != "fp32" and form == "diffusers":
        raise WrongInput("dtype: diffusers' folders are written as fp32; from_pretrained(…, torch_dtype=…) rounds them")
    if weights not in ("ema", "raw"):
        raise WrongInput(f"weights: {weights!r} will not do; it must be ema or raw")
    folder = Path(out)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise WrongInput(f"out: {out} is there already and holds something; give a new folder, or an empty one")
    if weights == "raw" and reference.startswith("models:"):
        raise WrongInput("weights: a registered version holds its averaged weights alone; give ema, or a checkpoint")
    model = load_model(reference, "weights") if weights == "raw" else resolve(reference, tracking_uri)
    report, provenance = _told_of(model, reference, tracking_uri)
    if form == "space":  # strangers will read it
        model = public_model(model)
        report = public(report) if report else None
    files = diffusers_files(model) if form == "diffusers" else safetensors_files(model, DTYPES[dtype])
    told = card(model, form, weights, report, provenance)
    if form != "diffusers":
        files |= {REPORT: as_json(dict(report))} if report else {}
        files |= {PROVENANCE: provenance_file(provenance)} if provenance else {}
    if form == "space":
        files = space_files(files, told)
    files = {"README.md": told.encode(), **files}
    _write_folder(folder, files)
    return {"out": str(folder), "format": form, "weights": weights, "dtype": dtype, "files": sorted(files)}


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


def safetensors_files(model: Model, dtype: torch.dtype = torch.float32) -> Files:
    """The weights under this project's own names, and the settings without which they mean nothing; its guide's too."""
    files = dict(zip(ENGINE_FILES, described(model, dtype), strict=True))
    if model.guide is not None:
        files |= dict(zip(GUIDE, described(model.guide, dtype), strict=True))
    return files


def _told_of(model: Model, reference: str, tracking_uri: str) -> tuple[Report | None, Provenance | None]:
    """The figures of a registered version, and where it comes from, be it in the registry or exported before; of a
    checkpoint neither is known."""
    if folder := exported(reference):
        return report_of(folder), recorded_provenance(folder)
    named = model.origin.reference
    if not named.startswith("models:/"):
        return None, None
    name, version = named.removeprefix("models:/").rsplit("/", 1)
    return figures(tracking_uri, name, int(version)), provenance_of(tracking_uri, name, int(version))
