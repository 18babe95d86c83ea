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
from ddpm.device import pick_device, threads_for
from ddpm.evaluation.coverage import EXAMPLES
from ddpm.evaluation.generated import Generated, open_generated
from ddpm.evaluation.measure import SHOWN, Clock, Measured, measure
from ddpm.evaluation.memorisation import CopySearch, levels
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.model.strips import FRAMES, denoising_strip, noising_strip, watchable
from ddpm.pictures import grid, png
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.registry.version import resolve_or_folder
from ddpm.run import FINAL
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.steps.configure import open_tracker
from ddpm.steps.task import load_plan, perform, read_facts, read_pointer, run_store
from ddpm.store import Store, open_store

REPORT_VERSION = 4  # of what a report holds: another one is made anew
STRIPS = 4  # pictures that are shown appearing


def evaluate(
    generated: str, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings, store: Store, tracking_uri: str,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The report: figures, how far to trust them, copying, protocol. `generated` is a folder of pictures, a checkpoint's
    URI or a model reference.

    It is kept in the store, `reports/KEY.json`, with its pictures beside it. A model's is found there again.
    """
    data = open_dataset(dataset_uri)
    device, clock = pick_device(), Clock()
    source = open_generated(resolve_or_folder(generated, tracking_uri), data, settings, drawing, progress)
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


def task(plan_path: str, dataset_path: str, checkpoint_path: str, output: str, page_output: str) -> None:
    from ddpm.steps.judge import judge  # it draws by this file
    from ddpm.steps.page import publish

    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan, dataset, trained = load_plan(plan_path), read_pointer(dataset_path), read_pointer(checkpoint_path)
        store = open_store(plan.store)
        report = evaluate(
            trained["checkpoint"], dataset["uri"], plan.evaluate, plan.draw, store, plan.tracking_uri, progress
        )
        if plan.judge.judge_url:
            report["judge"] = judge(
                trained["checkpoint"],
                dataset["uri"],
                plan.evaluate,
                plan.draw,
                plan.judge,
                store,
                plan.tracking_uri,
                progress,
            )
            progress.say(f"the judge: {report['judge']['why'] or report['judge']['score']['mean']}")
        floor = report["noise_floor"]
        progress.say(
            f"{report['metric']} {report['fid']:.4g} (noise floor {floor['fid']:.4g}), KID {report['kid']:.4g} (noise floor {floor['kid']:.4g})"
        )
        with open_tracker(plan).child(FINAL, {}, {}) as run:
            run.metrics({"fid": report["fid"], "kid": report["kid"]}, trained["images_seen"])
            training = {name: run.history(name) for name in ("loss", "held_out_loss")}
        steps = {step: read_facts(run_store(plan), step) for step in ("ingest", "train")}
        spent = {step: facts["seconds"] for step, facts in steps.items() if facts}
        page, report["page"] = publish({**report, "training": training, "run_seconds": spent}, store)
        Path(page_output).write_text(page)
        with open_tracker(plan).parent() as run:
            run.metrics(
                {
                    **{name: report[name] for name in ("fid", "kid", "precision", "recall")},
                    "noise_floor_fid": floor["fid"],
                    "noise_floor_kid": floor["kid"],
                    "copies": report["copying"]["share"],
                    "judge_score": score["mean"] if (score := report.get("judge", {}).get("score")) else None,
                },
                0,
            )
            run.file("report.json", json.dumps(report, indent=1).encode())
            run.file("report.html", page.encode())
        return plan, report

    perform("evaluate", work, output)
