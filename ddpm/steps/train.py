"""Training: by hand from nothing, or, in the pipeline, the trials' winner on to the full budget."""

from __future__ import annotations

import dataclasses
from typing import Any

from ddpm.data.dataset import open_dataset
from ddpm.device import device_name, pick_device
from ddpm.model.strips import FRAMES, denoising_strip, noising_strip, watchable
from ddpm.pictures import grid
from ddpm.plan import Plan
from ddpm.progress import Progress, Quiet
from ddpm.run import FINAL, Run
from ddpm.search.choice import choose, choose_average, winner_settings
from ddpm.search.recorder import Recorder
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.steps.task import load_plan, perform, read_pointer
from ddpm.tracking import NoTrackedRun, TrackedRun
from ddpm.training.distributed import World
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer

STRIP_SEEDS = range(4)


def train(
    model: ModelSettings, settings: TrainSettings, dataset_uri: str, out: str, progress: Progress,
    start: str | None = None, run: TrackedRun | NoTrackedRun | None = None, grid_steps: int = 20, title: str = "training",
    world: World | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train on a published data set, writing checkpoints to `out`, and resume what `out` holds. Returns the facts.

    Records losses, rates, sample grids and, at the end, the noising and denoising strips in `run`. In a world of several
    processes all call this, and rank 0 alone records.
    """
    run = run or NoTrackedRun()
    world = world or World(pick_device())
    device = world.device
    data = open_dataset(dataset_uri)
    trainer = Trainer(model, settings, data, out, device, start, world)
    if not world.leads:
        return trainer.run(NoObserver(), Quiet(), title)
    progress.say(
        f"{title}: {model.channel_mults}, {sum(w.numel() for w in trainer.weights):,} parameters, on {device_name(device)}"
    )
    facts = trainer.run(Recorder(run, grid_steps), progress, title)
    shown = data.train.images[: len(STRIP_SEEDS)]
    run.picture("noising", grid(noising_strip(shown, model), columns=FRAMES))
    averaged = trainer.averaged
    strip = denoising_strip(averaged, STRIP_SEEDS, watchable(averaged.drawing))
    run.picture("denoising", grid(strip, columns=FRAMES))
    return facts


def train_winner(run: Run, dataset: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Choose among the run's trials, train the winner on to the full budget, and choose the average it is drawn from.

    Returns the facts of the training and of the choice. Raises Refused where there is no choice yet.
    """
    plan, chosen = run.plan, choose(run)
    winner = chosen["trials"][chosen["best"]]
    progress.say(f"chosen: {chosen['best_why']}")
    model, settings = winner_settings(plan, winner)
    params, device = {**dataclasses.asdict(model), **dataclasses.asdict(settings)}, device_name(pick_device())
    with run.tracker.parent() as parent:
        parent.dataset(dataset)
        parent.tag("device", device)
    tags = {"kind": "final", "trial": str(winner["number"]), "device": device}
    with run.tracker.child(FINAL, params, tags) as tracked:
        tracked.dataset(dataset)
        facts = train(
            model, settings, dataset["uri"], run.final, progress, winner["checkpoint"], tracked, plan.search.score_steps,
            "final training",
        )  # fmt: skip
        choose_average(run, facts["checkpoint"], dataset["uri"], tracked, progress)
    return {**facts, **chosen}


def task(plan_path: str, dataset_path: str, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan = load_plan(plan_path)
        return plan, train_winner(Run(plan), read_pointer(dataset_path), progress)

    perform("train", work, output)
