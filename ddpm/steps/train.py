"""Training: by hand from nothing, or, in the pipeline, the trials' winner on to the full budget."""

from __future__ import annotations

import dataclasses
from typing import Any

from ddpm.data.dataset import open_dataset
from ddpm.device import device_name, pick_device
from ddpm.pictures import denoising_strip, grid, noising_strip
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.steps.configure import open_tracker
from ddpm.steps.search import choose, winner_settings
from ddpm.steps.task import load_plan, perform, read_pointer
from ddpm.steps.watch import Recorder
from ddpm.tracking import NoTrackedRun, TrackedRun
from ddpm.training.trainer import Trainer

FINAL = "final"  # the MLflow run of the final training
STRIP_SEEDS = range(4)
STRIP_STEPS = 50


def train(
    model: ModelSettings, settings: TrainSettings, dataset_uri: str, out: str, progress: Progress,
    start: str | None = None, run: TrackedRun | NoTrackedRun | None = None, grid_steps: int = 20, title: str = "training",
) -> dict[str, Any]:  # fmt: skip
    """Train on a published data set, writing checkpoints to `out`, and resume what `out` holds. Returns the facts.

    Records losses, rates, sample grids and, at the end, the noising and denoising strips in `run`.
    """
    run = run or NoTrackedRun()
    device = pick_device()
    data = open_dataset(dataset_uri)
    trainer = Trainer(model, settings, data, out, device, start)
    progress.say(
        f"{title}: {model.channel_mults}, {sum(w.numel() for w in trainer.weights):,} parameters, on {device_name(device)}"
    )
    facts = trainer.run(Recorder(run, model, data.image_size, grid_steps, device), progress, title)
    shown = data.train.images[: len(STRIP_SEEDS)]
    run.picture("noising", grid(noising_strip(shown, model), columns=9))
    strip = denoising_strip(trainer.ema_net, model, data.image_size, STRIP_SEEDS, "ddim", STRIP_STEPS, device)
    run.picture("denoising", grid(strip, columns=9))
    return facts


def task(plan_path: str, dataset_path: str, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan, dataset = load_plan(plan_path), read_pointer(dataset_path)
        chosen = choose(plan)
        row = chosen["trials"][chosen["best"]]
        progress.say(f"chosen: {chosen['best_why']}")
        model, settings = winner_settings(plan, row)
        params = {**dataclasses.asdict(model), **dataclasses.asdict(settings)}
        out = f"{plan.store.rstrip('/')}/runs/{plan.run_name}/final"
        tracker, device = open_tracker(plan), device_name(pick_device())
        with tracker.parent() as parent:
            parent.dataset(dataset)
            parent.tag("device", device)
        with tracker.child(FINAL, params, {"kind": "final", "trial": str(row["number"]), "device": device}) as run:
            run.dataset(dataset)
            facts = train(
                model,
                settings,
                dataset["uri"],
                out,
                progress,
                row["checkpoint"],
                run,
                plan.search.score_steps,
                "final training",
            )
        return plan, {**facts, **chosen}

    perform("train", work, output)
