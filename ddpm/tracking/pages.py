"""What MLflow's pages show, and where: they open in a mode for language models, in which no run is to be seen."""

from __future__ import annotations

import json
import os
import re

from ddpm import places
from ddpm.credentials import without_password
from ddpm.tracking.client import Client

VIEW = "ddpm"  # the name of our view of an experiment, which MLflow keeps as a tag of it
PARAMS = ("channel_mults", "lr", "n")
FIGURE = re.compile(r"(fid|kid)(_[0-9]+|_classifier)?")


def runs_page(client: Client, experiment_id: str) -> str:
    """Where a server's pages show an experiment's runs, from its `#` on, with what they are to be compared by as columns."""
    runs = client.search_runs([experiment_id], max_results=1000)
    figures = sorted({name for run in runs for name in run.data.metrics if FIGURE.fullmatch(name)})
    view = {
        "orderByKey": "attributes.start_time", "orderByAsc": False, "searchFilter": "", "startTime": "ALL",
        "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": [*(f"params.`{name}`" for name in PARAMS), *(f"metrics.`{name}`" for name in figures)],
    }  # fmt: skip
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))
    client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Where a server's pages show a run, from its `#` on."""
    return f"#/experiments/{experiment_id}/runs/{run_id}"


def address(tracking_uri: str, page: str) -> str:
    """A page's whole address, as people reach MLflow; empty where its place is a database, whose server is nobody knows where."""
    server = without_password(os.environ.get(places.MLFLOW_PAGES) or tracking_uri)
    return f"{server.rstrip('/')}/{page}" if server.startswith(("http://", "https://")) else ""
