"""One worker of the search: it pulls trials from the study that it shares with the others, until all have ended."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TypedDict

from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.device import pick_device
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.reference import open_reference
from ddpm.progress import Progress, Quiet, Within
from ddpm.run import Run
from ddpm.search.halving import FEWEST_LOSSES
from ddpm.search.leases import Lease
from ddpm.search.study import open_study, take_trials
from ddpm.search.trial import TrialRow, of_all, run_trial, trial_row
from ddpm.settings import ModelSettings, SearchSettings, TrainSettings, pick
from ddpm.training.initial import read_initial
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World


class Searched(TypedDict):
    """What a worker leaves: its number, and the trials that it ran."""

    worker: int
    trials: list[TrialRow]
    waited: float  # seconds for which its devices waited for others' trials, each device's added up


def search(run: Run, dataset_uri: str, worker: int, progress: Progress, world: World | None = None) -> Searched:
    """Run trials of the run's study until all have ended; one whose worker died is carried on from its checkpoint.

    Raises WrongInput where another living process is this worker. In a world of several processes rank 0 alone calls this; the others `follow`.
    """
    world, plan = world or World(pick_device()), run.plan
    own = Within(progress, f"worker {worker}")
    with Lease(run.folder, f"worker-{worker}", f"worker {worker} of run {run.name}", progress.say) as lease:
        data = open_dataset(dataset_uri)
        require_losses(plan.search, data)
        reference = open_reference(plan.evaluate, data, run.store, str(world.device), own)
        reference.prepare()  # here: the first trials' seconds are to be their own
        study = open_study(plan.study_storage, plan.run_name, plan.search, worker, progress)
        for ended in study.get_trials(deepcopy=False):
            if ended.state.is_finished():  # before this process: whoever estimates what is left is to know
                progress.drop(of_all(ended.number, plan.search.trials))
        ran, waited, since = [], 0.0, time.monotonic()
        for trial, trial_lease in take_trials(study, run.folder, worker, progress):
            waited += time.monotonic() - since
            with trial_lease:
                lease.require()
                run_trial(run, trial, reference, world, progress, trial_lease.require)
            ran.append(trial.number)
            since = time.monotonic()
        waited += time.monotonic() - since
        world.broadcast(None)
    rows = [trial_row(trial) for trial in study.get_trials(deepcopy=False) if trial.number in ran]
    return {"worker": worker, "trials": rows, "waited": round(waited * world.size, 2)}


def require_losses(settings: SearchSettings, data: PictureSet) -> None:
    """Raise WrongInput where trials are to be compared by the held-out loss, and too little is held out."""
    if settings.rungs and settings.rung_score == "loss" and len(data.held_out) < FEWEST_LOSSES:
        raise WrongInput(
            f"rung_score: loss needs at least {FEWEST_LOSSES} held-out pictures, and {data.name} has {len(data.held_out)}; give fid, or hold out more"
        )


def follow(data: PictureSet, world: World) -> None:
    """What the other ranks do while rank 0 searches: train along in each trial, and hear when it ends."""
    while (trial := world.broadcast(None)) is not None:
        model, settings = pick(ModelSettings, trial["settings"]), pick(TrainSettings, trial["settings"])
        with contextlib.suppress(Refused):  # all ranks meet it at the same step, and rank 0 says so
            initial = partial(read_initial, trial["initial"])
            Trainer(model, settings, data, trial["out"], world, initial=initial).run(NoObserver(), Quiet())
