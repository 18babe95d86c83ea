"""What a step leaves when it fails, is stopped or is killed, and what a run's summary makes of it."""

import json
import os
import signal

import pytest

from ddpm.attempts import KILLED, STOPPED, lost
from ddpm.errors import Outage, Refused, WrongInput
from ddpm.plan import Plan
from ddpm.run import Run, attempts_of
from ddpm.run_page.close import _never_began
from ddpm.steps import configure as configure_step
from ddpm.steps import summarise as exit_task
from ddpm.steps.task import perform
from ddpm.summary import STEPS
from ddpm.tracking import open_client

INGESTED = {"name": "digits", "uri": "u", "digest": "0123456789abcdef", "n": 1605, "held_out": 192}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """MLflow's, migrated once."""
    place = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    open_client(place)
    return place


@pytest.fixture
def made(tmp_path, database):
    """A run that has its plan, with a name of its own in MLflow."""
    run = Run(Plan(tmp_path.name[:60], str(tmp_path / "store"), database, str(tmp_path / "journal")))
    run.write_plan()
    return run


@pytest.fixture
def step(made, tmp_path):
    """Does a step as a pipeline's task does: it leaves these facts, or ends as this exception would have it."""
    before = signal.getsignal(signal.SIGTERM)

    def do(name, session, ends=None, key=""):
        def work(run, progress):
            if callable(ends):
                ends()
            elif ends:
                raise ends
            return INGESTED if name == "ingest" else {"done": name}

        try:
            perform(name, lambda: (made, session), work, str(tmp_path / f"{name}.json"), key)
        except SystemExit as ended:
            return ended.code
        except ZeroDivisionError:
            return "raised"
        return 0

    yield do
    signal.signal(signal.SIGTERM, before)


def whole(made, step, session):
    """All steps of a session, done well; nothing is left of them that a summary would show but their seconds."""
    for name in STEPS:
        if name not in ("train", "evaluate", "register"):  # whose facts a summary goes into
            assert step(name, session, key="search-0" if name == "search" else "") == 0


def status_of(made):
    client = open_client(made.plan.tracking_uri)
    return client.get_run(made.tracker.open({})).info.status


def exit_of(made, session, state="RUNNING"):
    """The exit task's note; what it was told is what KFP says after a kill as well."""
    note = os.path.join(os.path.dirname(made.plan.store), "note.md")
    exit_task.in_pipeline(made.name, made.plan.store, state, "", session, note)
    with open(note) as file:
        return file.read()


def test_a_failure_is_kept_with_its_attempt_until_the_step_succeeds(made, step, capsys):
    assert step("train", "s", Outage("the disk is full")) == 1
    assert step("train", "s", WrongInput("epochs: too\nmany")) == 2
    assert step("search", "s", Refused("too few"), key="search-1") == 3
    assert step("evaluate", "s", ZeroDivisionError("by nothing")) == "raised"
    left = {failure["step"]: failure for failure in made.attempts("s").failures()}
    assert {name: (one["attempt"], one["status"]) for name, one in left.items()} == {
        "train": (2, 2), "search-1": (1, 3), "evaluate": (1, 1),
    }  # fmt: skip
    assert left["train"]["error"] == "epochs: too many"
    assert "ZeroDivisionError: by nothing" in left["evaluate"]["error"]
    assert step("train", "s") == 0
    assert "train" not in {failure["step"] for failure in made.attempts("s").failures()}
    assert made.attempts("other").failures() == []


