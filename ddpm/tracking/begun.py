"""A run in MLflow that somebody else has begun for this pipeline: it is adopted, so that there are not two of one thing.

Kubeflow's MLflow plugin opens a run for the whole, and below it one for each task, whose id the task finds in
$MLFLOW_RUN_ID. Trials and the final training are nested below that whole, beside the plugin's own tasks.
"""

from __future__ import annotations

import os
from typing import Any

from ddpm.credentials import masked
from ddpm.progress import announce
from ddpm.tracking.client import Client

RUN, EXPERIMENT = "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"
PARENT = "mlflow.parentRunId"
DEEPEST = 10  # runs below runs: a loop's task lies three below the whole


def whole_run(client: Client) -> Any:
    """The outermost run above the one that $MLFLOW_RUN_ID names; None where there is none, or one of them is gone."""
    run, above = None, os.environ.get(RUN, "")
    for _ in range(DEEPEST):
        if not above:
            break
        run = find_run(client, above)
        if run is None:
            announce(
                f"{RUN}: MLflow at {masked(client.tracking_uri)} has no run {above}; what is done is recorded in a run of its own"
            )
            break
        above = run.data.tags.get(PARENT, "")
    return run


def experiment(client: Client) -> str:
    """The id of the experiment that $MLFLOW_EXPERIMENT_ID names; empty where it names none, which is said."""
    from mlflow.exceptions import MlflowException

    told = os.environ.get(EXPERIMENT, "")
    if not told:
        return ""
    try:
        if client.get_experiment(told).lifecycle_stage == "active":
            return told
    except MlflowException as problem:
        _require_unknown(problem)
    announce(f"{EXPERIMENT}: MLflow at {masked(client.tracking_uri)} has no experiment {told}; the data set's is taken")
    return ""


def find_run(client: Client, run_id: str) -> Any:
    """The run of this id; None where there is none, or somebody has deleted it."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as problem:
        _require_unknown(problem)
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _require_unknown(problem: Any) -> None:
    """Raise the problem unless it says that there is no such thing; an id that cannot be one is none either."""
    if problem.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        raise problem
