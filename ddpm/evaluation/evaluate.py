"""An evaluation: everything there is to say of generated pictures, as a report that is kept in the store.

reports/KEY.json   the report, with its pictures beside it
reports/KEY.*      those, and pages (`page/render.py`)
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ddpm.data.dataset import PictureSet
from ddpm.device import pick_device, threads_for
from ddpm.errors import Refused
from ddpm.evaluation.extractors.table import is_own as is_own_extractor
from ddpm.evaluation.figures.coverage import EXAMPLES
from ddpm.evaluation.figures.memorisation import CopySearch, levels
from ddpm.evaluation.figures.table import added
from ddpm.evaluation.generated import Generated, open_generated
from ddpm.evaluation.measure import SHOWN, Clock, Measured, measure
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.evaluation.report import LATER, Coverage, Generation, Report, finite, is_sealed, seal
from ddpm.model.model import Model
from ddpm.model.sampling import is_own
from ddpm.model.strips import FRAMES, denoising_strip, noising_strip, watchable
from ddpm.pictures import grid, png
from ddpm.progress import Progress
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.store import Damaged, Entry, Missing, Store
from ddpm.store.reading import read_json

REPORT_VERSION = 5  # of what a report holds: another one is made anew
STRIPS = 4  # pictures that are shown appearing


def evaluate(
    found: Model | Path, data: PictureSet, settings: EvaluateSettings, drawing: DrawSettings, store: Store, progress: Progress
) -> Report:  # fmt: skip
    """The report on a model's pictures, or on a folder of them, against a data set: figures, how far to trust them,
    copying, protocol.

    It is kept in the store. A model's is found there again, where it was measured before under the same protocol.
    Raises WrongInput for pictures that cannot be had as asked for, Refused for what cannot be measured.
    """
    device, clock = pick_device(), Clock()
    source = open_generated(found, data, settings, drawing, progress)
    # Opened before anything is drawn: it refuses what cannot be measured, and its digests name the report.
    with clock.during("reference"):
        reference = open_reference(settings, data, store, str(device), progress)
    own = [*added(), *(name for name in (settings.extractor,) if is_own_extractor(name))]
    own += [drawing.sampler] if source.model and is_own(drawing.sampler) else []
    # What somebody registered may do something else tomorrow: a report of it is of this one evaluation.
    extra = [*own, uuid.uuid4().hex] if own else []
    if source.model and not own:
        key = _key(reference, source.generation(), source.n, extra)
        if store.exists(f"{key}.json"):
            progress.say("evaluated before under the same protocol: the report is in the store")
            return _stored(store, key)
    with clock.during("reference"):
        copying = CopySearch(reference, str(device))
        for side in reference.sides:
            _ = side.statistics, side.radii
    measured = measure(reference, source.draws, copying, clock)
    generation = source.generation()
    key = _key(reference, generation, source.n, [*extra, *source.warnings])
    report = measured.report
    report["warnings"] = [*source.warnings, *report["warnings"]]
    report["levels"], report["key"], report["made"] = None, key, datetime.now(UTC).date().isoformat()
    report["dataset"] = {"name": data.name, "pictures": len(data.train), "held_out": len(data.held_out)}
    if source.model:
        with clock.during("levels"), threads_for(source.model.settings.base_channels, source.model.place):
            report["levels"] = levels(source.model.denoiser(), reference, source.model.place)
        for row, first in zip(
            report["seeds"], range(settings.sample_seed, generation["seeds"][1], source.n), strict=True
        ):
            row["seeds"] = [first, first + source.n]
    with clock.during("pictures"):
        report["pictures"] = _keep_pictures(store, key, measured, source, settings.sample_seed, drawing, reference)
    report["grid"] = report["pictures"]["grid"]
    report["cost"] = {
        "seconds": {stage: round(seconds, 2) for stage, seconds in clock.seconds.items()},
        "pictures": source.n * settings.seeds if source.model else source.n,
        "nfe": source.model.evaluations(drawing) if source.model else None,
    }
    if source.model:
        generation = {"checkpoint": source.model.origin.checkpoint, **generation}
    report["protocol"] = {"measurement": reference.measurement(source.n), "generation": generation}
    kept = finite(report)
    kept["sha256"] = seal(kept)
    # Where one is there it stays: a folder measured again, or two at once.
    store.create(f"{key}.json", json.dumps(kept, indent=1, allow_nan=False).encode())
    return _stored(store, key)


def _stored(store: Store, key: str) -> Report:
    """The report that is kept. Raises Damaged where it is not the one that was measured."""
    right, kind = "remove it, and evaluate again", dict[str, Any]
    report = read_json(store, f"{key}.json", kind, right)
    if not is_sealed(report):
        raise Damaged(f"{store.uri(f'{key}.json')} is damaged: what it says is not what was measured; {right}")
    return cast(Report, report)


def is_stored(store: Store, report: Report, name: str) -> bool:
    """Whether the store has this report, as `evaluate` put it there. Raises Refused where it has another of its key."""
    key, said = str(report.get("key")), cast(dict[str, Any], report)
    if not re.fullmatch(
        "reports/[0-9a-f]{64}", key
    ):  # by an earlier release, or by nobody: another object is no report
        return False
    try:
        kept = cast(dict[str, Any], _stored(store, key))
    except Missing:
        return False
    for field in (name for name in {**kept, **said} if name not in LATER):
        if said.get(field) != kept.get(field):
            raise Refused(
                f"{name} is not the one that was measured: it has another {field} than {store.uri(f'{key}.json')}; evaluate the checkpoint again, and register it with that report"
            )
    return True


def _keep_pictures(
    store: Store, key: str, measured: Measured, source: Generated, first: int, drawing: DrawSettings, reference: Reference,
) -> dict[str, str | None]:  # fmt: skip
    """The report's pictures, put beside it; their URIs."""
    sheets = {"": grid(measured.shown[:SHOWN]), ".pairs": grid(measured.pairs, columns=8, together=2)}
    if (coverage := measured.report["coverage"])["by"] == "cluster":
        sheets[".clusters"] = grid(_examples(coverage, reference.data.train.images), columns=EXAMPLES)
    if model := source.model:
        strip = denoising_strip(model, range(first, first + STRIPS), watchable(drawing))
        sheets[".denoising"] = grid(strip, FRAMES)
        sheets[".noising"] = grid(noising_strip(reference.data.train.images[:STRIPS], model.settings), FRAMES)
    for name, sheet in sheets.items():
        store.write(f"{key}{name}.png", png(sheet))
    kept = {"grid": "", "pairs": ".pairs", "clusters": ".clusters", "noising": ".noising", "denoising": ".denoising"}
    return {what: store.uri(f"{key}{name}.png") if name in sheets else None for what, name in kept.items()}


def _examples(coverage: Coverage, train: Tensor) -> Tensor:
    """A row of pictures for each cluster, white where it has no more: uint8 [clusters*EXAMPLES,3,h,w]."""
    sheet = torch.full((len(coverage["rows"]), EXAMPLES, *train.shape[1:]), 255, dtype=torch.uint8)
    for pictures, row in zip(sheet, coverage["rows"], strict=True):
        pictures[: len(row["examples"])] = train[row["examples"]]
    return sheet.flatten(0, 1)


def _key(reference: Reference, generation: Generation, n: int, extra: list[str]) -> str:
    """Where a report lies."""
    identity = [REPORT_VERSION, generation, reference.base, n, *extra]
    return f"reports/{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()}"


def unnamed(store: Store, entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """Pictures and pages among a store's objects whose report is not there, and why each is garbage."""
    for key in entries:
        found = re.fullmatch(r"(reports/[0-9a-f]{64})\..+", key)
        if found and f"{found[1]}.json" not in entries and not store.exists(f"{found[1]}.json"):
            yield key, "beside no report"
