"""FID and KID of generated pictures: a folder of them, or those of a checkpoint or a registered model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.data.dataset import open_dataset
from ddpm.data.packing import Unusable, decode
from ddpm.device import pick_device
from ddpm.errors import WrongInput
from ddpm.evaluation.fidelity import Reference, open_reference
from ddpm.model.sampling import generate
from ddpm.pictures import grid, png
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.registry.version import resolve
from ddpm.settings import EvaluateSettings
from ddpm.steps.configure import open_tracker
from ddpm.steps.task import load_plan, perform, read_pointer
from ddpm.steps.train import FINAL
from ddpm.store import Store, open_store
from ddpm.training.checkpoint import Model

GRID_PICTURES = 64


def evaluate(
    generated: str, dataset_uri: str, settings: EvaluateSettings, store: Store, tracking_uri: str, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The report: figures, noise floor, protocol. `generated` is a folder of pictures, a checkpoint's URI or a model reference.

    A model's report is kept in the store, `reports/KEY.json` and its sample grid beside it, and found there again.
    """
    data = open_dataset(dataset_uri)
    n = settings.n or len(data.train)
    device = pick_device()
    if _is_folder_of_pictures(generated):
        images = _read_pictures(Path(generated), data.image_size)
        if settings.n not in (0, len(images)):
            raise WrongInput(
                f"n: {settings.n}, but {generated} holds {len(images)} pictures; give that, or leave n out"
            )
        generation: dict[str, Any] = {
            "pictures": generated,
            "sha256": hashlib.sha256(images.numpy().tobytes()).hexdigest(),
        }
        return _report(open_reference(settings, data, store, str(device), progress), images, generation)
    model = resolve(generated, tracking_uri)
    if model.image_size != data.image_size:
        raise WrongInput(
            f"generated: {generated} draws {model.image_size} px and the data set has {data.image_size} px; evaluate on a data set of the same size"
        )
    generation = {
        "weights_sha256": model.facts["sha256"]["ema.safetensors"],
        "weights": "ema",
        "sampler": settings.sampler,
        "sampling_steps": settings.sampling_steps,
        "sample_batch": settings.sample_batch,
        "seeds": [settings.sample_seed, settings.sample_seed + n],
    }
    # Opened before anything is drawn: it refuses what cannot be measured, and its digests name the report.
    reference = open_reference(settings, data, store, str(device), progress)
    identity = json.dumps([generation, reference.base, n], sort_keys=True).encode()
    report_key = f"reports/{hashlib.sha256(identity).hexdigest()}"
    if store.exists(f"{report_key}.json"):
        progress.say("evaluated before under the same protocol: the report is in the store")
        return json.loads(store.read(f"{report_key}.json"))
    images = torch.cat(list(_draw(model, settings, n, device, progress)))
    report = _report(reference, images, {"checkpoint": model.facts["checkpoint"], **generation})
    store.write(f"{report_key}.png", png(grid(images[:GRID_PICTURES])))
    report["grid"] = store.uri(f"{report_key}.png")
    store.write(f"{report_key}.json", json.dumps(report, indent=1).encode())
    return report


def _draw(
    model: Model, settings: EvaluateSettings, n: int, device: torch.device, progress: Progress
) -> Iterator[Tensor]:
    drawn = 0
    seeds = range(settings.sample_seed, settings.sample_seed + n)
    for batch in generate(
        model.net,
        model.settings,
        model.image_size,
        seeds,
        settings.sampler,
        settings.sampling_steps,
        settings.sample_batch,
        device,
    ):
        drawn += len(batch)
        progress.update(
            "sampling", drawn, n, f"{drawn:,} of {n:,} pictures  {settings.sampler} {settings.sampling_steps} steps"
        )
        yield batch


def _report(reference: Reference, images: Tensor, generation: dict[str, Any]) -> dict[str, Any]:
    figures = reference.score(images).to_dict()
    measurement = figures.pop("measurement")
    return {**figures, "protocol": {"measurement": measurement, "generation": generation}}


def _is_folder_of_pictures(generated: str) -> bool:
    folder = Path(generated)
    return folder.is_dir() and not any((folder / name).exists() for name in ("checkpoint.json", "last.json"))


def _read_pictures(folder: Path, image_size: int) -> Tensor:
    """The folder's PNGs in the order of their names, uint8 [n,3,h,w]; a grid beside them is passed over."""
    paths = sorted(path for path in folder.glob("*.png") if path.name != "grid.png")
    if not paths:
        raise WrongInput(
            f"generated: {folder} holds no PNG files; give a folder of generated pictures, a checkpoint or a model reference"
        )
    pictures = []
    for path in paths:
        try:
            picture = np.array(decode(path.read_bytes()))
        except Unusable as problem:
            raise WrongInput(f"generated: {path} cannot be used: {problem}; draw it again, or remove it") from None
        if picture.shape[:2] != (image_size, image_size):
            raise WrongInput(
                f"generated: {path} is {picture.shape[1]}x{picture.shape[0]}, and the data set's pictures are {image_size}x{image_size}; sizes must be equal"
            )
        pictures.append(torch.from_numpy(picture))
    return torch.stack(pictures).permute(0, 3, 1, 2).contiguous()


def task(plan_path: str, dataset_path: str, checkpoint_path: str, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan, dataset, trained = load_plan(plan_path), read_pointer(dataset_path), read_pointer(checkpoint_path)
        store = open_store(plan.store)
        report = evaluate(trained["checkpoint"], dataset["uri"], plan.evaluate, store, plan.tracking_uri, progress)
        floor = report["noise_floor"]
        progress.say(
            f"{report['metric']} {report['fid']:.4g} (noise floor {floor['fid']:.4g}), KID {report['kid']:.4g} (noise floor {floor['kid']:.4g})"
        )
        with open_tracker(plan).child(FINAL, {}, {}) as run:
            run.metrics({"fid": report["fid"], "kid": report["kid"]}, trained["images_seen"])
        with open_tracker(plan).parent() as run:
            run.metrics(
                {
                    "fid": report["fid"],
                    "kid": report["kid"],
                    "noise_floor_fid": floor["fid"],
                    "noise_floor_kid": floor["kid"],
                },
                0,
            )
            run.file("report.json", json.dumps(report, indent=1).encode())
        return plan, report

    perform("evaluate", work, output)
