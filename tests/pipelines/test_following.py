"""A run on a cluster, followed and tried again: against a stub that answers as a real server of KFP 2.17 did."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from kfp_server_api import ApiClient
from kfp_stub import KubeflowStub, recorded

from ddpm.run import attempts_of
from pipelines import following, resume
from pipelines.following import Followed
from pipelines.nodes import _hash, steps_of
from pipelines.server import open_client


def run_of(name):
    """The recorded answer as kfp's client has it."""
    return ApiClient().deserialize(SimpleNamespace(data=json.dumps(recorded(name))), "V2beta1Run")


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Follows a stub's run, whose store is a folder here; the exit status, and what was told without its times."""
    told, made = [], []
    monkeypatch.setattr(following, "tell", told.append)
    monkeypatch.setattr(resume, "tell", told.append)
    for name in ("KFP_TOKEN", "KFP_TOKEN_FILE", "KFP_ENDPOINT", "KFP_NAMESPACE", "DDPM_STORE"):
        monkeypatch.delenv(name, raising=False)

    def do(*states, retries=0, retried=(), via=None):
        made.append(KubeflowStub(states, retried=retried))
        told.clear()
        try:
            if via:
                status = resume.main(
                    ["--run", via, "--endpoint", made[-1].url, "--poll-seconds", "0.01", "--retries", str(retries)]
                )
            else:
                client = open_client(made[-1].url, "", "")
                run = Followed(client, made[-1].url, "", "run-1", "r1", str(tmp_path), [0, 1], "https://mlflow.example")
                status = run.see_through(retries, 0)
        except following.Unreachable as problem:
            status = str(problem)
        return status, [line[10:] if line[2:3] == ":" else line for line in map(str, told)], made[-1].calls

    yield do
    for one in made:
        one.close()


def history(*states):
    return [{"update_time": "2026-01-01T00:00:00Z", "state": state} for state in states]


FAILED = {"state": "FAILED", "state_history": history("PENDING", "RUNNING", "FAILED")}
AGAIN = {"state": "RUNNING", "state_history": history("PENDING", "RUNNING", "FAILED", "RUNNING")}
FAILED_AGAIN = {"state": "FAILED", "state_history": history("PENDING", "RUNNING", "FAILED", "RUNNING", "FAILED")}
DONE = {"state": "SUCCEEDED", "state_history": history("PENDING", "RUNNING", "FAILED", "RUNNING", "SUCCEEDED")}
DONE_AT_LAST = {**DONE, "state_history": [*FAILED_AGAIN["state_history"], *history("RUNNING", "SUCCEEDED")]}
RETRY = "POST /apis/v2beta1/runs/run-1:retry"


def test_argos_nodes_are_read_as_our_steps_each_attempt_by_its_number():
    steps = {step.key: step for step in steps_of(run_of("succeeded-after-two-retries"), [0, 1])}
    assert [*steps] == [
        "configure", "ingest", "search-0", "search-1", "train", "evaluate", "register", "promote", "summarise",
    ]  # fmt: skip
    assert steps["search-1"].title == "Search, worker 1"
    assert [(one.number, one.state, one.seconds) for one in steps["train"].attempts] == [
        (1, "FAILED", 39.0), (2, "SUCCEEDED", 130.0),
    ]  # fmt: skip
    assert [(one.number, one.state, one.seconds) for one in steps["evaluate"].attempts] == [
        (1, "FAILED", 22.0), (2, "SUCCEEDED", 76.0),
    ]  # fmt: skip
    deleted = {step.key: step for step in steps_of(run_of("succeeded-after-a-deleted-pod"), [4, 9])}
    assert [one.state for one in deleted["search-4"].attempts] == ["FAILED", "SUCCEEDED"]
    assert [one.state for one in deleted["search-9"].attempts] == ["SUCCEEDED"]


