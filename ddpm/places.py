"""Where things are kept when nobody says otherwise: below `var/` of the working folder."""

from __future__ import annotations

import os
from pathlib import Path


def default_places(var: Path | None = None) -> dict[str, str]:
    """store, tracking_uri and study_storage for one machine. MLFLOW_TRACKING_URI is honoured, as everywhere in MLflow."""
    var = (var or Path("var")).absolute()
    return {
        "store": str(var / "store"),
        "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{var / 'mlflow' / 'mlflow.db'}",
        "study_storage": str(var / "optuna" / "journal.log"),
    }