def test_one_that_left_nothing_was_killed_and_one_that_was_stopped_says_so(made, step):
    made.attempts("s").begin("train")  # and no more is heard of it
    assert step("evaluate", "s", lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert {one["step"]: one["error"] for one in made.attempts("s").failures()} == {
        "train": KILLED, "evaluate": STOPPED,
    }  # fmt: skip
    assert [one["step"] for one in made.attempts("s").failures(over=False)] == ["evaluate"]


def test_a_name_that_succeeded_before_is_not_taken_for_a_success_of_now(made, step):
    whole(made, step, "first")
    assert "SUCCEEDED" in exit_of(made, "first")
    assert status_of(made) == "FINISHED"
    for name in ("configure", "ingest"):
        step(name, "second")
    made.attempts("second").begin("search-0", "search-0")
    note = exit_of(made, "second")
    assert "FAILED" in note and "search-0, attempt 1, " in note and KILLED in note
    summary = made.facts("summary")
    assert (summary["state"], summary["failed"][0]["step"]) == ("FAILED", "search-0")
    assert KILLED in summary["error"]
    assert "search-0, attempt 1" in made.folder.read("index.html").decode()
    assert status_of(made) == "FAILED"


def test_a_step_whose_pod_never_came_is_named_too(made, step):
    whole(made, step, "first")
    step("configure", "second")
    assert "ingest, attempt 0" in exit_of(made, "second", "FAILED")
    assert "it never began" in made.facts("summary")["error"]


def test_after_a_retry_whoever_is_last_closes_the_run(made, step):
    """A cluster that is asked to try a failed run again runs no exit task a second time."""
    for name in ("configure", "ingest"):
        step(name, "s")
    assert step("search", "s", Outage("away"), key="search-0") == 1
    assert made.facts("summary") is None, "the exit task comes"
    exit_of(made, "s", "FAILED")
    assert step("search", "s", Outage("still away"), key="search-0") == 1
    assert made.facts("summary")["failed"][0]["attempt"] == 2
    assert "still away" in made.facts("summary")["error"]
    assert status_of(made) == "FAILED"
    for name in ("search", "promote"):
        assert step(name, "s", key="search-0" if name == "search" else "") == 0
    summary = made.facts("summary")
    assert (summary["state"], summary.get("failed"), summary.get("error")) == ("SUCCEEDED", None, None)
    assert status_of(made) == "FINISHED"


def test_the_runner_s_pages_link_the_run_in_mlflow(made, step, monkeypatch):
    """Where a server shows it: of a database nobody knows which."""
    whole(made, step, "s")
    page = made.tracker.run_page()
    assert "in MLflow" not in exit_of(made, "s")
    assert f"is recorded in MLflow as run {made.tracker.open({})}," in configure_step.words_for(made)
    monkeypatch.setenv("DDPM_MLFLOW_URL", "https://mlflow.example/")
    assert f"- [the run in MLflow](https://mlflow.example/{page})" in exit_of(made, "s").splitlines()
    assert f"[run {made.tracker.open({})}](https://mlflow.example/{page})" in configure_step.words_for(made)


def test_a_run_with_a_second_set_has_ended_when_that_has(made, step, tmp_path):
    """Its steps are told apart from the first set's by their names, in what failed too."""
    changes = {"transfer_source": "dalle-dogs", "transfer_dataset_name": "dogs"}
    run = Run(Plan.from_parameters({**made.plan.parameters(), **changes, "run_name": f"{made.name}-2"}))
    run.write_plan()

    def do(of, name, ends=None, key=""):
        def work(run, progress):
            if ends:
                raise ends
            return INGESTED if name == "ingest" else {"done": name}

        try:
            perform(name, lambda: (of, "s"), work, str(tmp_path / "out.json"), key)
        except SystemExit as ended:
            return ended.code
        return 0

    whole(run, lambda name, session, key="": do(run, name, key=key), "s")
    assert do(run.second, "ingest", Outage("away")) == 1
    note = exit_of(run, "s")
    summary = run.facts("summary")
    assert (summary["state"], [one["step"] for one in summary["failed"]]) == ("FAILED", ["transfer-ingest"])
    assert "transfer-ingest, attempt 1" in note and status_of(run) == "FAILED"
    for name in ("ingest", "promote"):
        assert do(run.second, name) == 0
    assert (run.facts("summary")["state"], status_of(run)) == ("SUCCEEDED", "FINISHED"), "closed by the last step"
    assert run.facts("summary")["transfer"]["dataset"]["name"] == "digits"
    assert set(run.facts("summary")["seconds"]) >= {"promote", "transfer-ingest", "transfer-promote"}


def test_a_second_set_whose_pod_never_came_is_named(made):
    changes = {"transfer_source": "dalle-dogs", "transfer_dataset_name": "dogs"}
    run = Run(Plan.from_parameters({**made.plan.parameters(), **changes, "run_name": f"{made.name}-2"}))
    run.write_plan()
    for name in STEPS:
        run.keep("search-0" if name == "search" else name, {"session": "s"})
    assert [one["step"] for one in _never_began(run, "s")] == ["transfer-ingest"]
    run.second.keep("ingest", {"session": "s"})
    assert [one["step"] for one in _never_began(run, "s")] == ["transfer-train"]
    run.folder.delete("evaluate.json")
    assert [one["step"] for one in _never_began(run, "s")] == ["evaluate"]


def test_who_is_refused_leaves_another_run_s_summary_as_it_is(made, step, capsys, tmp_path):
    whole(made, step, "first")
    exit_of(made, "first")
    before = made.folder.read("summary.json")
    other = {**made.plan.parameters(), "epochs": made.plan.train.epochs + 1}
    with pytest.raises(SystemExit) as ended:
        configure_step.in_pipeline(other, "second", str(tmp_path / "plan.json"), str(tmp_path / "note.md"), "")
    assert ended.value.code == 2
    note = exit_of(made, "second", "FAILED")
    assert "refused" in note and "has epochs" in note
    assert made.folder.read("summary.json") == before
    assert status_of(made) == "FINISHED"


def test_what_was_wrong_before_there_was_a_plan_is_kept_as_well(tmp_path, capsys):
    places = {"store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/m.db", "study_storage": "j"}
    with pytest.raises(SystemExit):
        configure_step.in_pipeline(
            {**places, "run_name": "r", "epochs": 0}, "s", str(tmp_path / "plan.json"), "n.md", ""
        )
    (failure,) = attempts_of(places["store"], "r", "s").failures()
    assert (failure["step"], failure["status"]) == ("configure", 2)
    exit_task.in_pipeline("r", places["store"], "FAILED", "", "s", str(tmp_path / "note.md"))
    assert "epochs: 0 will not do" in (tmp_path / "note.md").read_text()
    assert "epochs: 0 will not do" in capsys.readouterr().out
    with pytest.raises(WrongInput, match="run_name"):
        attempts_of(places["store"], "../r", "s")


def test_a_failure_that_cannot_be_kept_is_still_told(made, step, capsys, monkeypatch):
    def away(self, key, data):
        raise Outage("the store is away")

    def fails():
        monkeypatch.setattr(type(made.folder), "write", away)
        raise Outage("the picture server is away")

    assert step("ingest", "s", fails) == 1
    said = capsys.readouterr().out
    assert "how it ended could not be kept: the store is away" in said
    assert json.loads(said.splitlines()[-1].removeprefix("@ddpm "))["error"] == "the picture server is away"


def test_what_came_to_nothing_has_taken_its_time(made, step):
    """Of all sessions; of one that was killed nobody knows how long it was."""
    assert step("ingest", "first", Outage("the disk is full")) == 1
    made.attempts("second").begin("ingest")  # and no more is heard of it
    assert step("ingest", "second", Refused("too few")) == 3
    assert step("ingest", "second") == 0
    made.attempts("second").begin("promote")
    found = sorted((one["key"], one["seconds"] is None) for one in lost(made.folder))
    assert found == [("ingest", False), ("ingest", False), ("ingest", True), ("promote", True)]
    assert "promote" not in [one["key"] for one in lost(made.folder, over=False)], "it may be at work"
    assert all(0 <= one["seconds"] < 60 for one in lost(made.folder) if one["seconds"] is not None)
    exit_of(made, "second")
    summed = made.facts("summary")["cost"]
    assert (summed["steps"]["ingest"]["lost_unknown"], summed["run"]["lost_unknown"]) == (1, 2)
