"""The settings of a run, checked before anything else starts, and the places that its tasks will share."""

from __future__ import annotations

import json
import time
from typing import Any

from ddpm.data import sources
from ddpm.errors import WrongInput
from ddpm.evaluation.weights import check_weights
from ddpm.places import fill_places
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.search.study import create_study, open_storage
from ddpm.steps.task import perform, run_store
from ddpm.store import Missing
from ddpm.tracking import Tracker, open_client

OPENED = "opened.json"  # in the run's folder, once its MLflow run and its study are there


def configure(parameters: dict[str, Any], progress: Progress) -> Plan:
    """Check everything that can be checked cheaply, then open the run: its plan, its MLflow run, its study.

    A run name that is known resumes that run. Raises WrongInput where it was configured otherwise.
    """
    plan = Plan.from_parameters(parameters)
    sources.parse(plan.ingest.source).check()
    check_weights(plan.evaluate.weights)
    if plan.judge.judge_url:
        from ddpm.evaluation.judge import check_judge  # it imports torch

        check_judge(plan.judge, plan.ingest.image_size)
    open_client(plan.tracking_uri)  # the places first: a run is bound to its plan once that is written
    open_storage(plan.study_storage)
    store = run_store(plan)
    if not store.create("plan.json", plan.to_json().encode()):
        require_same_plan(plan)
        progress.say(f"carrying on with run {plan.run_name}")
    open_tracker(plan).open(plan.parameters())
    create_study(plan.study_storage, plan.run_name, plan.search)
    store.create(OPENED, b"{}")
    return plan


def join(parameters: dict[str, Any], progress: Progress, seconds: float) -> Plan:
    """The plan of a run that another process is opening with the same parameters, once that is done.

    Raises WrongInput where it was configured otherwise, or is not open after `seconds`.
    """
    plan = Plan.from_parameters(parameters)
    store = run_store(plan)
    require_same_plan(plan)
    deadline = time.monotonic() + seconds
    if not store.exists(OPENED):
        progress.say(f"waiting for worker 0 to open run {plan.run_name}")
    while not store.exists(OPENED):
        if time.monotonic() > deadline:
            raise WrongInput(f"worker: run {plan.run_name} is not open; start worker 0 first, which opens it")
        time.sleep(0.5)
    require_same_plan(plan)
    return plan


def require_same_plan(plan: Plan) -> None:
    """Raise WrongInput where a run of this name was configured otherwise; nothing where there is none."""
    store = run_store(plan)
    try:
        before = json.loads(store.read("plan.json"))
    except Missing:
        return
    for name, value in plan.parameters().items():
        if before.get(name) != value:
            raise WrongInput(
                f"run_name: run {plan.run_name} has {name} {before.get(name)!r}, not {value!r}; give another run_name, or the same settings"
            )


def open_tracker(plan: Plan) -> Tracker:
    """MLflow's side of the run: the experiment is named after the data set."""
    return Tracker(plan.tracking_uri, plan.run_name, plan.ingest.dataset_name)


def task(parameters: dict[str, Any], output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan = configure(fill_places(parameters), progress)
        return plan, {"plan": json.loads(plan.to_json())}

    perform("configure", work, output)
