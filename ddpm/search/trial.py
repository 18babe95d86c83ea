"""A trial: its settings, running it to its end, and what the tables show of it.

A trial trains at a constant rate, draws from its averaged weights, and is scored by FID and KID. It leaves its
checkpoints in the store, its curves in MLflow, and its facts as the user attributes of Optuna's trial.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypedDict

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from ddpm.cost import logged, trial_cost
from ddpm.device import device_name
from ddpm.errors import Outage, Refused, WrongInput
from ddpm.evaluation.figures.numbers import plus_minus
from ddpm.evaluation.measure import Scores, score
from ddpm.evaluation.reference import Reference
from ddpm.failure import said
from ddpm.meter import NOTHING, Meter, Spent
from ddpm.model.drawing import draw_told
from ddpm.model.model import Model
from ddpm.plan import SEARCHED, Plan
from ddpm.progress import Progress
from ddpm.randomness import key
from ddpm.run import Run
from ddpm.search.halving import RUNG, STANDS, Rung, Rungs, goes_on
from ddpm.search.recorder import Recorder
from ddpm.search.space import Point, suggest
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.initial import read_initial
from ddpm.training.lineage import in_words
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

TRIAL = "trial "  # before its number: what it is called


class TrialRow(TypedDict):
    """A trial as the summary and the tables show it. What it has not come to is None."""

    number: int
    channel_mults: str | None
    lr: float | None
    point: dict[str, Any]  # what else it tried, by the settings' names
    state: str  # the name of Optuna's
    fid: float | None  # None unless completed, and so is kid
    kid: float | None
    fid_std: float | None  # None too of trials from before it was kept, and so is kid_std
    kid_std: float | None
    seconds: float | None  # of all processes that worked on it, as far as its checkpoints tell
    joules: float | None  # None: not measured
    devices: int | None  # None of trials from before it was kept
    images_seen: int | None
    budget_images: int | None  # that it would have seen by its end; None of trials from before it was kept
    rungs: dict[str, Rung]  # what it scored on the way, by the epoch
    parameters: int | None  # of the network
    checkpoint: str | None  # URI of the last
    problem: str | None  # why it failed


def trial_name(number: int) -> str:
    """What a trial is called, in MLflow too."""
    return f"{TRIAL}{number}"


def of_all(number: int, trials: int) -> str:
    """A trial's name beside how many there are, as those who watch are told it; dropped by it, it is over."""
    return f"{trial_name(number)} ({number + 1} of {trials})"


def trial_row(trial: FrozenTrial) -> TrialRow:
    known, done = trial.user_attrs, trial.state == TrialState.COMPLETE
    return {
        "number": trial.number,
        "channel_mults": trial.params.get("channel_mults"),
        "lr": trial.params.get("lr"),
        "point": {name: value for name, value in trial.params.items() if name not in SEARCHED},
        "state": trial.state.name,
        "fid": known["fid"] if done else None,
        "kid": known["kid"] if done else None,
        "fid_std": known.get("fid_std") if done else None,
        "kid_std": known.get("kid_std") if done else None,
        "seconds": known.get("seconds"),
        "joules": known.get("joules"),
        "devices": known.get("devices"),
        "images_seen": known.get("images_seen"),
        "budget_images": known.get("budget_images"),
        "rungs": {name.removeprefix(RUNG): known[name] for name in known if name.startswith(RUNG)},
        "parameters": known.get("parameters"),
        "checkpoint": known.get("checkpoint"),
        "problem": known.get("problem"),
    }


def tried(point: Mapping[str, Any]) -> list[str]:
    """What a trial tried besides multipliers and rate, each in a word."""
    return [f"{name} {value}" for name, value in point.items() if name not in SEARCHED]


def point_settings(plan: Plan, point: Point) -> tuple[ModelSettings, TrainSettings]:
    """The plan's network and training at a point of the search space.

    All trainings of a run have one seed in common: runs of other names are independent repetitions.
    """
    seed = key("run", plan.run_name, plan.train.train_seed) % 2**31
    return plan.at({**point, "train_seed": seed})


def trial_settings(plan: Plan, point: Point) -> tuple[ModelSettings, TrainSettings]:
    """How a trial trains: at a constant rate, for the trials' budget."""
    model, train = point_settings(plan, point)
    return model, dataclasses.replace(train, epochs=plan.search.trial_epochs, decay_fraction=0.0, patience=0)


def quick_scores(
    plan: Plan, reference: Reference, model: Model, progress: Progress, task: str, first_seed: int = 0, n: int = 0,
) -> Scores:  # fmt: skip
    """Scores of `n` (0: score_n) pictures of the seeds from `first_seed` on, in few steps: enough to compare models by.

    Tells under the name `task` how far it is. Raises Refused where a figure is not finite.
    """
    quick = model.quick(plan.search.score_steps, plan.draw.sample_batch)
    seeds = range(first_seed, first_seed + (n or plan.search.score_n))
    try:
        images = torch.cat(list(draw_told(model, seeds, quick, progress, task)))
        progress.update(task, 99, 100, f"measuring FID and KID of {len(seeds):,} pictures")
        return score(reference, images, intervals=True)
    finally:
        progress.drop(task)


