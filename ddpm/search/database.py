"""A study in a database, which may be restarted while it is in use.

A connection of the pool that has died is replaced before it is used, and whatever fails since the server is away is
tried again until it is back, for $DDPM_PATIENCE seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partialmethod
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ddpm.errors import WrongInput
from ddpm.outages import refused_for_good, wait_out

CONNECT_SECONDS = 10
RIGHT = "see that it runs and can be reached"
# What Optuna asks of a database, and may be asked twice: of the rest, `create_study` knows how to repeat it.
REPEATABLE = (
    "get_study_id_from_name", "get_study_name_from_id", "get_study_directions", "get_study_user_attrs",
    "get_study_system_attrs", "get_all_studies", "set_study_user_attr", "set_study_system_attr",
    "get_trial_id_from_study_id_trial_number", "get_trial", "_get_trials", "_get_best_trial_id", "_set_trial_param",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr",
)  # fmt: skip


class Database(RDBStorage):
    """Optuna's tables, by the URL of their database. `say` hears when an outage is waited out."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.say = say
        engine: dict[str, Any] = {"pool_pre_ping": True}
        if make_url(url).get_backend_name() == "postgresql":
            engine["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
        super().__init__(url, engine)

    def _repeatable(self, name: str, *arguments: Any, **named: Any) -> Any:
        return wait_out(lambda: getattr(RDBStorage, name)(self, *arguments, **named), outage, RIGHT, self.say)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; but one that was done just before the connection broke off has been done."""
        try:
            return self._repeatable("set_trial_state_values", trial_id, state, values)
        except UpdateFinishedTrialError:
            ended = self.get_trial(trial_id)
            if ended.state == state and (values is None or ended.values == list(values)):
                return True
            raise


for _name in REPEATABLE:
    setattr(Database, _name, partialmethod(Database._repeatable, _name))


def outage(problem: Exception) -> str:
    """What the matter is where the database is away, in words; nothing for any other problem."""
    cause: BaseException | None = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
    if isinstance(cause, PendingRollbackError):  # Optuna's commit after a statement that lost its connection
        cause = cause.__context__
    if isinstance(cause, (OperationalError, InterfaceError, PoolTimeout)):
        return f"the study's database does not answer ({_words(cause)[:160]})"
    return ""


def _outage_at_first(problem: Exception) -> str:
    """The same of the first connection, where the URL may be wrong as well."""
    whole = _words(problem.__cause__ or problem)
    return "" if refused_for_good(whole) or "unable to open database file" in whole else outage(problem)


def _words(problem: BaseException) -> str:
    """A driver's own words, without the statement that SQLAlchemy adds."""
    return " ".join(str(getattr(problem, "orig", None) or problem).split())


def open_database(url: str, say: Callable[[str], None], seconds: float | None = None) -> BaseStorage:
    """The database's study tables, made where there are none. An outage is waited out for `seconds` ($DDPM_PATIENCE).

    Raises WrongInput where it cannot be used, Outage where it does not answer.
    """
    try:
        right = f"{RIGHT}, and that study_storage names it"
        database = wait_out(lambda: Database(url, say), _outage_at_first, right, say, seconds)
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError) as problem:
        if isinstance(problem, WrongInput):
            raise
        raise WrongInput(
            f"study_storage: the database cannot be used ({_words(problem.__cause__ or problem)[:160]}); write postgresql+psycopg://USER@HOST/NAME, or a journal file's path"
        ) from None
    return optuna.storages.get_storage(database)  # with Optuna's cache of ended trials before it
