"""What there is to say of generated pictures: a folder of them, or those of a checkpoint or a registered model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.data.packing import Unusable, decode
from ddpm.device import pick_device, threads_for
from ddpm.errors import WrongInput
from ddpm.evaluation.coverage import EXAMPLES
from ddpm.evaluation.measure import SHOWN, Clock, Measured, measure
from ddpm.evaluation.memorisation import CopySearch, levels
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.model.diffusion import Denoiser, Diffusion
from ddpm.model.sampling import evaluations, generate
from ddpm.pictures import denoising_strip, grid, noising_strip, png
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.registry.version import resolve
from ddpm.settings import EvaluateSettings, require_drawable
from ddpm.steps.configure import open_tracker
from ddpm.steps.task import load_plan, perform, read_facts, read_pointer, run_store
from ddpm.steps.train import FINAL
from ddpm.store import Store, open_store
from ddpm.training.checkpoint import Model

REPORT_VERSION = 4  # of what a report holds: another one is made anew
STRIPS = 4  # pictures that are shown appearing
READ = 64  # files of a folder that are open at once


def evaluate(
    generated: str, dataset_uri: str, settings: EvaluateSettings, store: Store, tracking_uri: str, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The report: figures, how far to trust them, copying, protocol. `generated` is a folder of pictures, a checkpoint's
    URI or a model reference.

    It is kept in the store, `reports/KEY.json`, with its pictures beside it. A model's is found there again.
    """
    data = open_dataset(dataset_uri)
    device, clock = pick_device(), Clock()
    if _is_folder_of_pictures(generated):
        source = _folder(Path(generated), data, settings)
    else:
        source = _model(resolve(generated, tracking_uri), generated, data, settings, device, progress)
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
        with clock.during("levels"):
            report["levels"] = _levels(source.model, reference, device)
        for row, first in zip(
            report["seeds"], range(settings.sample_seed, generation["seeds"][1], source.n), strict=True
        ):
            row["seeds"] = [first, first + source.n]
    with clock.during("pictures"):
        report["pictures"] = _keep_pictures(store, key, measured, source, settings, reference, device)
    report["grid"] = report["pictures"]["grid"]
    report["cost"] = {
        "seconds": {stage: round(seconds, 2) for stage, seconds in clock.seconds.items()},
        "pictures": source.n * settings.seeds if source.model else source.n,
        "nfe": _nfe(source.model, settings) if source.model else None,
    }
    made = {"checkpoint": source.model.facts["checkpoint"], **generation} if source.model else generation
    report["protocol"] = {"measurement": reference.measurement(source.n), "generation": made}
    report = _finite(report)
    if not store.create(f"{key}.json", json.dumps(report, indent=1, allow_nan=False).encode()):
        return json.loads(store.read(f"{key}.json"))  # the first stays: a folder measured again, or two at once
    return report


def first_pictures(
    generated: str, data: PictureSet, settings: EvaluateSettings, n: int, tracking_uri: str, progress: Progress
) -> Tensor:
    """The first n pictures uint8 [n,3,h,w] of what `evaluate` takes; fewer where a folder holds fewer."""
    if _is_folder_of_pictures(generated):
        source = _folder(Path(generated), data, dataclasses.replace(settings, n=0, seeds=1))
    else:
        few = dataclasses.replace(settings, n=max(n, 16), seeds=1)
        source = _model(resolve(generated, tracking_uri), generated, data, few, pick_device(), progress)
    taken: list[Tensor] = []
    for batch in next(iter(source.draws)):
        taken.append(batch)
        if sum(map(len, taken)) >= n:
            break
    return torch.cat(taken)[:n]


@dataclass(frozen=True)
class _Source:
    """Where pictures come from: draws of n pictures each, in batches uint8 [b,3,h,w]."""

    n: int
    draws: Iterable[Iterable[Tensor]]
    generation: Callable[[], dict[str, Any]]  # a folder's is known once it has been read
    model: Model | None = None


def _model(
    model: Model, name: str, data: PictureSet, settings: EvaluateSettings, device: torch.device, progress: Progress
) -> _Source:
    if model.image_size != data.image_size:
        raise WrongInput(
            f"generated: {name} draws {model.image_size} px and the data set has {data.image_size} px; evaluate on a data set of the same size"
        )
    require_drawable(model.settings, settings)
    n = settings.n or len(data.train)
    generation = {
        "weights_sha256": model.facts["sha256"]["ema.safetensors"],
        "weights": "ema",
        "sampler": settings.sampler,
        "sampling_steps": settings.sampling_steps,
        "churn": settings.churn,
        "guidance": settings.guidance,
        "sample_batch": settings.sample_batch,
        "seeds": [settings.sample_seed, settings.sample_seed + n * settings.seeds],
        "draws": settings.seeds,
    }
    draws = (
        _draw(model, settings, range(first, first + n), device, progress)
        for first in range(settings.sample_seed, settings.sample_seed + n * settings.seeds, n)
    )
    return _Source(n, draws, lambda: generation, model)


