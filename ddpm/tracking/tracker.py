"""A pipeline run's place in MLflow: its parent run, and a nested one for each trial and for the final training."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from ddpm.errors import Outage
from ddpm.progress import announce
from ddpm.tracking import begun, fit
from ddpm.tracking.client import Client, open_client, open_experiment
from ddpm.tracking.origin import (
    PIPELINE,
    code_version,
    has_gone,
    package_versions,
    process_name,
    session_name,
    user_name,
)
from ddpm.tracking.pages import run_page, runs_page
from ddpm.tracking.tracked import TrackedRun

RUN_NAME, CHILD, PROCESS = "ddpm.run_name", "ddpm.child", "ddpm.process"
RECORDED_IN = "ddpm.recorded_in"  # of a run that was begun for one that had a run already: that one's id


class Tracker:
    """A pipeline run's place in MLflow.

    Args:
        experiment: the name of the one in which a run that is new is begun, unless the environment says otherwise.
        known: the parent run's id, where that is known.
        prefix: before the names of all that is recorded of the whole: a second set's stand beside the first's.
    """

    def __init__(self, tracking_uri: str, run_name: str, experiment: str, known: str = "", prefix: str = "") -> None:
        self.tracking_uri, self.run_name, self.experiment, self._known = tracking_uri, run_name, experiment, known
        self._prefix = prefix
        self._client: Client | None = None
        self._experiment_id = ""
        self._begun: Any = None  # the run that somebody else has begun for this one

    def beside(self, prefix: str) -> Tracker:
        """The same place, for a second set: what is recorded of the whole has this before its name."""
        return Tracker(self.tracking_uri, self.run_name, self.experiment, self._known, f"{prefix}_")

    def _open(self) -> Client:
        if self._client is None:
            client = open_client(self.tracking_uri)
            self._begun = begun.whole_run(client)
            self._experiment_id = self._place(client)
            self._client = client
        return self._client

    def _place(self, client: Client) -> str:
        """The experiment of the parent run: the one that it is in, or, for one that is new, is to be in."""
        if known := begun.find_run(client, self._known):
            return known.info.experiment_id
        named = client.get_experiment_by_name(fit.shortened(self.experiment, fit.EXPERIMENT))
        if named and named.lifecycle_stage == "active" and self._found(client, named.experiment_id):
            return named.experiment_id
        if self._begun:
            return self._begun.info.experiment_id
        return begun.experiment(client) or open_experiment(client, self.tracking_uri, self.experiment)

    def open(self, params: Mapping[str, Any], pipeline: Mapping[str, str] | None = None) -> str:
        """The parent run's id: found by the run's name, adopted, or begun, with params, code version and packages.

        Args:
            pipeline: tags that say which run of a pipelines' server it is now.
        """
        commit = code_version()
        tags = {
            "ddpm.kind": "pipeline", "mlflow.source.name": "ddpm", "mlflow.source.git.commit": commit, "git_commit": commit,
            "python": platform.python_version(), **package_versions(),
        }  # fmt: skip
        self._adopt(tags)
        run, _ = self._resume(
            self.run_name,
            {RUN_NAME: self.run_name, CHILD: ""},
            tags,
            {f"{self._prefix}{name}": value for name, value in params.items()},
        )
        if params:
            self._claim(run, session_name())
        for name, value in (pipeline or {}).items():
            if run.data.tags.get(name) != value:
                self._open().set_tag(run.info.run_id, name, fit.tag(value))
        if self._begun and pipeline and self._begun.info.run_id != run.info.run_id:
            self._open().set_tag(self._begun.info.run_id, RECORDED_IN, run.info.run_id)
        return run.info.run_id

    def _adopt(self, tags: Mapping[str, str]) -> None:
        """Make the run that was begun for this one the parent, where there is none yet."""
        client = self._open()
        if self._begun is None or RECORDED_IN in self._begun.data.tags:
            return
        whose = self._begun.data.tags.get(RUN_NAME, "")
        if whose == self.run_name or self._found(client, self._experiment_id):
            return
        if whose:
            announce(f"{begun.RUN}: that run is run {whose}'s; run {self.run_name} is recorded in one of its own")
            self._begun = None
            return
        for name, value in {**tags, RUN_NAME: self.run_name}.items():
            client.set_tag(self._begun.info.run_id, fit.name(name), fit.tag(value))

    def pipeline(self) -> dict[str, str]:
        """Which run of a pipelines' server the parent run says that it is, as tags."""
        tags = self._open().get_run(self.open({})).data.tags
        return {name: tags[name] for name in PIPELINE if tags.get(name)}

    def run_page(self) -> str:
        """Where MLflow's pages show the parent run, from the `#` of their address on."""
        parent = self.open({})
        return run_page(self._experiment_id, parent)

    def parent(self) -> TrackedRun:
        """The run of the whole; leaving its context does not end it, `finish` does."""
        return TrackedRun(self._open(), self.open({}), resumed=True, ends=False, prefix=self._prefix)

    def child(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], training: bool = False
    ) -> TrackedRun:
        """A nested run. The same name again continues it. In a `training` nothing that it records raises.

        Raises Outage where MLflow does not take the run itself, which has nothing to do with what is recorded in it.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._child(name, params, tags, training)
        except MlflowException as problem:
            words = " ".join(str(problem).split())[:200]
            raise Outage(
                f"MLflow does not take {name} of run {self.run_name} ({words}); mend that, and go on"
            ) from problem

    def _child(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], training: bool) -> TrackedRun:
        client, parent = self._open(), self.open({})
        whole = client.get_run(parent)
        if whole.info.status != "RUNNING":
            client.update_run(parent, status="RUNNING")
        own = {**tags, begun.PARENT: parent}
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
        for run in self._found(client, self._experiment_id):
            if run.info.status == "RUNNING" and run.info.run_id != parent:
                client.set_terminated(run.info.run_id, status)

    def _found(self, client: Client, experiment_id: str) -> list[Any]:
        """The run and its nested ones."""
        return client.search_runs([experiment_id], f"tags.`{RUN_NAME}` = '{self.run_name}'", max_results=5000)

    def _resume(
        self, title: str, identity: Mapping[str, str], tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> tuple[Any, bool]:
        """The run, and whether it was there already."""
        client = self._open()
        found = self._found(client, self._experiment_id)
        mine = [run for run in found if all(run.data.tags.get(key, "") == of for key, of in identity.items())]
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
