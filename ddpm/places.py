"""Where things are kept when nobody says otherwise: below `var/` of the working folder, or where a cluster says."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ddpm.errors import WrongInput

# What a cluster gives its tasks, by the ConfigMap `ddpm`.
VARIABLES = {"store": "DDPM_STORE", "tracking_uri": "MLFLOW_TRACKING_URI", "study_storage": "DDPM_STUDY_STORAGE"}


def cache_folder() -> Path:
    """Where downloads are kept, and the blobs of data sets that lie in S3: $DDPM_CACHE, or ~/.cache/ddpm.

    Where neither is told and the home cannot be written, as in a container whose root file system is read-only or whose
    user has none, it is a folder of the user's own among the temporary ones.
    """
    if told := os.environ.get("DDPM_CACHE"):
        return Path(told)
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        folder = Path(home) / ".cache" / "ddpm"
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if os.access(there, os.W_OK):
            return folder
    return Path(tempfile.gettempdir()) / f"ddpm-cache-{os.getuid()}"


def default_places(var: Path | None = None) -> dict[str, str]:
    """store, tracking_uri and study_storage for one machine. MLFLOW_TRACKING_URI is honoured, as everywhere in MLflow."""
    var = (var or Path("var")).absolute()
    return {
        "store": str(var / "store"),
        "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{var / 'mlflow' / 'mlflow.db'}",
        "study_storage": str(var / "optuna" / "journal.log"),
    }


def kept_tracking() -> str:
    """MLflow's place, where there is one: what $MLFLOW_TRACKING_URI says, or the database below `var/`; else empty."""
    place = default_places()["tracking_uri"]
    return place if os.environ.get("MLFLOW_TRACKING_URI") or Path(place.removeprefix("sqlite:///")).exists() else ""


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
