"""Where things are kept when nobody says otherwise: below `var/` of the working folder, or where a cluster says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ddpm.errors import WrongInput

# What a cluster gives its tasks, by the ConfigMap `ddpm`.
VARIABLES = {"store": "DDPM_STORE", "tracking_uri": "MLFLOW_TRACKING_URI", "study_storage": "DDPM_STUDY_STORAGE"}


def default_places(var: Path | None = None) -> dict[str, str]:
    """store, tracking_uri and study_storage for one machine. MLFLOW_TRACKING_URI is honoured, as everywhere in MLflow."""
    var = (var or Path("var")).absolute()
    return {
        "store": str(var / "store"),
        "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{var / 'mlflow' / 'mlflow.db'}",
        "study_storage": str(var / "optuna" / "journal.log"),
    }


def fill_places(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with every place that is empty taken from the environment. Raises WrongInput where it is not there."""
    filled = dict(parameters)
    for name, variable in VARIABLES.items():
        if name in filled and not filled[name]:
            filled[name] = os.environ.get(variable, "")
            if not filled[name]:
                raise WrongInput(
                    f"{name}: missing; give it as a parameter, or {variable} in the cluster's ConfigMap ddpm"
                )
    return filled
