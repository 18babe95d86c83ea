"""One worker of the search: trains, samples and scores trials until none is left; and the choice among them."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

import optuna
from optuna.trial import TrialState

from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.device import device_name, pick_device
from ddpm.errors import Refused
from ddpm.evaluation.measure import Scores, score
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.model.model import Model
from ddpm.plan import Plan
from ddpm.progress import Progress, Quiet
from ddpm.randomness import key
from ddpm.run import Run
from ddpm.search.ranking import Candidate, Ranked, explain, rank
from ddpm.search.space import suggest
from ddpm.search.study import open_study, take_trials, trial_row
from ddpm.settings import ModelSettings, TrainSettings, pick
from ddpm.steps.task import task
from ddpm.steps.watch import Recorder
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World


def search(run: Run, dataset_uri: str, worker: int, progress: Progress, world: World | None = None) -> dict[str, Any]:
    """Pull trials from the plan's study until none is left for this worker. Returns the rows of those it ran.

    A trial trains at a constant rate, samples from its averaged weights, is scored by FID and KID, and leaves its
    checkpoints in the store. One whose weights blow up is marked as failed, and the search goes on. In a world of several
    processes rank 0 alone calls this; the others `follow`.
    """
    world = world or World(pick_device())
    data = open_dataset(dataset_uri)
    plan = run.plan
    reference = open_reference(plan.evaluate, data, run.store, str(world.device), progress)
    study = open_study(plan.study_storage, plan.run_name, plan.search, worker)
    ran = []
    for trial in take_trials(study, plan.study_storage, run.claims, worker):
        _run_trial(run, study, trial, data, reference, world, progress)
        ran.append(trial.number)
    world.broadcast(None)
    return {"worker": worker, "trials": [trial_row(t) for t in study.get_trials(deepcopy=False) if t.number in ran]}


def follow(data: PictureSet, world: World) -> None:
    """What the other ranks do while rank 0 searches: train along in each trial, and hear when it ends."""
    while (trial := world.broadcast(None)) is not None:
        model, settings = pick(ModelSettings, trial["settings"]), pick(TrainSettings, trial["settings"])
        with contextlib.suppress(Refused):  # all ranks meet it at the same step, and rank 0 says so
            Trainer(model, settings, data, trial["out"], world).run(NoObserver(), Quiet())


def _run_trial(
    run: Run, study: optuna.Study, trial: optuna.Trial, data: PictureSet, reference: Reference, world: World,
    progress: Progress,
) -> None:  # fmt: skip
    plan = run.plan
    began, device = time.monotonic(), world.device
    chosen = suggest(trial, plan.search)
    model = dataclasses.replace(plan.model, channel_mults=chosen["channel_mults"])
    settings = trial_settings(plan, chosen["lr"])
    name = f"trial {trial.number}"
    task = f"{name} · {model.channel_mults} · lr {settings.lr:.2g}"
    params = {**dataclasses.asdict(model), **dataclasses.asdict(settings)}
    with run.tracker.child(
        name, params, {"kind": "trial", "trial": str(trial.number), "device": device_name(device)}
    ) as tracked:
        tracked.dataset({"name": data.name, "digest": data.digest, "uri": data.uri, "n": len(data.train)})
        watcher = _TrialWatcher(plan, trial, Recorder(tracked, plan.search.score_steps), reference)
        out = run.trial(trial.number)
        try:
            world.broadcast({"settings": params, "out": out})
            trainer = Trainer(model, settings, data, out, world)
            facts = trainer.run(watcher, progress, task)
            scores = watcher.score(trainer.averaged) if facts["spent_budget"] else None
        except Refused as problem:
            trial.set_user_attr("problem", str(problem))
            progress.say(f"{task}: failed: {problem}")
            study.tell(trial, state=TrialState.FAIL)
            tracked.finish("FAILED")
            return
        for fact in ("images_seen", "parameters", "skipped_steps"):
            trial.set_user_attr(fact, facts[fact])
        trial.set_user_attr("checkpoint", facts["last_checkpoint"])
        trial.set_user_attr("seconds", round(time.monotonic() - began, 2))
        if scores is None:
            study.tell(trial, state=TrialState.PRUNED)
            progress.say(f"{task}: pruned after {facts['epochs']:g} epochs")
            return
        tracked.metrics({"fid": scores.fid, "kid": scores.kid, "parameters": facts["parameters"]}, facts["images_seen"])
        trial.set_user_attr("fid", scores.fid)
        trial.set_user_attr("kid", scores.kid)
        study.tell(trial, scores.fid)
        progress.say(f"{task}: FID {scores.fid:.4g}  KID {scores.kid:.4g}  ({scores.metric}, {scores.n} pictures)")


class _TrialWatcher:
    """Records, and from time to time scores, a trial: a hopeless one is pruned."""

    def __init__(self, plan: Plan, trial: optuna.Trial, recorder: Recorder, reference: Reference) -> None:
        self.plan, self.trial, self.recorder, self.reference = plan, trial, recorder, reference
        self.pruned = False

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        self.recorder.metrics(values, images_seen)

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        self.recorder.looked(epoch, images_seen, model)
        search = self.plan.search
        if search.prune_every and epoch % search.prune_every == 0 and epoch < search.trial_epochs:
            scores = self.score(model)
            self.recorder.metrics({"interim_fid": scores.fid, "interim_kid": scores.kid}, images_seen)
            self.trial.report(scores.fid, epoch)
            self.pruned = self.trial.should_prune()
        return self.pruned

    def saving(self) -> None:
        self.recorder.saving()

    def score(self, model: Model) -> Scores:
        """The averaged model's pictures of seeds 0 … score_n - 1, the same for every trial, against the reference."""
        quick = model.quick(self.plan.search.score_steps, self.plan.draw.sample_batch)
        return score(self.reference, model.draw(range(self.plan.search.score_n), quick))


