"""The Optuna study that workers share.

All asked trials are queued when the study is made, the founding ones with fixed parameters, the others empty, to be
filled by the sampler. Workers take them one by one, each under a lease in the run's folder. So the study ends with the
asked number of trials, whoever comes, is killed, and never comes back. Only this file, and dashboard.py, touch what Optuna
keeps to itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from ddpm.errors import WrongInput
from ddpm.outages import wait_out
from ddpm.places import local_path
from ddpm.progress import Lines, Progress
from ddpm.randomness import key
from ddpm.search.database import RIGHT, open_database, outage
from ddpm.search.halving import Halving, awaits, stands_at, turn
from ddpm.search.journal import open_journal
from ddpm.search.leases import Lease
from ddpm.search.sampler import make_sampler
from ddpm.search.space import first_trials
from ddpm.settings import SearchSettings
from ddpm.store import Store

LOOK_SECONDS = 2.0  # between two looks for a trial whose worker has died

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(study_storage: str, progress: Progress | None = None, seconds: float | None = None) -> BaseStorage:
    """A database by its URL, or a journal file by its path (made where it is not there).

    Args:
        progress: hears what is mended or waited for.
        seconds: how long a database is waited for that does not answer; None: $DDPM_PATIENCE.
    Raises: WrongInput where it cannot be opened, or is something else; Outage where it is away, or has no room.
    """
    say = (progress or Lines()).say
    if "://" in study_storage:
        return open_database(study_storage, say, seconds)
    return open_journal(local_path(study_storage), say)


def create_study(study_storage: str, name: str, settings: SearchSettings, progress: Progress | None = None) -> None:
    """Make the study with all its trials queued, where it is not there yet. Call it once, before any worker starts.

    A call that was cut off between two trials is completed by the next.
    """
    storage = open_storage(study_storage, progress)

    def complete() -> None:
        """May be cut off anywhere, as by an outage, and done again."""
        study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
        for number, parameters in enumerate(first_trials(settings)):
            if number >= len(study.get_trials(deepcopy=False)):
                study.enqueue_trial(parameters)

    wait_out(complete, outage, RIGHT, (progress or Lines()).say)


def open_study(
    study_storage: str, name: str, settings: SearchSettings, worker: int = 0, progress: Progress | None = None
) -> optuna.Study:
    """The study, with the sampler and the pruner for this worker. Raises WrongInput where there is none."""
    try:
        return optuna.load_study(
            storage=open_storage(study_storage, progress),
            study_name=name,
            sampler=make_sampler(settings, key("search", name, worker) % 2**32),
            pruner=Halving(settings) if settings.first_rung else optuna.pruners.NopPruner(),
        )
    except KeyError:
        raise WrongInput(f"there is no study '{name}' in {study_storage}; configure the run first") from None


def take_trials(study: optuna.Study, run: Store, worker: int, progress: Progress) -> Iterator[tuple[Trial, Lease]]:
    """Trials for this worker, one after the other, each with its lease, which is the caller's to enter; until all have ended.

    In the order of the queue, whichever nobody is at work on: those that nobody has begun, and those whose worker is gone,
    dead, or has let go of them; where there are no such, the best of those that stand at a rung, if it goes on. Where
    others are at work on the rest, this waits: one of these may yet be killed.

    Args:
        run: the run's folder.
    """
    waits = False
    while left := _left(trials := study.get_trials(deepcopy=False)):
        if taken := _take_one(study, trials, run, progress):
            waits = False
            yield taken
            continue
        if not waits:
            held = [trial for trial in left if not stands_at(trial)] or left
            numbers = ", ".join(str(trial.number) for trial in held)
            progress.say(f"worker {worker}: waiting for trial {numbers}, which other workers are at work on")
        waits = True
        time.sleep(LOOK_SECONDS)


def _left(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if not trial.state.is_finished()]


def _take_one(
    study: optuna.Study, trials: list[FrozenTrial], run: Store, progress: Progress
) -> tuple[Trial, Lease] | None:
    for listed in sorted(_left(trials), key=turn):
        if awaits(study.pruner, listed, trials):
            continue
        lease = Lease(run, f"trial-{listed.number:06d}", f"trial {listed.number}", progress.say)
        if not lease.take():
            continue
        if _begin(study, listed):
            now = study.get_trials(deepcopy=False)  # it may have come to a rung since it was listed
            if not awaits(study.pruner, now[listed.number], now):
                return Trial(study, listed._trial_id), lease
        lease.release()
    return None


def _begin(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Let a trial whose lease is held be RUNNING; False where it has ended since it was listed.

    The storage changes a WAITING trial only. One that is RUNNING was begun by a worker that is gone: it is taken up.
    """
    storage = study._storage
    try:
        if storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
            return True
    except optuna.exceptions.UpdateFinishedTrialError:
        return False
    return storage.get_trial(trial._trial_id).state == TrialState.RUNNING
