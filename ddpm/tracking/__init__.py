"""MLflow runs: one parent a pipeline run, a nested run a trial and one for the final training.

    client.py    the way to MLflow: opened once, patient in an outage
    tracker.py   a pipeline run's place in it
    begun.py     a run that somebody else has begun for it
    tracked.py   one run: what is recorded there, and when that fails
    moved.py     a database whose folder was moved
    fit.py       names, texts and figures, made fit for it
    machine.py   how the machine is doing while a network trains
    origin.py    which code, packages, process and pipeline made a run
    pages.py     what its pages show, and where
    ui.py        `make ui`

Only this room and `registry/` know MLflow. Runs are found again by their names, kept as tags, so that a step that was
killed and started again goes on in its own run.
"""

from ddpm.tracking.client import expect, in_a_line, open_client, open_experiment, patiently
from ddpm.tracking.origin import code_version, pipeline_tags, user_name
from ddpm.tracking.pages import address
from ddpm.tracking.tracked import NoTrackedRun, TrackedRun
from ddpm.tracking.tracker import Tracker

__all__ = [
    "NoTrackedRun", "TrackedRun", "Tracker", "address", "code_version", "expect", "in_a_line", "open_client", "open_experiment",
    "patiently", "pipeline_tags", "user_name",
]  # fmt: skip
