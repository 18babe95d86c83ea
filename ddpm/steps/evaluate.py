"""What there is to say of generated pictures: a folder of them, or those of a checkpoint or a registered model."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.device import pick_device, threads_for
from ddpm.evaluation.figures.coverage import EXAMPLES
from ddpm.evaluation.figures.memorisation import CopySearch, levels
from ddpm.evaluation.generated import Generated, open_generated
from ddpm.evaluation.measure import SHOWN, Clock, Measured, measure
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.model.strips import FRAMES, denoising_strip, noising_strip, watchable
from ddpm.pictures import grid, png
from ddpm.progress import Progress
from ddpm.registry.version import resolve_or_folder
from ddpm.run import FINAL, Run
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.steps.task import task
from ddpm.store import Store
from ddpm.workplace import Workplace

REPORT_VERSION = 4  # of what a report holds: another one is made anew
STRIPS = 4  # pictures that are shown appearing


def evaluate(
    place: Workplace, generated: str, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings
) -> dict[str, Any]:  # fmt: skip
    """The report: figures, how far to trust them, copying, protocol. `generated` is a folder of pictures, a checkpoint's
    URI or a model reference.

    It is kept in the store, `reports/KEY.json`, with its pictures beside it. A model's is found there again.
    """
    store, progress = place.store, place.progress
    data = open_dataset(dataset_uri)
    device, clock = pick_device(), Clock()
    source = open_generated(resolve_or_folder(generated, place.tracking_uri), data, settings, drawing, progress)
    # Opened before anything is drawn: it refuses what cannot be measured, and its digests name the report.
    with clock.during("reference"):
        reference = open_reference(settings, data, store, str(device), progress)
    if source.model:
        key = _report_key(reference, source.generation(), source.n)
        if store.exists(f"{key}.json"):
            progress.say("evaluated before under the same protocol: the report is in the store")
            return json.loads(store.read(f"{key}.json"))
    with clock.during("reference"):
        copying = CopySearch(reference, str(device))
        for side in reference.sides:
            _ = side.statistics, side.radii
    measured = measure(reference, source.draws, copying, clock)
    generation = source.generation()
    key = _report_key(reference, generation, source.n)
    report = {**measured.report, "levels": None, "key": key}
    if source.model:
        with clock.during("levels"), threads_for(source.model.settings.base_channels, device):
            report["levels"] = levels(source.model.denoiser(), reference, device)
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
    made = {"checkpoint": source.model.origin.checkpoint, **generation} if source.model else generation
    report["protocol"] = {"measurement": reference.measurement(source.n), "generation": made}
    report = _finite(report)
    if not store.create(f"{key}.json", json.dumps(report, indent=1, allow_nan=False).encode()):
        return json.loads(store.read(f"{key}.json"))  # the first stays: a folder measured again, or two at once
    return report


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


def _examples(coverage: dict[str, Any], train: Tensor) -> Tensor:
    """A row of pictures for each cluster, white where it has no more: uint8 [clusters*EXAMPLES,3,h,w]."""
    sheet = torch.full((len(coverage["rows"]), EXAMPLES, *train.shape[1:]), 255, dtype=torch.uint8)
    for pictures, row in zip(sheet, coverage["rows"], strict=True):
        pictures[: len(row["examples"])] = train[row["examples"]]
    return sheet.flatten(0, 1)


def _report_key(reference: Reference, generation: dict[str, Any], n: int) -> str:
    identity = json.dumps([REPORT_VERSION, generation, reference.base, n], sort_keys=True).encode()
    return f"reports/{hashlib.sha256(identity).hexdigest()}"


def _finite(value: Any) -> Any:
    """The same, with None for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@task("evaluate")
def in_pipeline(
    run: Run, progress: Progress, dataset: DatasetFacts, trained: dict[str, Any], page: str
) -> dict[str, Any]:
    from ddpm.steps.judge import judge
    from ddpm.steps.page import publish

    place, plan, uri = run.workplace(progress), run.plan, dataset["uri"]
    report = evaluate(place, trained["checkpoint"], uri, plan.evaluate, plan.draw)
    if plan.judge.judge_url:
        report["judge"] = judge(place, trained["checkpoint"], uri, plan.evaluate, plan.draw, plan.judge)
        progress.say(f"the judge: {report['judge']['why'] or report['judge']['score']['mean']}")
    floor = report["noise_floor"]
    progress.say(
        f"{report['metric']} {report['fid']:.4g} (noise floor {floor['fid']:.4g}), KID {report['kid']:.4g} (noise floor {floor['kid']:.4g})"
    )
    with run.tracker.child(FINAL, {}, {}) as tracked:
        tracked.metrics({"fid": report["fid"], "kid": report["kid"]}, trained["images_seen"])
        training = {name: tracked.history(name) for name in ("loss", "held_out_loss")}
    spent = {step: facts["seconds"] for step in ("ingest", "train") if (facts := run.facts(step))}
    text, report["page"] = publish({**report, "training": training, "run_seconds": spent}, place.store)
    Path(page).write_text(text)
    with run.tracker.parent() as tracked:
        tracked.metrics(
            {
                **{name: report[name] for name in ("fid", "kid", "precision", "recall")},
                "noise_floor_fid": floor["fid"],
                "noise_floor_kid": floor["kid"],
                "copies": report["copying"]["share"],
                "judge_score": score["mean"] if (score := report.get("judge", {}).get("score")) else None,
            },
            0,
        )
        tracked.file("report.json", json.dumps(report, indent=1).encode())
        tracked.file("report.html", text.encode())
    return report
