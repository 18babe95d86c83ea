"""MLflow runs: one parent a pipeline run, a nested run a trial and one for the final training.

Only this file and `registry/` know MLflow. Runs are found again by their names, kept as tags, so that a step that was
killed and started again goes on in its own run.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ddpm.errors import WrongInput
from ddpm.places import require_place

# MLflow would unpickle what a registered model names; ours are safetensors and JSON.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

RUN_NAME, CHILD = "ddpm.run_name", "ddpm.child"
PACKAGES = ("ddpm", "kfp", "mlflow", "numpy", "optuna", "torch", "torch-fidelity", "torchvision")
FLUSH_SECONDS = 5.0  # a call costs about 5 ms on SQLite, a batch little more
FLUSH_COUNT = 500  # MLflow takes a thousand at most
PARAMS_PER_BATCH = 100


def open_client(tracking_uri: str) -> Any:
    """An MLflow client. A fresh SQLite database is migrated first, by one process at a time: several at once crash.

    Raises WrongInput where the tracking server cannot be reached, or the URI is none.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    require_place("tracking_uri", tracking_uri)
    if not urlsplit(tracking_uri).scheme:
        raise WrongInput(
            f"tracking_uri: '{tracking_uri}' is no URI; write sqlite:///absolute/path.db, or http://HOST:PORT"
        )
    try:
        with _migrating(tracking_uri):
            client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
            client.search_experiments(max_results=1)
    except (
        MlflowException,
        SQLAlchemyError,
        ImportError,
        OSError,
    ) as problem:  # ImportError: a driver that is not there
        words = " ".join(str(problem).split())[:160]
        raise WrongInput(f"tracking_uri: MLflow at {tracking_uri} cannot be used ({words})") from None
    return client


