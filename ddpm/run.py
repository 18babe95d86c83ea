"""A run of the pipeline: its plan, its folder of the object store, and its place in MLflow.

STORE/runs/RUN_NAME/plan.json       its settings, written once
                    opened.json     its MLflow run, which it names, and its study are there
                    STEP.json       each step's facts, with its seconds; search-WORKER.json of each worker,
                                    transfer-STEP.json of each step that the second set has gone through
                    finalists.json  what the best trials scored when they were scored anew, written once
                    finalists/      of each of them, as soon as it was scored
                    grids/NNN.png   pictures of a trial as it was last looked at, of the same seeds for all
                    study.html      the page of its study, made when the best trial was chosen
                    attempts/       what is under way, and how what failed has ended (attempts.py)
                    lost/           how attempts ended that others came after
                    leases/         which worker is at work, and on which trial
                    init/           the weights that its trials begin with, where init_from names some
                    guide/          the weights of the model that guides its winner, where guide names one
                    trials/NNN/     the checkpoints of a trial
                    final/          those of the final training
                    transfer/       those of the training on the second set
                    trainjob/       what came of it on several nodes, until its task has taken it (steps/trainjob)
                    summary.json    all of it, written at its end

Nobody else puts a path of a run together.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ddpm.attempts import SECOND, Attempts
from ddpm.errors import WrongInput
from ddpm.plan import Plan, set_words
from ddpm.progress import Progress
from ddpm.settings import NAME, NAME_FORM
from ddpm.store import Missing, Store, open_store
from ddpm.store.reading import read_json
from ddpm.tracking import Tracker
from ddpm.workplace import Workplace

FINAL = "final"  # the name, in MLflow too, of the final training
TRANSFER = "transfer"  # that of the training on the second set
PLAN, OPENED = "plan.json", "opened.json"
STUDY = "study.html"
GRIDS = "grids"
ANEW = "give another run_name"


@dataclass(frozen=True)
class Run:
    """A run, by its plan. Raises WrongInput where its store cannot be opened.

    A run with a second set is, to the steps that it goes through, another one in the same folder and the same place in
    MLflow: `second`, by its own plan. Whatever is kept of it has names of its own.
    """

    plan: Plan
    first: Run | None = None  # of a second set: the run that it belongs to

    @classmethod
    def named(cls, name: str, store: str) -> Run:
        """The run of this name that a store knows. Raises Missing where it knows none."""
        kept = read_json(open_store(_root(store, name)), PLAN, dict[str, Any], ANEW)
        return cls(Plan.from_json(json.dumps(kept)))

    @cached_property
    def second(self) -> Run | None:
        """What its second set goes through; None where it has none, and of a second one."""
        return Run(self.plan.second(), self) if self.plan.transfer.transfer_source else None

    @property
    def name(self) -> str:
        return self.plan.run_name

    @cached_property
    def store(self) -> Store:
        """The object store, as a whole."""
        return open_store(self.plan.store)

    @cached_property
    def folder(self) -> Store:
        """Its own folder of the store."""
        return open_store(_root(self.plan.store, self.name))

    @property
    def hasty_folder(self) -> Store:
        """The same, for who has a second left: what does not answer at once is given up."""
        return open_store(_root(self.plan.store, self.name), hasty=True)

    @cached_property
    def tracker(self) -> Tracker:
        """Its place in MLflow: an experiment named after the data set, unless the environment has another for it."""
        if self.first:
            return self.first.tracker.beside(TRANSFER)
        known = (read_json(self.folder, OPENED, dict[str, Any], ANEW) if self.is_open else {}).get("mlflow_run", "")
        return Tracker(self.plan.tracking_uri, self.name, self.plan.ingest.dataset_name, known)

    def workplace(self, progress: Progress) -> Workplace:
        return Workplace(progress, self.plan.store, self.plan.tracking_uri)

    def trial(self, number: int) -> str:
        """Where a trial's checkpoints go."""
        return f"{_root(self.plan.store, self.name)}/trials/{number:03d}"

    @staticmethod
    def grid(number: int) -> str:
        """The key, in its folder, of the pictures of a trial."""
        return f"{GRIDS}/{number:03d}.png"

    @property
    def initial(self) -> str:
        """Where the weights are that its trials begin with."""
        return f"{_root(self.plan.store, self.name)}/init"

    @property
    def guide(self) -> str:
        """Where the weights are of the model that guides its winner."""
        return f"{_root(self.plan.store, self.name)}/guide"

    @property
    def final(self) -> str:
        """Where the final training's checkpoints go."""
        return f"{_root(self.plan.store, self.name)}/{self.training}"

    @property
    def training(self) -> str:
        """The final training's name, in MLflow too."""
        return TRANSFER if self.first else FINAL

    # -- what its steps leave ------------------------------------------------------------------------------------------

    def key(self, step: str) -> str:
        """Under which name a step's facts and attempts are kept."""
        return f"{SECOND}{step}" if self.first else step

    def facts(self, step: str) -> dict[str, Any] | None:
        """The facts that a step left; None where it has not ended yet."""
        try:
            return read_json(self.folder, f"{self.key(step)}.json", dict[str, Any], "remove it, and run the same again")
        except Missing:
            return None

    def keep(self, step: str, facts: Mapping[str, Any]) -> None:
        self.folder.write(f"{self.key(step)}.json", json.dumps(facts, indent=1).encode())

    def keep_once(self, step: str, facts: Mapping[str, Any]) -> None:
        """Keep these facts, unless others are kept already: those stay."""
        self.folder.create(f"{self.key(step)}.json", json.dumps(facts, indent=1).encode())

    def workers(self) -> list[dict[str, Any]]:
        """The facts of the search's workers."""
        keys = [key for key in self.folder.list("") if key.startswith("search-")]
        return [read_json(self.folder, key, dict[str, Any], "remove it, and run the same again") for key in keys]

    def attempts(self, session: str) -> Attempts:
        """Those of one session: a run of the pipeline, by its runner's id."""
        return Attempts(self.folder, session)

    # -- its plan ------------------------------------------------------------------------------------------------------

    def write_plan(self) -> bool:
        """Bind the name to this plan; False where it was bound before. Raises WrongInput where that was to another."""
        if self.folder.create(PLAN, self.plan.to_json().encode()):
            return True
        self.require_same_plan()
        return False

    def require_same_plan(self) -> None:
        """Raise WrongInput where a run of this name was configured otherwise; nothing where there is none."""
        try:
            before = read_json(self.folder, PLAN, dict[str, Any], ANEW)
        except Missing:
            return
        if before.get("store") != self.plan.store:
            raise WrongInput(
                f"run_name: run {self.name} was made in {before.get('store')}, which is {self.plan.store} now; its data set and its versions are found as before, but to carry on give another run_name, or move the folder back"
            )
        was = Plan.from_json(json.dumps(before)).parameters()  # in today's words; what came later was at its default
        other = {name: value for name, value in self.plan.parameters().items() if was[name] != value}
        if other:
            told = ", and ".join(f"{name} {was[name]!r}, not {value!r}" for name, value in other.items())
            same = [f"DATA={shlex.quote(was['source'])}"] if "source" in other else []
            if words := {name: was[name] for name in other if name != "source"}:
                same.append(set_words(words))
            raise WrongInput(
                f"run_name: run {self.name} has {told}; give another run_name, or the same settings: {' '.join(same)}"
            )

    def mark_open(self) -> None:
        """Say that its MLflow run, by its id, and its study are there."""
        self.folder.create(OPENED, json.dumps({"mlflow_run": self.tracker.open({})}).encode())

    @property
    def is_open(self) -> bool:
        return self.folder.exists(OPENED)


def attempts_of(store: str, name: str, session: str, hasty: bool = False) -> Attempts:
    """The attempts of a run that may have no plan. Raises WrongInput for a name or a store that cannot be.

    Args:
        hasty: whether a store that does not answer at once is given up.
    """
    return Attempts(_folder_of(store, name, hasty), session)


def summary_of(store: str, name: str) -> dict[str, Any]:
    """A run's summary, for who can do without: from a store that does not answer at once it is not waited for.

    Raises Missing where there is none, WrongInput or Outage where the store cannot be read.
    """
    return read_json(_folder_of(store, name, hasty=True), "summary.json", dict[str, Any], ANEW)


def _folder_of(store: str, name: str, hasty: bool) -> Store:
    if not re.fullmatch(NAME, name):
        raise WrongInput(f"run_name: {name!r} will not do; it must be {NAME_FORM}")
    return open_store(_root(store, name), hasty)


def _root(store: str, name: str) -> str:
    return f"{store.rstrip('/')}/runs/{name}"
