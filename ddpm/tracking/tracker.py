"""A pipeline run's place in MLflow: its parent run, and a nested one for each trial and for the final training."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from ddpm.tracking import fit
from ddpm.tracking.client import Client, open_client, open_experiment
from ddpm.tracking.origin import code_version, has_gone, package_versions, process_name, session_name, user_name
from ddpm.tracking.pages import runs_page
from ddpm.tracking.tracked import TrackedRun

RUN_NAME, CHILD, PROCESS = "ddpm.run_name", "ddpm.child", "ddpm.process"


class Tracker:
    """A pipeline run's place in MLflow."""

    def __init__(self, tracking_uri: str, run_name: str, experiment: str) -> None:
        self.tracking_uri, self.run_name, self.experiment = tracking_uri, run_name, experiment
        self._client: Client | None = None
        self._experiment_id = ""

    def _open(self) -> Client:
        if self._client is None:
            self._client = open_client(self.tracking_uri)
            self._experiment_id = open_experiment(self._client, self.tracking_uri, self.experiment)
        return self._client

    def open(self, params: Mapping[str, Any]) -> str:
        """The parent run's id: found by the run's name, or begun, with params, code version and packages."""
        commit = code_version()
        tags = {
            "ddpm.kind": "pipeline", "mlflow.source.name": "ddpm", "mlflow.source.git.commit": commit, "git_commit": commit,
            "python": platform.python_version(), **package_versions(),
        }  # fmt: skip
        run, _ = self._resume(self.run_name, {RUN_NAME: self.run_name, CHILD: ""}, tags, params)
        if params:
            self._claim(run, session_name())
        return run.info.run_id

    def parent(self) -> TrackedRun:
        """The run of the whole; leaving its context does not end it, `finish` does."""
        return TrackedRun(self._open(), self.open({}), resumed=True, ends=False)

    def child(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], training: bool = False
    ) -> TrackedRun:
        """A nested run. The same name again continues it. In a `training` nothing that it records raises."""
        client, parent = self._open(), self.open({})
        whole = client.get_run(parent)
        if whole.info.status != "RUNNING":
            client.update_run(parent, status="RUNNING")
        own = {**tags, "mlflow.parentRunId": parent}
        run, resumed = self._resume(name, {RUN_NAME: self.run_name, CHILD: name}, own, params)
        if training:
            self._claim(run, process_name())
            self._claim(whole, session_name())
        return TrackedRun(client, run.info.run_id, resumed, parent, training=training)

    def runs_page(self) -> str:
        """Where MLflow's pages show the experiment's runs, from the `#` of their address on."""
        return runs_page(self._open(), self._experiment_id)

    def end_children(self, status: str) -> None:
        """End the nested runs that still stand as running: whoever ran them is gone."""
        client, parent = self._open(), self.open({})
        for run in self._found():
            if run.info.status == "RUNNING" and run.info.run_id != parent:
                client.set_terminated(run.info.run_id, status)

    def _found(self) -> list[Any]:
        """The run and its nested ones."""
        client = self._open()
        return client.search_runs([self._experiment_id], f"tags.`{RUN_NAME}` = '{self.run_name}'", max_results=5000)

    def _resume(
        self, title: str, identity: Mapping[str, str], tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> tuple[Any, bool]:
        """The run, and whether it was there already."""
        client = self._open()
        mine = [run for run in self._found() if all(run.data.tags.get(key, "") == of for key, of in identity.items())]
        if mine:
            run = mine[0]
            if run.info.status != "RUNNING" and params:
                client.update_run(run.info.run_id, status="RUNNING")
        else:
            own = {**{key: value for key, value in identity.items() if value}, **tags, "mlflow.user": user_name()}
            fitted = {fit.name(key): fit.tag(value) for key, value in own.items()}
            run = client.create_run(self._experiment_id, tags=fitted, run_name=fit.tag(title))
        self._log_params(client, run, params)
        return run, bool(mine)

    def _log_params(self, client: Client, run: Any, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        fitted = {fit.name(key): fit.param(value) for key, value in params.items()}
        new = [Param(key, value) for key, value in fitted.items() if key not in run.data.params]
        for start in range(0, len(new), fit.TEXTS_PER_BATCH):
            client.log_batch(run.info.run_id, params=new[start : start + fit.TEXTS_PER_BATCH])

    def _claim(self, run: Any, process: str) -> None:
        """Note who works on a run: where that one is gone and the run is not ended, it has died."""
        if run.data.tags.get(PROCESS) != process:
            self._open().set_tag(run.info.run_id, PROCESS, process)


def end_dead_runs(client: Client) -> int:
    """End, as KILLED, the runs that stand as running though the process that worked on them is gone. Their number."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(ids, "attributes.status = 'RUNNING'", max_results=5000) if ids else []
    dead = [run for run in running if has_gone(run.data.tags.get(PROCESS, ""))]
    for run in dead:
        client.set_terminated(run.info.run_id, "KILLED")
    return len(dead)