def trial_settings(plan: Plan, lr: float) -> TrainSettings:
    """How a trial trains: the plan's way, at its own constant rate, for the trials' budget."""
    return dataclasses.replace(
        plan.train, lr=lr, epochs=plan.search.trial_epochs, decay_fraction=0.0, patience=0, train_seed=seed_of(plan)
    )


def seed_of(plan: Plan) -> int:
    """The seed that the run's trainings have in common: runs of other names are independent repetitions."""
    return key("run", plan.run_name, plan.train.train_seed) % 2**31


def choose(plan: Plan) -> dict[str, Any]:
    """The study's trials and the best of them by mean rank: `trials`, `best` (a number), `best_why`, `ranking`.

    Raises Refused while trials are unfinished, or where none was completed.
    """
    study = open_study(plan.study_storage, plan.run_name, plan.search)
    trials = study.get_trials(deepcopy=False)
    rows = [trial_row(trial) for trial in trials]
    unfinished = [trial.number for trial in trials if not trial.state.is_finished()]
    if unfinished:
        raise Refused(
            f"trial {unfinished[0]} is not finished; give the run as many search workers as it began with, and it will be"
        )
    ranked = rank_rows(rows)
    if not ranked:
        raise Refused(
            f"none of {len(rows)} trials was completed: {rows[0]['problem'] or 'all were pruned'}; widen or lower the search's rates"
        )
    return {
        "trials": rows,
        "best": int(ranked[0].candidate.model.removeprefix("trial ")),
        "best_why": explain(ranked),
        "ranking": [
            {"trial": r.candidate.model, "fid_rank": r.fid_rank, "kid_rank": r.kid_rank, "mean_rank": r.mean_rank}
            for r in ranked
        ],
    }


def rank_rows(rows: list[dict[str, Any]]) -> list[Ranked]:
    """The completed trials, the best first; empty where there is none."""
    completed = [row for row in rows if row["state"] == "COMPLETE"]
    return (
        rank([Candidate(f"trial {row['number']}", row["fid"], row["kid"], row["parameters"]) for row in completed])
        if completed
        else []
    )


def winner_settings(plan: Plan, row: dict[str, Any]) -> tuple[ModelSettings, TrainSettings]:
    """How the winner trains on: its own multipliers and rate, for the full budget."""
    model = dataclasses.replace(plan.model, channel_mults=row["channel_mults"])
    return model, dataclasses.replace(plan.train, lr=row["lr"], train_seed=seed_of(plan))


@task("search", numbered="worker")
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, worker: int) -> dict[str, Any]:
    return search(run, dataset["uri"], worker, progress)
