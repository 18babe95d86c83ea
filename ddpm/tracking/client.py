"""The way to MLflow: opened once, and patient in an outage.

What does not answer is an outage; what answers otherwise than MLflow does is wrong input. A place that does not answer
when it is first asked may be mistyped, so that is said at once. One that has answered before, or when the run was
configured, is away for a while: it is waited for ($DDPM_PATIENCE).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.credentials import masked_url
from ddpm.errors import Outage, WrongInput
from ddpm.outages import refused_for_good, wait_out
from ddpm.places import require_place
from ddpm.progress import announce
from ddpm.store.problems import may_mend
from ddpm.tls import mistaken
from ddpm.tracking import fit
from ddpm.tracking.moved import ARTIFACTS, follow

# MLflow would unpickle what a registered model names; ours are safetensors and JSON.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its own waiting would neither be said nor end when it should: an outage is waited out here.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

SERVER_ERRORS = ("502 Server Error", "503 Server Error", "504 Server Error")
AWAY = (
    "Max retries exceeded", "timeout exception", "Connection aborted", "RemoteDisconnected", "Connection broken",
    "IncompleteRead", "Read timed out", "Connection reset by peer", *SERVER_ERRORS,
)  # fmt: skip
BROKEN = ("Connection aborted", "RemoteDisconnected", "error code 400")  # what comes of http:// where TLS is spoken
AWAY_STATUS = ("error code 429", "error code 500", "error code 502", "error code 503", "error code 504")
UNREACHED = (
    "ConnectionError", "ConnectTimeout", "ReadTimeout", "RetryError", "ChunkedEncodingError", "ProxyError", "SSLError",
)  # fmt: skip
DATABASES = ("postgresql", "mysql", "mssql")  # that are reached over a network
_answered: set[str] = set()  # the places that have, or did when the run was configured

T = TypeVar("T")


def expect(tracking_uri: str) -> None:
    """Say of a place that it has answered before: from now on its silence is an outage."""
    _answered.add(tracking_uri)


def patiently(
    tracking_uri: str, act: Callable[[], T], seconds: float | None = None, for_good: Callable[[Exception], str] = lambda _: ""
) -> T:  # fmt: skip
    """What `act`, which asks MLflow, returns; while MLflow is away it is asked again. Raises Outage where it stays away.

    Args:
        for_good: says why an exception is no outage, though it looks like one; else nothing.
    """
    where = masked_url(tracking_uri)

    def matter(problem: Exception) -> str:
        words = "" if for_good(problem) else away(problem, tracking_uri)
        return f"MLflow at {where} does not answer ({words})" if words else ""

    right = "start it again, or mend the way to it"
    if tracking_uri.startswith("sqlite:"):
        right = "make room on its disk, or end what holds it"
    return wait_out(act, matter, right, announce, seconds)


def away(problem: BaseException, tracking_uri: str) -> str:
    """What an exception says of an outage, in a few words; empty where it is none."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    for link in _chain(problem):
        text = in_a_line(link)
        if isinstance(link, (OperationalError, InterfaceError, sqlite3.OperationalError)):
            passing = "locked" in text or "is full" in text  # what else a file says of itself will not pass
            return _short(text) if passing or not tracking_uri.startswith("sqlite:") else ""
        if type(link).__module__ == "requests.exceptions" and (
            type(link).__name__ in UNREACHED or any(words in text for words in SERVER_ERRORS)
        ):
            return _short(text)
        if isinstance(link, Exception) and type(link).__module__.startswith("botocore.") and (words := may_mend(link)):
            return words
        if type(link).__module__.startswith("mlflow.") and any(words in text for words in (*AWAY, *AWAY_STATUS)):
            return _short(text)
    return ""


def in_a_line(problem: BaseException) -> str:
    """What an exception says, in a line; of several files that could not be fetched, what was the matter with the last."""
    return " ".join(str(problem).split()).rpartition(" ##### ")[2]


def _wrong_place(problem: BaseException) -> str:
    """Why a place that does answer cannot be used, where that is told of a first connection; else nothing."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    for link in _chain(problem):
        text = " ".join(str(link).split())
        # Of a connection: a table that is not there is another matter.
        if isinstance(link, (OperationalError, InterfaceError)):
            driver = " ".join(str(link.orig).split())
            if refused_for_good(driver):
                return driver[max(0, driver.find("FATAL")) :][:160]
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return "nobody here knows its certificate; REQUESTS_CA_BUNDLE names a file of those that are known"
        if wrong := mistaken("", text):
            return wrong
    return ""


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that led to it, the first of them first."""
    found: list[BaseException] = []
    while problem is not None and problem not in found:
        found.append(problem)
        problem = problem.__cause__ or problem.__context__
    return reversed(found)