def _draw(
    model: Model, settings: EvaluateSettings, seeds: range, device: torch.device, progress: Progress
) -> Iterator[Tensor]:
    drawn, n = 0, len(seeds)
    for batch in generate(
        model.net,
        model.settings,
        model.image_size,
        seeds,
        settings.sampler,
        settings.sampling_steps,
        settings.sample_batch,
        device,
        churn=settings.churn,
        guidance=settings.guidance,
    ):
        drawn += len(batch)
        progress.update(
            "sampling", drawn, n, f"{drawn:,} of {n:,} pictures  {settings.sampler} {settings.sampling_steps} steps"
        )
        yield batch


def _nfe(model: Model, settings: EvaluateSettings) -> int:
    """Network evaluations a picture; guidance asks twice each time."""
    continuous = model.settings.objective == "edm"
    steps = settings.sampling_steps if continuous else min(settings.sampling_steps, model.settings.timesteps)
    guided = model.settings.classes and settings.guidance != 1
    return evaluations(settings.sampler, steps) * (2 if guided else 1)


def _levels(model: Model, reference: Reference, device: torch.device) -> dict[str, Any]:
    denoise = Denoiser(
        model.net.to(device).eval(), Diffusion(model.settings).to(device), autocast=device.type == "cuda"
    )
    with threads_for(model.settings.base_channels, device):
        return levels(denoise, reference, device)


def _keep_pictures(
    store: Store, key: str, measured: Measured, source: _Source, settings: EvaluateSettings, reference: Reference,
    device: torch.device,
) -> dict[str, str | None]:  # fmt: skip
    """The report's pictures, put beside it; their URIs."""
    sheets = {"": grid(measured.shown[:SHOWN]), ".pairs": grid(measured.pairs, columns=8, together=2)}
    if (coverage := measured.report["coverage"])["by"] == "cluster":
        sheets[".clusters"] = grid(_examples(coverage, reference.data.train.images), columns=EXAMPLES)
    if model := source.model:
        frames = 9
        seeds = range(settings.sample_seed, settings.sample_seed + STRIPS)
        steps = min(settings.sampling_steps, 50)  # enough to watch
        strip = denoising_strip(
            model.net, model.settings, model.image_size, seeds, settings.sampler, steps, device, frames
        )
        sheets[".denoising"] = grid(strip, frames)
        sheets[".noising"] = grid(noising_strip(reference.data.train.images[:STRIPS], model.settings, frames), frames)
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


# -- a folder of pictures --------------------------------------------------------------------------------------------


def _is_folder_of_pictures(generated: str) -> bool:
    folder = Path(generated)
    return folder.is_dir() and not any((folder / name).exists() for name in ("checkpoint.json", "last.json"))


def _folder(folder: Path, data: PictureSet, settings: EvaluateSettings) -> _Source:
    """The folder's pictures in the order of their names, whatever Pillow reads; a grid.png beside them is passed over."""
    known = Image.registered_extensions()
    paths = sorted(
        path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in known and path.name != "grid.png"
    )
    if not paths:
        raise WrongInput(
            f"generated: {folder} holds no pictures (PNG, JPEG, WebP …); give a folder of generated pictures, a checkpoint or a model reference"
        )
    if settings.n not in (0, len(paths)):
        raise WrongInput(f"n: {settings.n}, but {folder} holds {len(paths)} pictures; give that, or leave n out")
    if settings.seeds != 1:
        raise WrongInput(f"seeds: {settings.seeds}, but a folder is one draw; leave seeds out, or name a model")
    digest = hashlib.sha256()

    def read() -> Iterator[Tensor]:
        for start in range(0, len(paths), READ):
            batch = np.stack([_read_picture(path, data.image_size) for path in paths[start : start + READ]])
            images = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
            digest.update(images.numpy().tobytes())
            yield images

    return _Source(len(paths), [read()], lambda: {"pictures": str(folder), "sha256": digest.hexdigest()})


def _read_picture(path: Path, image_size: int) -> np.ndarray:
    try:
        picture = np.array(decode(path.read_bytes()))
    except Unusable as problem:
        raise WrongInput(f"generated: {path} cannot be used: {problem}; draw it again, or remove it") from None
    if picture.shape[:2] != (image_size, image_size):
        raise WrongInput(
            f"generated: {path} is {picture.shape[1]}x{picture.shape[0]}, and the data set's pictures are {image_size}x{image_size}; sizes must be equal"
        )
    return picture


def task(plan_path: str, dataset_path: str, checkpoint_path: str, output: str, page_output: str) -> None:
    from ddpm.steps.judge import judge  # it draws by this file
    from ddpm.steps.page import publish

    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan, dataset, trained = load_plan(plan_path), read_pointer(dataset_path), read_pointer(checkpoint_path)
        store = open_store(plan.store)
        report = evaluate(trained["checkpoint"], dataset["uri"], plan.evaluate, store, plan.tracking_uri, progress)
        if plan.judge.judge_url:
            report["judge"] = judge(
                trained["checkpoint"], dataset["uri"], plan.evaluate, plan.judge, store, plan.tracking_uri, progress
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
