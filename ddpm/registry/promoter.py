"""The account by which MLflow's aliases are set, where it is another one than that of all else.

$DDPM_PROMOTER_USERNAME and $DDPM_PROMOTER_PASSWORD, which on a cluster the promote step alone is given. Without them the
aliases are set as everything is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ddpm.errors import WrongInput

VARIABLES = {
    "DDPM_PROMOTER_USERNAME": "MLFLOW_TRACKING_USERNAME",
    "DDPM_PROMOTER_PASSWORD": "MLFLOW_TRACKING_PASSWORD",
}
TOKEN = "MLFLOW_TRACKING_TOKEN"  # which MLflow's client would take instead


@contextlib.contextmanager
def as_promoter() -> Iterator[None]:
    """While the block lasts, MLflow is asked by that account. Raises WrongInput where half of it is said."""
    told = {name: os.environ.get(name, "") for name in VARIABLES}
    if not any(told.values()):
        yield
        return
    for name, value in told.items():
        if not value:
            raise WrongInput(
                f"{name} is not said, and the other one of {' and '.join(VARIABLES)} is; say both, or none"
            )
    before = {name: os.environ.pop(name, None) for name in (*VARIABLES.values(), TOKEN)}
    os.environ.update({VARIABLES[name]: value for name, value in told.items()})
    try:
        yield
    finally:
        for name, old in before.items():
            os.environ.pop(name, None)
            if old is not None:
                os.environ[name] = old
