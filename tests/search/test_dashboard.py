"""Optuna's dashboard of a run's study: really started, and asked for a trial and its pictures."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

from ddpm.errors import Refused, WrongInput
from ddpm.pictures import png
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search import dashboard
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study

GRID = png(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))


def run_in(folder, study_storage):
    """A run of two trials: one that was completed, with its pictures, and one that is running; and another run's study."""
    plan = Plan.from_parameters({
        "run_name": "shown", "store": str(folder / "store"), "tracking_uri": "sqlite:////none", "trials": 2, "mults_choices": "1-2",
        "study_storage": study_storage,
    })  # fmt: skip
    create_study(study_storage, "another-shown", plan.search)
    create_study(study_storage, "shown", plan.search)
    run = Run(plan)
    run.write_plan()
    study = open_study(study_storage, "shown", plan.search)
    first, second = study.ask(), study.ask()
    for trial in (first, second):
        suggest(trial, plan.search)
    first.set_user_attr("rung_1", {"score": 0.5, "std": 0.1, "parts": [0.1] * 64})
    study.tell(first, 12.5)
    run.folder.write(Run.grid(0), GRID)
    return run


def asked(url, method="GET", body=None):
    """The status of an answer, and its bytes."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, problem.read()


def looked_through(server):
    """Look at the study and at its trials' pictures, and try to change both."""
    status, listed = asked(f"{server}/api/studies")
    (one,) = json.loads(listed)["study_summaries"]
    assert status == 200 and one["study_name"] == "shown", "the run's, and no other"
    study = f"{server}/api/studies/{one['study_id']}"
    done, running = json.loads(asked(study)[1])["trials"]
    assert (done["state"], done["values"], running["state"]) == ("Complete", [12.5], "Running")
    assert running["artifacts"] == []
    assert done["user_attrs"] == [{"key": "rung_1", "value": '{"score": 0.5, "std": 0.1}'}], (
        "in a line that can be read"
    )
    (artifact,) = done["artifacts"]
    assert (artifact["filename"], artifact["mimetype"]) == ("trial 0.png", "image/png")
    pictures = f"{server}/artifacts/{one['study_id']}/{done['trial_id']}/{artifact['artifact_id']}"
    assert asked(pictures) == (200, GRID)
    assert asked(f"{pictures[:-1]}7")[0] == 404
    for method, url, body in (
        ("DELETE", study, b"{}"),
        ("POST", f"{study}/rename", b'{"study_name": "two", "directions": ["minimize"]}'),
        ("PUT", f"{study}/note", b'{"version": 1, "body": "words"}'),
        ("POST", f"{server}/api/trials/{running['trial_id']}/tell", b'{"state": "Fail"}'),
        ("DELETE", f"{server}/api/artifacts/{one['study_id']}/{done['trial_id']}/{artifact['artifact_id']}", b"{}"),
    ):
        status, words = asked(url, method, body)
        assert (status, json.loads(words)["reason"]) == (403, "this dashboard shows the study, and changes nothing")
    assert b"<title>Optuna Dashboard" in asked(f"{server}/dashboard")[1]


@contextmanager
def served(run):
    with dashboard._server(dashboard._app(run, Quiet()), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_command_serves_a_study_of_a_journal_and_changes_nothing(tmp_path):
    run = run_in(tmp_path, str(tmp_path / "journal"))
    before = (tmp_path / "journal").read_bytes()
    command = [
        sys.executable,
        "-m",
        "ddpm.cli",
        "dashboard",
        "--run-name",
        "shown",
        "--store",
        run.plan.store,
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = process.stderr.readline()
            assert told.startswith("Optuna's dashboard of study shown: http://127.0.0.1:"), told
            looked_through(told.split()[5].removesuffix("/dashboard"))
        finally:
            process.terminate()
    assert (tmp_path / "journal").read_bytes() == before
    assert [*run.folder.list("")] == [Run.grid(0), "plan.json"]


def test_a_study_of_a_database_is_shown_as_well(tmp_path, postgres):
    run = run_in(tmp_path, postgres.url)
    with served(run) as server:
        looked_through(server)


def test_what_is_shown_is_the_study_as_it_is_now(tmp_path):
    run = run_in(tmp_path, str(tmp_path / "journal"))
    study = open_study(run.plan.study_storage, "shown", run.plan.search)
    seen = dashboard.shown(open_study(run.plan.study_storage, "shown", run.plan.search)._storage, run)
    study.tell(1, 3.0)
    run.folder.write(Run.grid(1), GRID)
    trials = seen.get_all_trials(study._study_id)
    assert [trial.value for trial in trials] == [12.5, 3.0]
    assert all(f"artifacts:{trial.number:06d}" in trial.system_attrs for trial in trials)
    assert seen.get_best_trial(study._study_id).number == 1
    assert not any(name.startswith("artifacts:") for trial in study.trials for name in trial.system_attrs)
    with pytest.raises(Refused, match="changes nothing"):
        seen.set_trial_user_attr(trials[0]._trial_id, "a", 1)


def test_what_cannot_be_shown_is_one_line(tmp_path, monkeypatch):
    run = run_in(tmp_path, str(tmp_path / "journal"))
    with served(run) as server, pytest.raises(WrongInput, match=r"port: .* cannot be had .*; say another, as in PORT="):
        dashboard.serve_dashboard(run, int(server.rpartition(":")[2]), False, Quiet())
    (tmp_path / "journal").unlink()
    with pytest.raises(WrongInput, match="study_storage: there is no .*journal"):
        dashboard.serve_dashboard(run, 0, False, Quiet())
    assert not (tmp_path / "journal").exists()
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(WrongInput, match="optuna-dashboard is not installed; make dashboard sets it up"):
        dashboard.serve_dashboard(run, 0, False, Quiet())