def _short(text: str) -> str:
    """The part of a long message that says something: what urllib3 or the driver says at its end."""
    for known in ("Connection refused", "Name or service not known", "Connection timed out", "Connection reset by peer",
                  "Read timed out", "No route to host", "database is locked", "disk is full"):  # fmt: skip
        if known in text:
            return known[0].lower() + known[1:]
    return text[:160]


class Client:
    """An MlflowClient, all of whose calls wait an outage out. `at_once` is the same without the waiting."""

    def __init__(self, inner: Any, tracking_uri: str, seconds: float | None = None) -> None:
        self._inner, self.tracking_uri, self._seconds = inner, tracking_uri, seconds

    @property
    def at_once(self) -> Client:
        return Client(self._inner, self.tracking_uri, 0.0)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def asked(*arguments: Any, **named: Any) -> Any:
            return patiently(self.tracking_uri, lambda: found(*arguments, **named), self._seconds)

        return asked


def open_client(tracking_uri: str) -> Client:
    """An MLflow client. A fresh SQLite database is migrated first, by one process at a time: several at once crash.

    Raises WrongInput where the place is none, or is something else; Outage where it does not answer, after a while if it
    has answered before.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they show tracebacks of what is said here in a line
    require_place("tracking_uri", tracking_uri)
    if not urlsplit(tracking_uri).scheme:
        raise WrongInput(
            f"tracking_uri: '{tracking_uri}' is no URI; write sqlite:///absolute/path.db, or http://HOST:PORT"
        )

    def connect() -> Any:
        with _migrating(tracking_uri):
            _reach_database(tracking_uri)
            client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
            client.search_experiments(max_results=1)
        return client

    try:
        inner = patiently(tracking_uri, connect, for_good=_wrong_place) if tracking_uri in _answered else connect()
    except (
        MlflowException,
        SQLAlchemyError,
        ImportError,
        OSError,
        sqlite3.Error,
    ) as problem:  # ImportError: a driver not there
        where = f"tracking_uri: MLflow at {masked_url(tracking_uri)}"
        refused = _wrong_place(problem)
        if any(sign in str(link) for link in _chain(problem) for sign in BROKEN):
            refused = refused or mistaken(tracking_uri, "")
        if not refused and (words := away(problem, tracking_uri)):
            raise Outage(f"{where} does not answer ({words}); start it, or give another") from None
        words = refused or " ".join(str(problem).split())[:160]
        raise WrongInput(f"{where} cannot be used ({words}); mend it, or give another") from None
    expect(tracking_uri)
    return Client(inner, tracking_uri)


def _reach_database(tracking_uri: str) -> None:
    """Connect once, for MLflow itself would try for an hour before it says that nobody is there."""
    if urlsplit(tracking_uri).scheme.partition("+")[0] not in DATABASES:
        return
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    create_engine(tracking_uri, poolclass=NullPool).connect().close()


@contextlib.contextmanager
def _migrating(tracking_uri: str) -> Iterator[None]:
    """Holds a lock beside a SQLite database while it is opened, and follows it where it was moved; nothing for a server."""
    if not tracking_uri.startswith("sqlite:"):
        yield
        return
    folder = sqlite_folder(tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "opening.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if moved := follow(_sqlite_file(tracking_uri)):
            announce(moved)
        yield


def sqlite_folder(tracking_uri: str) -> Path:
    """The folder of a SQLite database, beside which artifacts lie."""
    return _sqlite_file(tracking_uri).parent


def _sqlite_file(tracking_uri: str) -> Path:
    """SQLAlchemy's rule: three slashes, then the path, so that an absolute one makes four."""
    return Path(tracking_uri.removeprefix("sqlite:///")).absolute()


def open_experiment(client: Client, tracking_uri: str, name: str) -> str:
    """The id of the experiment, made where there is none. Beside a SQLite database its artifacts lie in `artifacts/`."""
    from mlflow.exceptions import MlflowException

    name = fit.shortened(name, fit.EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found is None:
        beside = tracking_uri.startswith("sqlite:")
        location = (sqlite_folder(tracking_uri) / ARTIFACTS / name).as_uri() if beside else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id
