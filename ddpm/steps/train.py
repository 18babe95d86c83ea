"""Training: by hand from nothing, or, in the pipeline, the trials' winner on to the full budget."""

from __future__ import annotations

import dataclasses
from functools import partial

from ddpm.cost import cost, logged
from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.device import device_name, pick_device
from ddpm.model.strips import FRAMES, denoising_strip, noising_strip, watchable
from ddpm.pictures import grid
from ddpm.progress import Progress, Quiet
from ddpm.registry.initial import open_initial
from ddpm.run import FINAL, STUDY, Run
from ddpm.search.choice import Choice, choose, choose_average, winner_settings
from ddpm.search.recorder import Recorder
from ddpm.search.trial import tried
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
    """What the final training leaves: what came of it, and the choice that it began with."""

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


@task("train", follow=train_along, copied={"study": STUDY})
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, world: World) -> FinalFacts:
    """Choose among the run's trials, train the winner on to the full budget, and choose the average it is drawn from.

    The page of the study goes into the run's folder, to MLflow, and, by the task, into the file `study`.

    Raises Refused where there is no choice yet.
    """
    plan, chosen = run.plan, choose(run, dataset["uri"], progress)
    page = study_page(run, chosen, progress)
    winner = chosen["trials"][chosen["best"]]
    progress.say(f"chosen: {chosen['best_why']}")
    model, settings = winner_settings(plan, winner)
    params, device = {**dataclasses.asdict(model), **dataclasses.asdict(settings)}, device_name(world.device)
    run.tracker.open({"channel_mults": model.channel_mults, "lr": settings.lr})  # what a list of runs is read by
    with run.tracker.parent() as parent:
        parent.dataset(dataset)
        parent.tag("device", device)
        parent.tag("chosen_why", chosen["best_why"])
        parent.file(STUDY, page)
        if others := tried(winner.get("point", {})):
            parent.tag("chosen", ", ".join(others))
    tags = {"kind": "final", "trial": str(winner["number"]), "device": device}
    with run.tracker.child(FINAL, params, tags, training=True) as tracked:
        tracked.dataset(dataset)
        world.broadcast({"settings": params, "start": winner["checkpoint"]})
        trained = train(
            run.workplace(progress), model, settings, open_dataset(dataset["uri"]), run.final, winner["checkpoint"], tracked,
            plan.search.score_steps, "final training", world,
        )  # fmt: skip
        choose_average(run, settings.half_lives, trained["checkpoint"], dataset["uri"], tracked, progress)
        if spent := trained.get("spent"):
            images = trained["images_seen"] - (winner["images_seen"] or 0)
            taken = cost(spent["seconds"], plan.cost.price_per_hour, world.size, images, spent["joules"])
            tracked.metrics(logged(taken), trained["images_seen"])
    return {**trained, **chosen, "devices": world.size}