def test_a_second_set_s_steps_are_told_from_the_first_s():
    """As KFP calls them, in the condition's own graph. No run with one was recorded: names and ids are as of the others."""
    whole = ["w", ".root", ".exit-handler-1", ".condition-3", ".train-2", ".executor", "(0)"]
    names = ["".join(whole[:end]) for end in range(1, len(whole) + 1)]
    began = datetime(2026, 11, 26, tzinfo=UTC)

    def node(name, child):
        shown = name.rpartition(".")[2] if "." in name else name
        child_tasks = [SimpleNamespace(pod_name=f"w-{_hash(child)}")] if child else []
        return SimpleNamespace(
            display_name=shown, state="SUCCEEDED", start_time=began, end_time=began + timedelta(seconds=9), child_tasks=child_tasks
        )  # fmt: skip

    tasks = [node(name, child) for name, child in zip(names, [*names[1:], None], strict=True)]
    (step,) = steps_of(SimpleNamespace(run_details=SimpleNamespace(task_details=tasks)), [0, 1])
    assert (step.key, step.title, step.state) == ("transfer-train", "Train, second set", "SUCCEEDED")
    assert [(one.number, one.seconds) for one in step.attempts] == [(1, 9.0)]


@pytest.mark.parametrize(
    ("name", "began"),
    [
        ("running", ["configure", "ingest", "search-0", "search-1"]),
        ("failed-in-configure", ["configure", "summarise"]),
        ("failed-in-search", ["configure", "ingest", "search-0", "search-1", "summarise"]),
        ("terminated-in-train", ["configure", "ingest", "search-0", "search-1", "train", "summarise"]),
    ],
)
def test_what_has_not_begun_is_no_step_yet(name, began):
    assert [step.key for step in steps_of(run_of(name), [0, 1])] == began


def test_the_view_is_a_line_a_change(follow):
    running, ended = recorded("running"), recorded("succeeded-after-two-retries")
    status, told, _ = follow("PENDING", running, running, ended)
    assert status == 0
    assert told == [
        "run  waits for a node",
        "run  running",
        "Configure  succeeded after 10 s",
        "Ingest  succeeded after 16 s",
        "Search, worker 0  running",
        "Search, worker 1  running",
        "Configure  succeeded after 13 s",
        "Search, worker 0  succeeded",
        "Search, worker 1  succeeded",
        "Train  attempt 1  failed after 39 s",
        "Train  attempt 2  succeeded after 130 s",
        "Evaluate  attempt 1  failed after 22 s",
        "Evaluate  attempt 2  succeeded after 76 s",
        "Register  succeeded after 14 s",
        "Promote  succeeded after 15 s",
        "Summarise  succeeded after 8 s",
        "run  succeeded",
        "run r1 ended: SUCCEEDED",
    ]


def test_why_an_attempt_ended_is_told_where_the_store_can_be_read(follow, tmp_path):
    attempts_of(str(tmp_path), "r1", "run-1").begin("search-1").failed("the disk is full", 1)
    status, told, _ = follow(recorded("failed-in-search"))
    assert status == 1
    assert "Search, worker 0  failed after 10 s" in told
    assert "Search, worker 1  failed after 10 s: the disk is full" in told
    assert any(line.startswith("search-1, attempt 1, ") and line.endswith("the disk is full") for line in told)


def test_what_came_of_it_is_told_with_where_it_is_to_be_seen(follow, tmp_path):
    model = {"name": "ddpm-roses", "version": 3, "aliases": ["champion"], "decision": "better by FID"}
    second = {"model": {"name": "ddpm-more", "version": 1, "aliases": [], "decision": "worse by KID"}}
    summary = {"session": "run-1", "model": model, "transfer": second, "mlflow_run": "#/experiments/1/runs/abc"}
    folder = tmp_path / "runs" / "r1"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    status, told, _ = follow("RUNNING", "SUCCEEDED")
    assert status == 0
    assert told[-4:] == [
        "run r1 ended: SUCCEEDED",
        "ddpm-roses version 3 (champion): better by FID",
        "ddpm-more version 1 (no alias): worse by KID",
        "its run in MLflow is https://mlflow.example/#/experiments/1/runs/abc",
    ]
    (folder / "summary.json").write_text(json.dumps({**summary, "session": "an earlier one"}))
    assert follow("SUCCEEDED")[1][-1] == "run r1 ended: SUCCEEDED"
    (folder / "summary.json").write_text("{")
    assert "what came of it cannot be read from here" in follow("SUCCEEDED")[1][-1]


