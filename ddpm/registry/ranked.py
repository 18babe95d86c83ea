"""A version among MLflow's logged models, whose page has them side by side: its files, params, and metrics linked to the data set."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpm.evaluation.figures.table import FIGURES
from ddpm.evaluation.report import Report, number_in
from ddpm.model.model import Model
from ddpm.registry.catalogue import WEIGHTS_TAG

DIGEST = 36  # characters that MLflow takes of a data set's digest


def ranked(
    client: Any, name: str, run_id: str, model: Model, report: Report, tags: Mapping[str, str], folder: Path
) -> Any:
    """The logged model with the files of `folder`: the one that a registration which was stopped left, or a new one."""
    run = client.get_run(run_id)
    experiment = run.info.experiment_id
    found = [
        logged
        for logged in client.search_logged_models([experiment], f"tags.{WEIGHTS_TAG} = '{tags[WEIGHTS_TAG]}'")
        if logged.source_run_id == run_id
    ]
    logged = found[0] if found else client.create_logged_model(
        experiment,
        name=f"{re.sub('[^A-Za-z0-9_-]', '_', name)}-{tags[WEIGHTS_TAG][:12]}",
        source_run_id=run_id,
        tags=dict(tags),
        params={field: str(value) for field, value in {**asdict(model.settings), **asdict(model.drawing)}.items()},
        model_type="diffusion",
    )  # fmt: skip
    client.log_model_artifacts(logged.model_id, str(folder))
    _log_metrics(client, run_id, logged.model_id, model, report, tags)
    return client.finalize_logged_model(logged.model_id, "READY")


def _log_metrics(
    client: Any, run_id: str, model_id: str, model: Model, report: Report, tags: Mapping[str, str]
) -> None:
    from mlflow.entities import Dataset, DatasetInput, Metric

    digest, data = tags.get("dataset_digest", "")[:DIGEST], tags.get("dataset_name", "")
    linked = {"dataset_name": data, "dataset_digest": digest} if data and digest else {}
    if linked:
        source = Dataset(data, digest, "local", tags.get("dataset_uri", ""))
        client.log_inputs(run_id, [DatasetInput(source, [])])
    metric = report["metric"]
    figures = {FIGURES[name].key(metric): name for name in ("fid", "kid", "precision", "recall")}
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[
            Metric(shown, float(value), now, model.origin.images_seen, model_id=model_id, **linked)
            for shown, figure in figures.items()
            if (value := number_in(report, figure)) is not None and math.isfinite(value)
        ],
    )
