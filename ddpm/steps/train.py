"""Training: by hand from nothing, or, in the pipeline, the trials' winner on to the full budget."""

from __future__ import annotations

import dataclasses
from typing import Any

from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.device import device_name, pick_device
from ddpm.evaluation.measure import score
from ddpm.evaluation.reference import open_reference
from ddpm.model.strips import FRAMES, denoising_strip, noising_strip, watchable
from ddpm.pictures import grid
from ddpm.plan import Plan
from ddpm.progress import Progress, Quiet
from ddpm.run import FINAL, Run
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.steps.search import choose, winner_settings
from ddpm.steps.task import task
from ddpm.steps.watch import Recorder
from ddpm.store import open_store
from ddpm.tracking import NoTrackedRun, TrackedRun
from ddpm.training import checkpoint
from ddpm.training.ledger import Trained
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

STRIP_SEEDS = range(4)
CHOICE_SEEDS = 2**40  # the first of the seeds by which averages are compared


def train(
    model: ModelSettings, settings: TrainSettings, dataset_uri: str, out: str, progress: Progress,
    start: str | None = None, run: TrackedRun | NoTrackedRun | None = None, grid_steps: int = 20, title: str = "training",
    world: World | None = None,
) -> Trained:  # fmt: skip
    """Train on a published data set, writing checkpoints to `out`, and resume what `out` holds. Returns the facts.

    Records losses, rates, sample grids and, at the end, the noising and denoising strips in `run`. In a world of several
    processes all call this, and rank 0 alone records.
    """
    run = run or NoTrackedRun()
    world = world or World(pick_device())
    device = world.device
    data = open_dataset(dataset_uri)
    trainer = Trainer(model, settings, data, out, world, start)
    if not world.leads:
        return trainer.run(NoObserver(), Quiet(), title)
    progress.say(f"{title}: {model.channel_mults}, {trainer.learner.parameters:,} parameters, on {device_name(device)}")
    facts = trainer.run(Recorder(run, grid_steps), progress, title)
    shown = data.train.images[: len(STRIP_SEEDS)]
    run.picture("noising", grid(noising_strip(shown, model), columns=FRAMES))
    averaged = trainer.averaged
    strip = denoising_strip(averaged, STRIP_SEEDS, watchable(averaged.drawing))
    run.picture("denoising", grid(strip, columns=FRAMES))
    return facts


def choose_average(
    plan: Plan, uri: str, dataset_uri: str, run: TrackedRun | NoTrackedRun, progress: Progress
) -> int:  # fmt: skip
    """Of a checkpoint's averages, the one whose pictures have the lowest FID becomes the one that is drawn from.

    They are compared on seeds of their own, which no report uses: the best of several is too good on its own seeds.
    """
    half_lives = plan.train.half_lives
    if len(half_lives) == 1:
        return half_lives[0]
    device, data = pick_device(), open_dataset(dataset_uri)
    reference = open_reference(plan.evaluate, data, open_store(plan.store), str(device), progress)
    fids = {}
    for half_life in half_lives:
        drawn = checkpoint.load_model(f"{uri}#{half_life}")
        seeds = range(CHOICE_SEEDS, CHOICE_SEEDS + plan.search.score_n)
        pictures = drawn.draw(seeds, drawn.quick(plan.search.score_steps, plan.draw.sample_batch))
        fids[half_life] = score(reference, pictures).fid
        run.metrics({f"fid_ema_{half_life}": fids[half_life]}, 0)
    best = min(fids, key=lambda half_life: fids[half_life])
    checkpoint.choose_average(uri, best)
    found = "  ".join(f"{half_life}: {fid:.4g}" for half_life, fid in fids.items())
    progress.say(f"averaged weights: FID by half-life  {found}  → {best}")
    return best


@task("train")
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts) -> dict[str, Any]:
    plan, chosen = run.plan, choose(run.plan)
    row = chosen["trials"][chosen["best"]]
    progress.say(f"chosen: {chosen['best_why']}")
    model, settings = winner_settings(plan, row)
    params = {**dataclasses.asdict(model), **dataclasses.asdict(settings)}
    device = device_name(pick_device())
    with run.tracker.parent() as parent:
        parent.dataset(dataset)
        parent.tag("device", device)
    tags = {"kind": "final", "trial": str(row["number"]), "device": device}
    with run.tracker.child(FINAL, params, tags) as tracked:
        tracked.dataset(dataset)
        facts = train(
            model, settings, dataset["uri"], run.final, progress, row["checkpoint"], tracked, plan.search.score_steps,
            "final training",
        )  # fmt: skip
        choose_average(plan, facts["checkpoint"], dataset["uri"], tracked, progress)
    return {**facts, **chosen}
