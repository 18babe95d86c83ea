"""Training: by hand from nothing, or, in the pipeline, the trials' winner on to the full budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from ddpm.cost import cost, logged
from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.device import device_name, pick_device
from ddpm.model.strips import FRAMES, denoising_strip, noising_strip, watchable
from ddpm.pictures import grid
from ddpm.progress import Progress, Quiet
from ddpm.registry.initial import open_initial
from ddpm.run import STUDY, Run
from ddpm.search.choice import Choice, choose, choose_average, winner_settings
from ddpm.search.recorder import Recorder
from ddpm.search.trial import TrialRow, tried
from ddpm.settings import ModelSettings, TrainSettings, pick
from ddpm.steps.task import task
from ddpm.study_page.render import study_page
from ddpm.tracking import NoTrackedRun, TrackedRun
from ddpm.training.ledger import Trained
from ddpm.training.lineage import in_words
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World
from ddpm.workplace import Workplace

STRIP_SEEDS = range(4)


class FinalFacts(Trained, Choice):
    """What the final training leaves: what came of it, and the choice that it began with. On a second set, of the choice
    `best` and `best_why` alone."""

    devices: int


def train(
    place: Workplace, model: ModelSettings, settings: TrainSettings, data: PictureSet, out: str, start: str | None = None,
    tracked: TrackedRun | NoTrackedRun | None = None, grid_steps: int = 20, title: str = "training", world: World | None = None,
) -> Trained:  # fmt: skip
    """Train on a published data set, writing checkpoints to `out`, and resume what `out` holds.

    Records losses, rates, sample grids and, at the end, the noising and denoising strips in `tracked`. In a world of
    several processes all call this, and rank 0 alone records.
    """
    tracked = tracked or NoTrackedRun()
    world = world or World(pick_device())
    trainer = Trainer(
        model, settings, data, out, world, start, partial(open_initial, settings.init_from, place.tracking_uri)
    )
    if not world.leads:
        return trainer.run(NoObserver(), Quiet(), title)
    place.progress.say(
        f"{title}: {model.channel_mults}, {trainer.learner.parameters:,} parameters, on {device_name(world.device)}"
    )
    recorder = Recorder(tracked, grid_steps)
    recorder.begins(trainer.averaged)
    if lineage := trainer.ledger.lineage:
        tracked.tag("lineage", "; ".join(map(in_words, lineage)))
    trained = trainer.run(recorder, place.progress, title)
    shown = data.train.images[: len(STRIP_SEEDS)]
    tracked.picture("noising", grid(noising_strip(shown, model), columns=FRAMES))
    averaged = trainer.averaged
    strip = denoising_strip(averaged, STRIP_SEEDS, watchable(averaged.drawing))
    tracked.picture("denoising", grid(strip, columns=FRAMES))
    return trained


def train_along(run: Run, dataset: DatasetFacts, world: World) -> None:
    """What the ranks beside rank 0 do: hear what was chosen, and train with it."""
    data, chosen = open_dataset(dataset["uri"]), world.broadcast(None)
    model, settings = pick(ModelSettings, chosen["settings"]), pick(TrainSettings, chosen["settings"])
    train(run.workplace(Quiet()), model, settings, data, run.final, chosen["start"], world=world)


class Begun(NamedTuple):
    """What a final training begins with, and what is said of that."""

    model: ModelSettings
    settings: TrainSettings
    start: str | None  # the checkpoint that it goes on from
    seen: int  # pictures that were trained on by then
    winner: TrialRow
    choice: Mapping[str, Any]  # of it, what the step leaves
    why: str


def _winner(run: Run, dataset: DatasetFacts, progress: Progress) -> Begun:
    """The best of the run's trials, which goes on from its own end; the page of the study is made."""
    chosen = choose(run, dataset["uri"], progress)
    page = study_page(run, chosen, progress)
    winner = chosen["trials"][chosen["best"]]
    with run.tracker.parent() as parent:
        parent.file(STUDY, page)
    return Begun(
        *winner_settings(run.plan, winner), winner["checkpoint"], winner["images_seen"] or 0, winner,
        cast("Mapping[str, Any]", chosen), chosen["best_why"],
    )  # fmt: skip


def _winner_on_second(run: Run, first: Run) -> Begun:
    """The same network by the same settings, from nothing or from the weights that the first set gave it."""
    trained = cast(FinalFacts, first.facts("train"))
    winner = trained["trials"][trained["best"]]
    model, settings = winner_settings(run.plan, winner)
    why = f"the network of trial {winner['number']}, from scratch"
    if first.plan.transfer.transfer_from == "winner":
        settings = dataclasses.replace(settings, init_from=trained["checkpoint"])
        why = f"the network of trial {winner['number']}, from the weights that {first.plan.ingest.dataset_name} gave it"
    return Begun(model, settings, None, 0, winner, {"best": winner["number"], "best_why": why}, why)


@task("train", follow=train_along, copied={"study": STUDY})
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, world: World) -> Mapping[str, Any]:
    """Choose among the run's trials, train the winner on to the full budget, and choose the average it is drawn from; of a
    second set, train the winner's network on that.

    The page of the study goes into the run's folder, to MLflow, and, by the task, into the file `study`.

    Raises Refused where there is no choice yet.
    """
    plan = run.plan
    begun = _winner_on_second(run, run.first) if run.first else _winner(run, dataset, progress)
    model, settings, winner = begun.model, begun.settings, begun.winner
    progress.say(f"chosen: {begun.why}")
    params, device = {**dataclasses.asdict(model), **dataclasses.asdict(settings)}, device_name(world.device)
    run.tracker.open({"channel_mults": model.channel_mults, "lr": settings.lr})  # what a list of runs is read by
    with run.tracker.parent() as parent:
        parent.dataset(dataset)
        parent.tag("device", device)
        parent.tag("chosen_why", begun.why)
        if others := tried(winner.get("point", {})):
            parent.tag("chosen", ", ".join(others))
    tags = {"kind": run.training, "trial": str(winner["number"]), "device": device}
    with run.tracker.child(run.training, params, tags, training=True) as tracked:
        tracked.dataset(dataset)
        world.broadcast({"settings": params, "start": begun.start})
        trained = train(
            run.workplace(progress), model, settings, open_dataset(dataset["uri"]), run.final, begun.start, tracked,
            plan.search.score_steps, f"{run.training} training", world,
        )  # fmt: skip
        choose_average(run, settings.half_lives, trained["checkpoint"], dataset["uri"], tracked, progress)
        if spent := trained.get("spent"):
            images = trained["images_seen"] - begun.seen
            taken = cost(spent["seconds"], plan.cost.price_per_hour, world.size, images, spent["joules"])
            tracked.metrics(logged(taken), trained["images_seen"])
    return {**trained, **begun.choice, "devices": world.size}
