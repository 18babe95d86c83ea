"""docs/pictures/models.png: MLflow's models page, as Chromium shows it, with the models' figures beside their names.

    python -m docs.pictures.models EXPERIMENT [OUTPUT]        (make models-picture EXPERIMENT=…)

$MLFLOW_TRACKING_URI says which records; a server of them is up for as long as it takes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ddpm.errors import WrongInput
from ddpm.legible import tell
from ddpm.tracking import open_client
from docs.pictures.chromium import served, window

WIDE, HIGH, SHOWN = 1600, 900, 360  # pixels of the window, and of its height those that the picture shows
HIDDEN = ("Status", "Logged from", "Source run", "Dataset", "Parameters")  # columns that would push the figures off it
QUIET = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')
"""


def picture(server: str, experiment_id: str, output: Path) -> None:
    """The page of an experiment's models, the latest first, as MLflow has them."""
    with window(WIDE, HIGH, QUIET) as page:
        page.goto(f"{server}/#/experiments/{experiment_id}/models?workflowType=machine_learning")
        page.get_by_role("button", name="Columns").click()
        for column in HIDDEN:
            page.get_by_title(column, exact=True).click()
        page.keyboard.press("Escape")
        page.get_by_role("menu").wait_for(state="hidden")
        page.get_by_role("columnheader").filter(has_text="kid_").last.wait_for()
        page.set_viewport_size({"width": WIDE, "height": SHOWN})  # the list of columns had no room in so low a window
        page.screenshot(path=output)


def main(experiment: str, output: str = "docs/pictures/models.png") -> int:
    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('var/mlflow/mlflow.db').absolute()}"
    try:
        found = open_client(place).get_experiment_by_name(experiment)
        if not found:
            raise WrongInput(
                f"experiment: there is none named {experiment!r} at {place}; MLflow's pages show which there are"
            )
    except WrongInput as problem:
        tell(problem)
        return 2
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", place, "--registry-store-uri", place,
        "--host", "127.0.0.1", "--port", "PORT", "--workers", "1",
    ]  # fmt: skip
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with served(command, "/health", place) as server:
        picture(server, found.experiment_id, Path(output))
    tell(output, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
