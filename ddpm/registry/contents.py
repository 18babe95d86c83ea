"""What a version carries (folder.py lists the files), made from a checkpoint and its report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.evaluation.report import Generation, Report
from ddpm.model.model import Model
from ddpm.pictures import grid, png
from ddpm.registry.card import Provenance, card
from ddpm.registry.catalogue import WEIGHTS_TAG
from ddpm.registry.folder import (
    CARD,
    DRAWN_BY,
    GRID,
    GUIDE,
    LIST,
    REPORT,
    SETTINGS,
    WEIGHTS,
    described,
    list_of,
    load_files,
)
from ddpm.registry.sample import record
from ddpm.settings import FORMAT_VERSION
from ddpm.store import open_store
from ddpm.store.reading import checked
from ddpm.training.checkpoint import Manifest, drawn_from


@dataclass(frozen=True)
class Contents:
    """A version's files, by name, and the model in them."""

    files: Mapping[str, bytes]
    model: Model


def contents_of(
    uri: str, facts: Manifest, report: Report, provenance: Provenance, guide: Model | None = None
) -> Contents:
    """The files of a version of the checkpoint at `uri`, with its `guide`, if it has one. Its sample is drawn: that takes
    a while.

    Raises Damaged where the checkpoint's weights are.
    """
    averaged = drawn_from(facts)
    store, sha256 = open_store(uri.rpartition("/")[0]), facts["sha256"][averaged]
    generation = report["protocol"].get("generation") or Generation()
    settings = {
        "format_version": FORMAT_VERSION,
        "settings": facts["settings"],  # the network's and its training's
        "image_size": facts["image_size"],
        **{name: value for name, value in generation.items() if name in DRAWN_BY},
        "images_seen": facts["images_seen"],
        "dataset_digest": facts.get("dataset_digest"),
        "checkpoint": uri,
        WEIGHTS_TAG: sha256,
    }
    weights = checked(store.read(averaged), store.uri(averaged), "use another checkpoint", sha256)
    files = {WEIGHTS: weights, SETTINGS: as_json(settings), REPORT: as_json(report)}
    if guide:
        files |= dict(zip(GUIDE, described(guide), strict=True))
    with tempfile.TemporaryDirectory(prefix="ddpm-version-") as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        model = load_files(Path(folder), uri)
    recorded, images = record(model)
    files.update(recorded)
    files[GRID] = png(grid(images))
    files[CARD] = card(model, "safetensors", "ema", report, provenance, grid=GRID).encode()
    return Contents({**files, LIST: as_json(list_of(files))}, model)


def as_json(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, sort_keys=True).encode()
