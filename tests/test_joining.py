"""A worker that joins a run which another process opens: by its name and its store, from any folder."""

import pytest

from ddpm.errors import WrongInput
from ddpm.places import told_place
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.steps import configure
from ddpm.steps.configure import join, kept_store, searched

URI = "/store/datasets/digits/0.json"


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "m.db").touch()
    (tmp_path / "journal").touch()
    return Plan.from_parameters({
        "run_name": "mine", "store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/m.db",
        "study_storage": str(tmp_path / "journal"), "source": URI, "trials": 4, "base_channels": 8,
    })  # fmt: skip


@pytest.fixture
def opened(plan, monkeypatch):
    run = Run(plan)
    run.write_plan()
    run.folder.write("opened.json", b'{"mlflow_run": "abc"}')
    return run


def by_name(plan, **given):
    return join({"run_name": "mine", "store": plan.store, **given}, Quiet(), 0.0)


def test_its_settings_and_places_are_the_runs_own(opened, plan):
    assert by_name(plan).plan == plan
    assert searched(by_name(plan)) == URI


def test_what_is_said_of_it_must_be_so(opened, plan):
    assert by_name(plan, trials=4, tracking_uri=plan.tracking_uri).plan == plan
    with pytest.raises(WrongInput, match="run mine has trials 4, not 5; give another run_name, or the same settings"):
        by_name(plan, trials=5)
    with pytest.raises(WrongInput, match="run mine has study_storage "):
        by_name(plan, study_storage="postgresql+psycopg://optuna@db/optuna")
    with pytest.raises(WrongInput, match="prune_every: first_rung is given too"):
        by_name(plan, prune_every=1, first_rung=1)


def test_one_that_is_not_open_is_waited_for(plan, monkeypatch):
    said, run = [], Run(plan)

    def open_it(seconds):
        run.write_plan()
        run.folder.write("opened.json", b'{"mlflow_run": "abc"}')

    monkeypatch.setattr(configure.time, "sleep", open_it)
    heard = Quiet()
    heard.say = said.append
    found = join({"run_name": "mine", "store": plan.store}, heard, 60)
    assert found.plan == plan and said == ["waiting for worker 0 to open run mine"]


def test_one_that_nobody_opens_is_one_line(plan):
    with pytest.raises(
        WrongInput, match="run mine is not open; start worker 0 first, which opens it, or name its store"
    ):
        by_name(plan)
    Run(plan).write_plan()
    with pytest.raises(WrongInput, match="is not open"):
        by_name(plan)


@pytest.mark.parametrize("place", ["journal", "m.db"])
def test_one_that_is_kept_on_another_machine_is_one_line_and_nothing_is_made(opened, plan, tmp_path, place):
    (tmp_path / place).unlink()
    with pytest.raises(WrongInput, match=f"run mine keeps it in {tmp_path}/{place}, which is not on this machine"):
        by_name(plan)
    assert not (tmp_path / place).exists()


def test_a_run_of_a_pipeline_is_joined_once_its_data_set_is_ingested(opened, plan):
    piped = Run(Plan.from_parameters({**plan.parameters(), "source": "digits"}))
    with pytest.raises(WrongInput, match="the data set of run mine is not ingested yet"):
        searched(piped)
    piped.keep("ingest", {"uri": "/store/datasets/digits/1.json"})
    assert searched(piped) == "/store/datasets/digits/1.json"


def test_a_place_that_nobody_says_is_told_from_one_that_somebody_does(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    unsaid = f"sqlite:///{tmp_path}/var/mlflow/mlflow.db"
    assert told_place("tracking_uri", unsaid) == ""
    assert told_place("tracking_uri", "http://mlflow:5000") == "http://mlflow:5000"
    assert told_place("store", f"{tmp_path}/var/store") and told_place("run_name", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", unsaid)
    assert told_place("tracking_uri", unsaid) == unsaid


def test_a_run_keeps_its_store_s_whole_path_but_for_one_that_has_a_shorter_one(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kept_store("mine", "store") == kept_store("mine", plan.store) == plan.store
    assert kept_store("mine", "s3://bucket/ddpm") == "s3://bucket/ddpm"
    Run(Plan.from_parameters({**plan.parameters(), "store": "store"})).write_plan()
    assert kept_store("mine", "store") == "store"
