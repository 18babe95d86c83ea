"""The Optuna study that workers share.

All asked trials are queued when the study is made, the founding ones with fixed parameters, the others empty, to be
filled by the sampler. Workers claim them one by one. So the study ends with the asked number of trials, whatever is
killed and started again in between. Only this file touches what Optuna keeps to itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from ddpm.errors import WrongInput
from ddpm.randomness import key
from ddpm.search.claims import claim
from ddpm.search.space import first_trials
from ddpm.settings import SearchSettings
from ddpm.store import Store

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(study_storage: str) -> BaseStorage:
    """A database by its URL, or a journal file by its path (made where it is not there).

    Raises WrongInput where it cannot be opened, or is something else.
    """
    if "://" in study_storage:
        return _open_database(study_storage)
    path = Path(study_storage).expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_journal(path)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
    except OSError as problem:
        raise WrongInput(
            f"study_storage: {path} cannot be written ({problem.strerror}); name a path that can, or a database URL"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise WrongInput(f"study_storage: {path} is no journal of Optuna's; name another path") from None


def _require_journal(path: Path) -> None:
    """Raise ValueError for a file whose first line is no JSON: Optuna would take it for one cut off, and go on."""
    if path.exists():
        with path.open() as file:
            line = file.readline()
        if line.endswith("\n"):
            json.loads(line)


def _open_database(url: str) -> BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return RDBStorage(url)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, ValueError) as problem:
        words = " ".join(str(problem.__cause__ or problem).split())[:160]
        raise WrongInput(
            f"study_storage: the database cannot be used ({words}); write postgresql+psycopg://USER@HOST/NAME, or a journal file's path"
        ) from None


def create_study(study_storage: str, name: str, settings: SearchSettings) -> None:
    """Make the study with all its trials queued, where it is not there yet. Call it once, before any worker starts.

    A call that was cut off between two trials is completed by the next.
    """
    storage = open_storage(study_storage)
    study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
    for number, parameters in enumerate(first_trials(settings)):
        if number >= len(study.get_trials(deepcopy=False)):
            study.enqueue_trial(parameters)


def open_study(study_storage: str, name: str, settings: SearchSettings, worker: int = 0) -> optuna.Study:
    """The study, with the sampler and the pruner for this worker. Raises WrongInput where there is none."""
    founding = min(len(settings.choices), settings.trials)
    try:
        return optuna.load_study(
            storage=open_storage(study_storage),
            study_name=name,
            # constant_liar: workers must not all try the same place at once.
            sampler=optuna.samplers.TPESampler(
                seed=key("search", name, worker) % 2**32,
                n_startup_trials=founding,
                constant_liar=True,
                multivariate=False,
            ),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=founding)
            if settings.prune_every
            else optuna.pruners.NopPruner(),
        )
    except KeyError:
        raise WrongInput(f"there is no study '{name}' in {study_storage}; configure the run first") from None


def take_trials(study: optuna.Study, claims: Store, worker: int) -> Iterator[Trial]:
    """This worker's trials, one after the other, in the order of the queue: those that it claims, and its unfinished ones."""
    for listed in study.get_trials(deepcopy=False):
        if not listed.state.is_finished() and claim(claims, listed.number, worker) and _begin(study, listed):
            yield Trial(study, listed._trial_id)


def _begin(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Let a claimed trial be RUNNING; False where it has ended since it was listed, so that nothing is left to run.

    The storage changes a WAITING trial only. One that is RUNNING this worker began before it was killed, or another process
    of its number has begun since: by the claim it is this worker's either way, and is taken up.
    """
    storage = study._storage
    try:
        if storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
            return True
    except optuna.exceptions.UpdateFinishedTrialError:
        return False
    return storage.get_trial(trial._trial_id).state == TrialState.RUNNING