def _spent(trial: optuna.Trial, at_checkpoint: Spent) -> Spent:
    """By all before this process: as its last turn told, which was longer than its checkpoint knows, or one that was killed
    after it."""
    told: Spent = {"seconds": trial.user_attrs.get("seconds", 0.0), "joules": trial.user_attrs.get("joules")}
    return max(at_checkpoint, told, key=lambda spent: spent["seconds"])


def run_trial(
    run: Run, trial: optuna.Trial, reference: Reference, world: World, progress: Progress,
    require: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Run a trial to its next rung or its end on the reference's data set, or carry it on, and tell its study what came.

    One that comes to a rung is left there, RUNNING and free, until its turn comes again. A hopeless one is told as pruned,
    and one that the guard or the scores refuse as failed. One that ends by a fault of ours is told as failed as well,
    before the fault is raised: no other worker is to fall over it too.

    Args:
        require: raises Outage where another worker has taken the trial over: from there on it is that one's to tell.
    """
    meter, spent_before, data = Meter(world.device, world.size), NOTHING, reference.data
    point = suggest(trial, run.plan.search)
    model, settings = trial_settings(run.plan, point)
    name = trial_name(trial.number)
    whole = of_all(trial.number, run.plan.search.trials)
    task = f"{whole} · {model.channel_mults}"
    told = " · ".join([task, f"lr {settings.lr:.2g}", *tried(point)])
    scoring = f"{whole} · its score"
    params = {**dataclasses.asdict(model), **dataclasses.asdict(settings)}
    tags = {"kind": "trial", "trial": str(trial.number), "device": device_name(world.device)}
    if not goes_on(trial):
        ended = f"pruned after {trial.user_attrs[STANDS]} epochs"
        with run.tracker.child(name, {}, tags) as tracked:
            tracked.tag("outcome", ended)
        trial.study.tell(trial, state=TrialState.PRUNED)
        progress.drop(whole)
        progress.update(task, 1, 1, ended)
        progress.say(f"{told}: {ended}")
        return
    try:
        with run.tracker.child(name, {**params, "n": run.plan.search.score_n}, tags, training=True) as tracked:
            tracked.dataset({"name": data.name, "digest": data.digest, "uri": data.uri, "n": len(data.train)})
            out = run.trial(trial.number)
            world.broadcast({"settings": params, "out": out, "initial": run.initial})
            trainer = Trainer(model, settings, data, out, world, initial=partial(read_initial, run.initial))
            trainer.spent_before = spent_before = _spent(trial, trainer.spent_before)
            recorder = Recorder(tracked, run.plan.search.score_steps, partial(run.folder.write, Run.grid(trial.number)))
            recorder.begins(trainer.averaged)
            if lineage := trainer.ledger.lineage:
                tracked.tag("lineage", "; ".join(map(in_words, lineage)))
            rungs = Rungs(
                trial, run.plan.search, recorder,
                lambda model: quick_scores(run.plan, reference, model, progress, scoring), lambda: trainer.held_out_losses(), require,
            )  # fmt: skip
            rungs.begins(trainer.schedule.epochs(trainer.steps_done))
            trained = trainer.run(rungs, progress, task)
            averaged = trainer.averaged
            scores = quick_scores(run.plan, reference, averaged, progress, scoring) if trained["spent_budget"] else None
            if scores:
                tracked.metrics({**scores.by_key(), "parameters": trained["parameters"]}, trained["images_seen"])
            outcome = "complete" if scores else f"pruned after {trained['epochs']:g} epochs"
            if rungs.stands:
                outcome = f"stands at epoch {rungs.stands}"
            tracked.tag("outcome", outcome)  # MLflow has all of these as FINISHED
            facts = {**meter.spent(spent_before), "devices": world.size, "images_seen": trained["images_seen"]}
            facts["budget_images"] = trainer.schedule.images_seen(trainer.schedule.total_steps)
            if taken := trial_cost(facts, run.plan.cost.price_per_hour):
                tracked.metrics(logged(taken), trained["images_seen"])
    except (WrongInput, Outage, OSError):  # trouble of a place or of the machine: it is carried on from its checkpoint
        raise
    except Exception as problem:
        progress.drop(task)
        require()
        words = str(problem) if isinstance(problem, Refused) else said(problem)
        for fact, value in {**meter.spent(spent_before), "devices": world.size, "problem": words}.items():
            trial.set_user_attr(fact, value)
        trial.study.tell(trial, state=TrialState.FAIL)
        progress.drop(whole)
        progress.say(f"{told}: failed: {words}")
        if isinstance(problem, Refused):
            return
        raise
    require()
    facts |= {"parameters": trained["parameters"], "skipped_steps": trained["skipped_steps"]}
    for fact, value in {**facts, "checkpoint": trained["last_checkpoint"]}.items():
        trial.set_user_attr(fact, value)
    if rungs.stands:
        trial.set_user_attr(STANDS, rungs.stands)
        progress.say(f"{told}: {outcome}, {rungs.scored}, until its turn comes again")
        return
    if scores is None:
        trial.study.tell(trial, state=TrialState.PRUNED)
        progress.say(f"{told}: {outcome}")
        return
    for figure in ("fid", "kid", "fid_std", "kid_std"):
        trial.set_user_attr(figure, getattr(scores, figure))
    trial.study.tell(trial, scores.fid)
    fid, kid = plus_minus(scores.fid, scores.fid_std), plus_minus(scores.kid, scores.kid_std, 3)
    progress.say(f"{told}: {scores.named('fid')} {fid}  {scores.named('kid')} {kid}")
