"""One MLflow run: what is recorded there, and what happens when that fails."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from ddpm.errors import Outage
from ddpm.progress import announce
from ddpm.tracking import fit
from ddpm.tracking.client import Client
from ddpm.tracking.machine import Machine

FLUSH_SECONDS = 5.0  # a call costs about 5 ms on SQLite, a batch little more
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 300.0  # between tries, while a training goes on without MLflow
MOST_FIGURES, MOST_FILES = 500_000, 64  # that wait: memory is for the training


class Figure(NamedTuple):
    name: str
    value: float
    at: int  # milliseconds of the epoch
    step: int


class TrackedRun:
    """One MLflow run. As a context it ends with the block: FINISHED, FAILED after an exception, KILLED when stopped.

    A run that is resumed is told again what it was told after its last checkpoint; what is there already is not logged
    twice. What MLflow does not take is made fit for it, and what still cannot be recorded is said in a line.

    Args:
        training: nothing that is recorded here raises: a training goes on without MLflow, what could not be sent waits
            until it is back, and how the machine is doing is recorded too. Otherwise an outage is waited out, and raised
            where it lasts.
        prefix: before the name of every figure, file and tag.
    """

    def __init__(
        self, client: Client, run_id: str, resumed: bool = False, parent: str = "", ends: bool = True,
        training: bool = False, prefix: str = "",
    ) -> None:  # fmt: skip
        self.client, self.run_id, self._resumed, self._parent, self._ends = client, run_id, resumed, parent, ends
        self._training, self._prefix = training, prefix
        self._steps: dict[str, set[int]] = {}  # of a resumed run, by metric: those that were there
        self._pictures: list[str] | None = None  # of a resumed run: the files of its series that were there
        self._figures: list[Figure] = []  # that wait
        self._calls: list[Callable[[Client], object]] = []  # that wait, while MLflow is away
        self._odd: dict[str, str] = {}  # figures that were no finite number: when first
        self._flushed = time.monotonic()
        self._next_try, self._pause = 0.0, 0.0  # while MLflow is away
        self._said: set[str] = set()
        self._finished = False
        self._machine = Machine(client, run_id, resumed) if training else None

    # -- figures -------------------------------------------------------------------------------------------------------

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Figures at a step; None is left out. Sent in batches, every few seconds.

        What is no finite number is no figure: a tag says which was not, and when first.
        """
        now, at = int(time.time() * 1000), fit.step(step)
        for given, value in values.items():
            name, number = fit.name(f"{self._prefix}{given}"), fit.figure(value)
            if number is not None:
                self._figures.append(Figure(name, number, now, at))
            elif value is not None and name not in self._odd:
                self._odd[name] = f"{value} at {at}"
                self.tag("not_finite", "  ".join(f"{odd}: {when}" for odd, when in self._odd.items()))
        if len(self._figures) >= fit.METRICS_PER_BATCH or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        self._flushed = time.monotonic()
        if time.monotonic() >= self._next_try:
            self._send(self.client.at_once if self._training else self.client)

    def _send(self, client: Client) -> None:
        """Send what waits, through this client. In a training an outage is said once, and what was not sent still waits."""
        try:
            while self._calls:
                self._record(self._calls[0], client)
                self._calls.pop(0)
            while self._figures:
                batch = self._figures[: fit.METRICS_PER_BATCH]
                self._log(client, [one for one in batch if not self._has_figure(client, one)])
                del self._figures[: len(batch)]
        except Outage as problem:
            if not self._training:
                raise
            self._put_off(problem)
            return
        if self._pause:
            announce("MLflow answers again: what waited has been sent")
            self._next_try = self._pause = 0.0
        if self._machine:
            self._machine.watch()

    def _put_off(self, problem: Outage) -> None:
        if not self._pause:
            announce(f"{problem}; the training goes on, and what it records waits")
        self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        self._next_try = time.monotonic() + self._pause
        if len(self._figures) > MOST_FIGURES:
            del self._figures[:-MOST_FIGURES]
            self._say("the oldest figures are given up: too many wait for MLflow")

    def _log(self, client: Client, figures: list[Figure]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(*figure) for figure in figures]
        try:
            if metrics:
                client.log_batch(self.run_id, metrics=metrics)
        except Outage:
            raise
        except Exception as problem:
            if len(figures) == 1:
                self._failed(f"figure {figures[0].name}", problem)
                return
            for figure in figures:  # one that it refuses must not take the others along
                self._log(client, [figure])

    def _has_figure(self, client: Client, figure: Figure) -> bool:
        if not self._resumed:
            return False
        if figure.name not in self._steps:
            self._steps[figure.name] = self._known_steps(client, figure.name)
        return figure.step in self._steps[figure.name]

    def _known_steps(self, client: Client, name: str) -> set[int]:
        """The steps at which a metric was logged; in a training none, where that cannot be known."""
        try:
            return {one.step for one in client.get_metric_history(self.run_id, name)}
        except Outage:
            raise
        except Exception as problem:
            if not self._training:
                raise
            self._failed(f"question about {name}", problem)
            return set()

    def history(self, name: str) -> list[tuple[int, float]]:
        """A metric's (step, value), in the order of the steps."""
        found = self.client.get_metric_history(self.run_id, fit.name(f"{self._prefix}{name}"))
        return sorted({metric.step: metric.value for metric in found}.items())

    # -- everything else -----------------------------------------------------------------------------------------------

    def picture(self, name: str, picture: np.ndarray, step: int | None = None) -> None:
        """uint8 [h,w,3]. With a step it is one of a series, which the UI shows with a slider."""
        name = f"{self._prefix}{name}"
        if step is None:
            self._do(lambda client: client.log_image(self.run_id, picture, artifact_file=f"{name}.png"))
            return
        key, at = fit.image_name(name), fit.step(step)

        def log(client: Client) -> None:
            if not self._has_picture(client, key, at):
                client.log_image(self.run_id, picture, key=key, step=at, synchronous=True)

        self._do(log)

    def has_picture(self, name: str, step: int) -> bool:
        """Whether a series has a picture at this step already; false where that cannot be known just now."""
        try:
            return self._has_picture(self.client.at_once, fit.image_name(f"{self._prefix}{name}"), fit.step(step))
        except Exception as problem:
            self._say(f"MLflow cannot be asked for pictures: {' '.join(str(problem).split())[:200]}")
            return False

    def _has_picture(self, client: Client, name: str, step: int) -> bool:
        if not self._resumed:
            return False
        if self._pictures is None:
            self._pictures = [Path(file.path).name for file in client.list_artifacts(self.run_id, "images")]
        return any(file.startswith(f"{name}+step+{step}+") for file in self._pictures)

    def file(self, name: str, data: bytes) -> None:
        """An artifact with these bytes."""

        def log(client: Client) -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"{self._prefix}{name}")
                path.write_bytes(data)
                client.log_artifact(self.run_id, str(path))

        self._do(log)

    def tag(self, name: str, value: str) -> None:
        self._do(lambda client: client.set_tag(self.run_id, fit.name(f"{self._prefix}{name}"), fit.tag(value)))

    def dataset(self, facts: Mapping[str, Any], context: str = "training") -> None:
        """The data set as the run's input: name, digest, URI and numbers of pictures (what `ddpm ingest` returns)."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": fit.text(facts["uri"], fit.SOURCE // 8)})
        profile = fit.profile({key: facts[key] for key in ("n", "held_out", "classes", "taken") if key in facts})
        kind = urlsplit(facts["uri"]).scheme or "local"
        named, digest = fit.shortened(facts["name"], fit.DATASET_NAME), facts["digest"][: fit.DATASET_DIGEST]
        entered = DatasetInput(
            Dataset(named, digest, kind, source, profile=profile), [InputTag("mlflow.data.context", context)]
        )
        self._do(lambda client: client.log_inputs(self.run_id, [entered]))
        self.tag("dataset_digest", facts["digest"])

    def _do(self, call: Callable[[Client], object]) -> None:
        """Record something now or, in a training that goes on without MLflow, when it is back."""
        if not self._training:
            self._record(call, self.client)
            return
        if len(self._calls) == MOST_FILES:
            self._say("a picture is given up: too many wait for MLflow")
            return
        self._calls.append(call)
        self.flush()

    def _record(self, call: Callable[[Client], object], client: Client) -> None:
        try:
            call(client)
        except Outage:
            raise
        except Exception as problem:
            if not self._training:
                raise
            self._failed("record", problem)

    def _failed(self, what: str, problem: Exception) -> None:
        self._say(f"MLflow did not take a {what}: {' '.join(str(problem).split())[:200]}")

    def _say(self, text: str) -> None:
        """Once each: a training has thousands of figures."""
        if text not in self._said:
            self._said.add(text)
            announce(f"{text}; the training goes on without")

    # -- its end -------------------------------------------------------------------------------------------------------

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED. What waited for MLflow is waited for, but for a run that is stopped."""
        client = self.client if status == "FINISHED" else self.client.at_once
        if self._machine:
            self._machine.leave()
        self._finished = True
        try:
            self._send(client)
            if not self._calls and not self._figures:
                client.set_terminated(self.run_id, status)
        except Outage as problem:
            if not self._training:
                raise
            announce(f"{problem}. The run's end is not recorded")
        except Exception as problem:
            if not self._training:
                raise
            self._failed("run's end", problem)
        if self._calls or self._figures:
            lost = len(self._calls) + len(self._figures)
            announce(f"{lost} records of run {self.run_id} never reached MLflow; what was trained is safe in the store")

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
                self.client.at_once.set_terminated(self._parent, "KILLED")


class NoTrackedRun:
    """Takes what a TrackedRun takes and keeps nothing: for steps by hand."""

    def metrics(self, values: Mapping[str, float | None], step: int) -> None: ...

    def flush(self) -> None: ...

    def picture(self, name: str, picture: np.ndarray, step: int | None = None) -> None: ...

    def has_picture(self, name: str, step: int) -> bool:
        return True  # none is wanted

    def file(self, name: str, data: bytes) -> None: ...

    def tag(self, name: str, value: str) -> None: ...

    def dataset(self, facts: Mapping[str, Any], context: str = "training") -> None: ...

    def finish(self, status: str) -> None: ...

    def __enter__(self) -> NoTrackedRun:
        return self

    def __exit__(self, *exception: object) -> None: ...