def test_one_that_somebody_terminated_is_told_from_one_that_failed(follow):
    status, told, calls = follow(recorded("terminated-in-train"), retries=3)
    assert (status, told[-1]) == (1, "run r1 ended: FAILED, terminated by somebody")
    assert RETRY not in calls, "whoever ended it wants it ended"
    assert follow(recorded("failed-in-search"))[1][-1] == "run r1 ended: FAILED"


def test_what_failed_is_tried_again_as_often_as_was_asked(follow):
    stale = [FAILED, AGAIN, FAILED_AGAIN]  # for a moment the server still has it as failed
    status, told, calls = follow("RUNNING", FAILED, retries=2, retried=[stale, [FAILED_AGAIN, DONE_AT_LAST]])
    assert (status, calls.count(RETRY)) == (0, 2)
    assert "asking for another try of what failed; 1 left after it" in told
    status, _, calls = follow("RUNNING", FAILED, retries=1, retried=[stale])
    assert (status, calls.count(RETRY)) == (1, 1)


def test_wrong_input_is_not_tried_again(follow, tmp_path):
    attempt = attempts_of(str(tmp_path), "r1", "run-1").begin("configure")
    attempt.failed("epochs: 0 will not do", 2)
    status, told, calls = follow(FAILED, retries=3)
    assert (status, RETRY in calls) == (2, False)
    assert told[-1] == "it is not tried again: what was wrong must be put right first"
    said = "epochs: 0 will not do (wrong input: tried again it would end the same)"
    assert any(line.startswith("configure, attempt 1, ") and line.endswith(said) for line in told)
    attempt.failed("the gate is closed", 3)
    assert follow(FAILED, retries=3)[0] == 3
    attempt.failed("the network is away", 1)
    assert follow(FAILED, retries=1, retried=[[AGAIN, DONE]])[0] == 0


def test_a_server_that_goes_away_is_waited_for(follow, monkeypatch):
    status, told, _ = follow("RUNNING", "BROKEN", "BROKEN", "SUCCEEDED")
    assert status == 0
    assert told[1:3] == [
        "the server does not answer, and is asked again: try again (status 503)",
        "the server answers again",
    ]
    status, _, _ = follow("RUNNING", "BROKEN")
    assert "can no longer be watched" in status and "make resume RUN=run-1" in status


def test_a_run_that_was_deleted_and_a_token_that_has_expired_are_said(follow):
    assert "somebody has deleted it" in follow("RUNNING", "GONE")[0]
    assert "takes KFP_TOKEN no longer" in follow("RUNNING", "EXPIRED")[0]


def test_a_token_from_a_file_is_read_again_when_it_expires(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("old")
    monkeypatch.setenv("KFP_TOKEN_FILE", str(file))
    server = KubeflowStub(["SUCCEEDED"], token="old")
    run = Followed(open_client(server.url, "old", ""), server.url, "", "run-1", "r1", "", [0, 1])
    server.token = "new"
    with pytest.raises(following.Unreachable, match="KFP_TOKEN_FILE, which is read again"):
        run.see_through(0, 0)
    file.write_text("new\n")
    assert run.see_through(0, 0) == 0
    server.close()


@pytest.mark.parametrize("named", ["r1", "run-1"])
def test_resume_tries_a_failed_run_again_by_its_name_or_its_id(follow, named):
    status, told, calls = follow(FAILED, retried=[[AGAIN, DONE]], via=named)
    assert status == 0, told
    assert calls.count(RETRY) == 1
    assert told[0].endswith("/#/runs/details/run-1")


def test_resume_only_follows_what_has_not_failed_and_knows_no_strangers(follow, capsys):
    status, _, calls = follow("RUNNING", "SUCCEEDED", via="run-1")
    assert (status, RETRY in calls) == (0, False)
    assert follow("RUNNING", via="nobody")[0] == 2
    assert "the server knows no run of the id or the name 'nobody'" in capsys.readouterr().err
