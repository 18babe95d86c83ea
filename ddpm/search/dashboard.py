"""Optuna's dashboard of a run's study, with each trial's pictures as its artifact.

It shows the study as it is now, and changes nothing there: what the pages would write is refused, and the artifacts are
added to what the dashboard reads, not to what is kept.
"""

from __future__ import annotations

import copy
import io
import json
import socketserver
import webbrowser
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

from ddpm.errors import Refused, WrongInput
from ddpm.places import local_path
from ddpm.progress import Progress
from ddpm.run import GRIDS, Run
from ddpm.search.halving import RUNG
from ddpm.search.study import open_study
from ddpm.store import Missing, Store
from ddpm.tracking.ui import has_display

HOST = "127.0.0.1"  # nobody else sees it: it asks for no password
ARTIFACT = "artifacts:"  # before its id: the attribute by which Optuna knows an artifact of a trial
READ_ONLY = "this dashboard shows the study, and changes nothing"


def serve_dashboard(run: Run, port: int, browse: bool, progress: Progress) -> str:
    """Serve the dashboard until Ctrl-C; its address.

    Args:
        port: 0 takes a free one.
        browse: whether it is opened in the browser, where there is one.
    Raises: WrongInput where there is no such study, the dashboard is not installed, or the port cannot be had.
    """
    with _server(_app(run, progress), port) as server:
        page = f"http://{HOST}:{server.server_port}/dashboard"
        progress.say(f"Optuna's dashboard of study {run.name}: {page}   (Ctrl-C ends it)")
        if browse and has_display():
            webbrowser.open(page)  # the socket listens already
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return page


def _app(run: Run, progress: Progress) -> Callable[..., Iterable[bytes]]:
    try:
        import optuna_dashboard
    except ModuleNotFoundError:
        raise WrongInput(
            "dashboard: optuna-dashboard is not installed; make dashboard sets it up, or pip install 'ddpm[dashboard]'"
        ) from None
    place = run.plan.study_storage
    if "://" not in place and not local_path(place).exists():  # a journal that is opened would be made
        raise WrongInput(f"study_storage: there is no {place}; the dashboard shows it where the run's workers keep it")
    study = open_study(place, run.name, run.plan.search, progress=progress)
    return _reading(optuna_dashboard.wsgi(shown(study._storage, run), Grids(run.folder)))


def _reading(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The same pages, without what would write."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        body = json.dumps({"reason": READ_ONLY}).encode()
        start_response("403 Forbidden", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def _server(app: Callable[..., Iterable[bytes]], port: int) -> WSGIServer:
    try:
        return make_server(HOST, port, app, _Server, _Silent)
    except OSError as problem:
        raise WrongInput(f"port: {port} cannot be had ({problem.strerror}); say another, as in PORT=8081") from None


class Grids:
    """The trials' grids in the run's folder, as Optuna's artifacts."""

    def __init__(self, folder: Store) -> None:
        self._folder = folder

    def open_reader(self, artifact_id: str) -> BinaryIO:
        try:
            return io.BytesIO(self._folder.read(Run.grid(int(artifact_id))))
        except (Missing, ValueError):
            raise ArtifactNotFound(f"there is no artifact {artifact_id}") from None

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        raise Refused(READ_ONLY)

    def remove(self, artifact_id: str) -> None:
        raise Refused(READ_ONLY)


class _Study:
    """What is read of a run's study in a storage: each trial that has a grid has it as an artifact.

    What a rung keeps of each part of the held-out pictures is left out: it makes lines of a thousand characters.
    """

    def __init__(self, storage: BaseStorage, run: Run) -> None:
        self._storage, self._run = storage, run

    def get_all_studies(self) -> list[FrozenStudy]:
        return [study for study in self._storage.get_all_studies() if study.study_name == self._run.name]

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        there = {*self._run.folder.list(GRIDS)}
        found = self._storage.get_all_trials(study_id, deepcopy=False, states=states)
        return [self._readable(trial, there) for trial in found]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._readable(self._storage.get_trial(trial_id), {*self._run.folder.list(GRIDS)})

    @staticmethod
    def _readable(trial: FrozenTrial, there: set[str]) -> FrozenTrial:
        trial = copy.copy(trial)  # the storage's own stays as it is
        trial.user_attrs = {
            name: {part: of for part, of in value.items() if part != "parts"} if name.startswith(RUNG) else value
            for name, value in trial.user_attrs.items()
        }
        if Run.grid(trial.number) in there:
            grid = {
                "artifact_id": f"{trial.number:06d}",
                "filename": f"trial {trial.number}.png",
                "mimetype": "image/png",
            }
            trial._system_attrs = {**trial.system_attrs, f"{ARTIFACT}{trial.number:06d}": json.dumps(grid)}
        return trial


def shown(storage: BaseStorage, run: Run) -> BaseStorage:
    """A storage that holds the run's study, as another keeps it, and takes nothing."""

    def passed_on(name: str) -> Callable[..., Any]:
        return lambda self, *given, **named: getattr(storage, name)(*given, **named)

    def refused(*_: Any, **__: Any) -> Any:
        raise Refused(READ_ONLY)

    others = {*BaseStorage.__abstractmethods__} - {*vars(_Study)}
    methods = {name: passed_on(name) if name.startswith("get_") else refused for name in others}
    return type("Shown", (_Study, BaseStorage), methods)(storage, run)
