"""docs/pictures/dashboard.png: Optuna's dashboard of a run's study, as Chromium shows it, with a trial's pictures.

    python -m docs.pictures.dashboard RUN_NAME [OUTPUT]        (make dashboard-picture RUN_NAME=…)

$DDPM_STORE says in which store; the dashboard is up for as long as it takes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ddpm.errors import WrongInput
from ddpm.legible import tell
from ddpm.run_page.folder import find_run
from ddpm.search.choice import rank_trials
from ddpm.search.study import open_study
from ddpm.search.trial import TRIAL, trial_row
from docs.pictures.chromium import served, window

WIDE, HIGH = 1280, 800  # pixels of the window


def picture(trial: str, output: Path) -> None:
    """The page of a trial."""
    with window(WIDE, HIGH) as page:
        page.goto(trial)
        picture = page.locator("img[src*='/artifacts/']").first
        picture.wait_for()
        picture.scroll_into_view_if_needed()
        page.screenshot(path=output)


def main(run_name: str = "", output: str = "docs/pictures/dashboard.png") -> int:
    store = os.environ.get("DDPM_STORE") or "var/store"
    try:
        run = find_run(run_name, store)
        study = open_study(run.plan.study_storage, run.name, run.plan.search)
        best = rank_trials([trial_row(trial) for trial in study.trials])[0].candidate.model.removeprefix(TRIAL)
    except WrongInput as problem:
        tell(problem)
        return 2
    command = [
        sys.executable,
        "-m",
        "ddpm.cli",
        "dashboard",
        "--run-name",
        run.name,
        "--store",
        store,
        "--port",
        "PORT",
    ]
    with served(command, "/api/studies") as server:
        picture(f"{server}/dashboard/studies/{study._study_id}/trials?numbers={best}", Path(output))
    tell(output, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