@contextlib.contextmanager
def _migrating(tracking_uri: str) -> Iterator[None]:
    """Holds a lock beside a SQLite database while it is opened; nothing for a server."""
    if not tracking_uri.startswith("sqlite:"):
        yield
        return
    folder = _sqlite_folder(tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "opening.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sqlite_folder(tracking_uri: str) -> Path:
    """SQLAlchemy's rule: three slashes, then the path, so that an absolute one makes four."""
    return Path(tracking_uri.removeprefix("sqlite:///")).absolute().parent


def open_experiment(client: Any, tracking_uri: str, name: str) -> str:
    """The id of the experiment, made where there is none. Beside a SQLite database its artifacts lie in `artifacts/`."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        beside = tracking_uri.startswith("sqlite:")
        location = (_sqlite_folder(tracking_uri) / "artifacts" / name).as_uri() if beside else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def code_version() -> str:
    """The git commit that runs, with `-dirty` where files differ from it; $DDPM_COMMIT in an image; else `unknown`."""
    if stated := os.environ.get("DDPM_COMMIT"):
        return stated
    try:
        ran = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--match="],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return ran.stdout.strip()


def _package_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # the engine's image has no MLflow, for one
            found[f"version.{name}"] = importlib.metadata.version(name)
    return found


class Tracker:
    """A pipeline run's place in MLflow."""

    def __init__(self, tracking_uri: str, run_name: str, experiment: str) -> None:
        self.tracking_uri, self.run_name, self.experiment = tracking_uri, run_name, experiment
        self._client: Any = None
        self._experiment_id = ""

    def _open(self) -> Any:
        if self._client is None:
            self._client = open_client(self.tracking_uri)
            self._experiment_id = open_experiment(self._client, self.tracking_uri, self.experiment)
        return self._client

    def open(self, params: Mapping[str, Any]) -> str:
        """The parent run's id: found by the run's name, or begun, with params, code version and packages."""
        commit = code_version()
        tags = {
            "ddpm.kind": "pipeline", "mlflow.source.name": "ddpm", "mlflow.source.git.commit": commit, "git_commit": commit,
            "python": platform.python_version(), **_package_versions(),
        }  # fmt: skip
        return self._resume(self.run_name, {RUN_NAME: self.run_name, CHILD: ""}, tags, params)[0]

    def parent(self) -> TrackedRun:
        """The run of the whole; leaving its context does not end it, `finish` does."""
        return TrackedRun(self._open(), self.open({}), resumed=True, ends=False)

    def child(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> TrackedRun:
        """A nested run. The same name again continues it."""
        parent = self.open({})
        if self._client.get_run(parent).info.status != "RUNNING":
            self._client.update_run(parent, status="RUNNING")
        own = {**tags, "mlflow.parentRunId": parent}
        run_id, resumed = self._resume(name, {RUN_NAME: self.run_name, CHILD: name}, own, params)
        return TrackedRun(self._open(), run_id, resumed, parent)

    def _resume(
        self, title: str, identity: Mapping[str, str], tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> tuple[str, bool]:
        """The run's id, and whether it was there already."""
        client = self._open()
        found = client.search_runs([self._experiment_id], f"tags.`{RUN_NAME}` = '{self.run_name}'", max_results=5000)
        mine = [run for run in found if all(run.data.tags.get(key, "") == value for key, value in identity.items())]
        if mine:
            run = mine[0]
            if run.info.status != "RUNNING" and params:
                client.update_run(run.info.run_id, status="RUNNING")
        else:
            all_tags = {**{key: value for key, value in identity.items() if value}, **tags, "mlflow.user": user_name()}
            run = client.create_run(self._experiment_id, tags=all_tags, run_name=title)
        self._log_params(run, params)
        return run.info.run_id, bool(mine)

    def _log_params(self, run: Any, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        new = [Param(key, str(value)) for key, value in params.items() if key not in run.data.params]
        for start in range(0, len(new), PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=new[start : start + PARAMS_PER_BATCH])


def user_name() -> str:
    """Who runs this, also where the user has no name, as in a container."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class TrackedRun:
    """One MLflow run. As a context it ends with the block: FINISHED, FAILED after an exception, KILLED when stopped.

    A run that is resumed is told again what it was told after its last checkpoint; what is there already is not logged
    twice.
    """

    def __init__(self, client: Any, run_id: str, resumed: bool = False, parent: str = "", ends: bool = True) -> None:
        self.client, self.run_id, self._resumed, self._parent, self._ends = client, run_id, resumed, parent, ends
        self._steps: dict[str, set[int]] = {}  # of a resumed run, by metric: those that were there
        self._pictures: list[str] | None = None  # of a resumed run: the files of its series that were there
        self._waiting: list[Any] = []
        self._flushed = time.monotonic()
        self._finished = False

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Figures at a step; None is left out. Sent in batches, every few seconds."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [
            Metric(name, float(value), now, int(step))
            for name, value in values.items()
            if value is not None and not self._has_metric(name, int(step))
        ]
        if len(self._waiting) >= FLUSH_COUNT or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def _has_metric(self, name: str, step: int) -> bool:
        if not self._resumed:
            return False
        if name not in self._steps:
            self._steps[name] = {metric.step for metric in self.client.get_metric_history(self.run_id, name)}
        return step in self._steps[name]

    def _has_picture(self, name: str, step: int) -> bool:
        if not self._resumed:
            return False
        if self._pictures is None:
            self._pictures = [Path(file.path).name for file in self.client.list_artifacts(self.run_id, "images")]
        return any(file.startswith(f"{name}+step+{step}+") for file in self._pictures)

    def history(self, name: str) -> list[tuple[int, float]]:
        """A metric's (step, value), in the order of the steps."""
        found = self.client.get_metric_history(self.run_id, name)
        return sorted({metric.step: metric.value for metric in found}.items())

    def flush(self) -> None:
        """Send what waits."""
        for start in range(0, len(self._waiting), FLUSH_COUNT):
            self.client.log_batch(self.run_id, metrics=self._waiting[start : start + FLUSH_COUNT])
        self._waiting.clear()
        self._flushed = time.monotonic()

    def picture(self, name: str, picture: np.ndarray, step: int | None = None) -> None:
        """uint8 [h,w,3]. With a step it is one of a series, which the UI shows with a slider."""
        if step is None:
            self.client.log_image(self.run_id, picture, artifact_file=f"{name}.png")
        elif not self._has_picture(name, step):
            self.client.log_image(self.run_id, picture, key=name, step=step, synchronous=True)

    def file(self, name: str, data: bytes) -> None:
        """An artifact with these bytes."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(data)
            self.client.log_artifact(self.run_id, str(path))

    def tag(self, name: str, value: str) -> None:
        self.client.set_tag(self.run_id, name, value)

    def dataset(self, facts: Mapping[str, Any], context: str = "training") -> None:
        """The data set as the run's input: name, digest, URI and numbers of pictures (what `ddpm ingest` returns)."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": facts["uri"]})
        profile = json.dumps({key: facts[key] for key in ("n", "held_out", "classes") if key in facts})
        kind = urlsplit(facts["uri"]).scheme or "local"
        entity = Dataset(facts["name"], facts["digest"][:36], kind, source, profile=profile)  # 36: MLflow's limit
        self.client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])
        self.tag("dataset_digest", facts["digest"])

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self.flush()
        self.client.set_terminated(self.run_id, status)
        self._finished = True

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finished:
            return
        if not self._ends:
            self.flush()
        elif kind is None:
            self.finish("FINISHED")
        elif issubclass(kind, Exception):
            self.finish("FAILED")
        else:  # the whole run is being stopped, and nobody comes after to say so of its parent
            self.finish("KILLED")
            if self._parent:
                self.client.set_terminated(self._parent, "KILLED")


class NoTrackedRun:
    """Takes what a TrackedRun takes and keeps nothing: for steps by hand."""

    def metrics(self, values: Mapping[str, float | None], step: int) -> None: ...

    def flush(self) -> None: ...

    def picture(self, name: str, picture: np.ndarray, step: int | None = None) -> None: ...

    def file(self, name: str, data: bytes) -> None: ...

    def tag(self, name: str, value: str) -> None: ...

    def dataset(self, facts: Mapping[str, Any], context: str = "training") -> None: ...

    def finish(self, status: str) -> None: ...

    def __enter__(self) -> NoTrackedRun:
        return self

    def __exit__(self, *exception: object) -> None: ...
