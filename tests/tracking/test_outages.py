"""MLflow is away for a while, or does not take what it is told: a training goes on, and all else waits, and says so."""

import http.server
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from requests.exceptions import SSLError
from sqlalchemy.exc import OperationalError, ProgrammingError

import mlflow
from ddpm import outages
from ddpm.errors import Outage, WrongInput
from ddpm.tracking import Tracker, client, expect, open_client, patiently, tracked
from ddpm.tracking.client import Client, away
from ddpm.tracking.origin import has_gone, process_name
from ddpm.tracking.tracker import PROCESS, end_dead_runs

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def said(monkeypatch):
    """What a person is told."""
    lines = []
    for module in (client, tracked):
        monkeypatch.setattr(module, "announce", lines.append)
    return lines


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(outages.VARIABLE, "0.05")
    monkeypatch.setattr(outages, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client, "_answered", set())
    monkeypatch.setattr(tracked, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(tracked, "FIRST_PAUSE", 1e-9)


@pytest.fixture
def no_answer():
    """What MLflow's client raises where nobody listens."""
    with pytest.raises(MlflowException) as problem:
        mlflow.MlflowClient(NOWHERE).search_experiments()
    return problem.value


class Between:
    """A real client, unless `problem` says otherwise."""

    def __init__(self, inner):
        self.inner, self.problem, self.times, self.refused = inner, None, math.inf, ()

    def __getattr__(self, name):
        found = getattr(self.inner, name)

        def asked(*arguments, **named):
            if self.problem and self.times > 0:
                self.times -= 1
                raise self.problem
            if name == "log_batch" and any(one.key in self.refused for one in named.get("metrics", ())):
                raise MlflowException("Invalid value for a metric")
            return found(*arguments, **named)

        return asked if callable(found) else found


@pytest.fixture
def between(place):
    """A tracker whose way to MLflow can be cut."""
    tracker = Tracker(place, "run-1", "digits")
    tracker.open({"a": 1})
    way = Between(mlflow.MlflowClient(place))
    tracker._client = Client(way, place)
    return tracker, way


def test_a_training_goes_on_and_what_it_records_arrives_later(between, place, no_answer, said):
    tracker, way = between
    with tracker.child("trial 0", {}, {}, training=True) as run:
        run.metrics({"loss": 1.0}, 1)
        way.problem = no_answer
        for step in range(2, 6):
            run.metrics({"loss": 1 / step}, step)
            run.picture("samples", np.zeros((8, 8, 3), dtype=np.uint8), step)
            run.tag("seen", str(step))
        way.problem = None
        run.metrics({"loss": 1 / 6}, 6)
    there = open_client(place)
    assert [one.step for one in there.get_metric_history(run.run_id, "loss")] == [1, 2, 3, 4, 5, 6]
    assert len([one for one in there.list_artifacts(run.run_id, "images") if one.path.endswith(".png")]) == 4
    found = there.get_run(run.run_id)
    assert (found.info.status, found.data.tags["seen"]) == ("FINISHED", "5")
    assert len(said) == 2, said
    assert "connection refused" in said[0] and said[0].endswith("the training goes on, and what it records waits")
    assert said[1] == "MLflow answers again: what waited has been sent"


def test_a_training_ends_well_though_mlflow_never_comes_back(between, no_answer, said):
    tracker, way = between
    with tracker.child("trial 0", {}, {}, training=True) as run:
        way.problem = no_answer
        run.metrics({"loss": 1.0}, 1)
    assert any("never reached MLflow; what was trained is safe in the store" in line for line in said)
    assert not [line for line in said if "\n" in line]


def test_a_figure_that_mlflow_refuses_takes_no_other_along(between, place, said):
    tracker, way = between
    way.refused = ("odd",)
    with tracker.child("trial 0", {}, {}, training=True) as run:
        for step in range(3):
            run.metrics({"loss": 1.0, "odd": 2.0, "kid": 3.0}, step)
    found = open_client(place).get_run(run.run_id).data.metrics
    assert {"loss", "kid"} <= set(found) and "odd" not in found
    assert said == ["MLflow did not take a figure odd: Invalid value for a metric; the training goes on without"]


def test_no_name_and_no_value_ends_a_training(between, place, said):
    tracker, _ = between
    values = {"loss/1.1e+02": 1.0, "x" * 400: 2.0, "": 3.0, "nan": math.nan, "inf": math.inf, "big": 10**400}
    with tracker.child("trial 0", {"p" * 300: "v" * 9000}, {"kind": "t" * 9000}, training=True) as run:
        run.metrics(values, 10**30)
        run.picture("süß+", np.zeros((8, 8, 3), dtype=np.uint8), 1)
    found = open_client(place).get_run(run.run_id)
    assert {value for name, value in found.data.metrics.items() if not name.startswith("system")} == {1.0, 2.0, 3.0}
    assert "nan: nan at" in found.data.tags["not_finite"] and "inf: inf at" in found.data.tags["not_finite"]
    assert said == []


def test_elsewhere_an_outage_is_waited_out_or_raised(between, no_answer, said, monkeypatch):
    tracker, way = between
    way.problem = no_answer
    with pytest.raises(Outage, match=r"MLflow at sqlite:.* does not answer \(connection refused\)"):
        tracker.child("final", {}, {})
    assert "waiting for up to 0.05 s" in said[0]
    monkeypatch.setenv(outages.VARIABLE, "60")
    way.times = 3
    assert tracker.child("final", {}, {}).run_id
    assert said[-1].startswith("it is back, after")


def test_a_place_that_never_answered_is_an_outage_at_once_and_one_that_did_is_waited_for(said):
    with pytest.raises(
        Outage, match=r"tracking_uri: MLflow at http://127.0.0.1:9 does not answer \(connection refused\)"
    ):
        open_client(NOWHERE)
    assert said == [], "at the start nobody waits"
    expect(NOWHERE)
    with pytest.raises(Outage, match="DDPM_PATIENCE says how long"):
        open_client(NOWHERE)
    assert len(said) == 1


def test_a_database_over_a_network_is_asked_once_at_the_start():
    with pytest.raises(Outage, match=r"does not answer \(connection refused\)"):
        open_client("postgresql+psycopg://u@127.0.0.1:9/mlflow")


@pytest.mark.parametrize("wrong", ["tests@127.0.0.1:{port}/nothing", "nobody@127.0.0.1:{port}/postgres"])
@pytest.mark.parametrize("answered", [False, True])
def test_a_server_that_knows_no_such_database_or_user_has_answered(postgres, wrong, answered, said):
    url = f"postgresql+psycopg://{wrong.format(port=postgres.port)}"
    if answered:
        expect(url)
    with pytest.raises(
        WrongInput, match="tracking_uri: MLflow at .* cannot be used .FATAL: .* does not exist.; mend it"
    ):
        open_client(url)
    assert said == []


def test_a_server_without_tls_has_answered():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        with pytest.raises(WrongInput, match="cannot be used .it does not speak TLS; write http:// where https:// is"):
            open_client(f"https://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (SSLError("(_ssl.c:1) [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "nobody here knows its certificate"),
        (SSLError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"), ""),
        (OperationalError("", {}, Exception('FATAL: password authentication failed for user "u"')), "FATAL: password authentication"),
        (OperationalError("", {}, Exception("FATAL: the database system is starting up")), ""),
        (OperationalError("", {}, Exception("server does not support SSL, but SSL was required")), "server does not support SSL"),
        (ProgrammingError("", {}, Exception('relation "runs" does not exist')), ""),
    ],
)  # fmt: skip
def test_what_answers_for_good_and_what_may_pass_are_told_apart(problem, words):
    wrapped = MlflowException("wrapped")
    wrapped.__cause__ = problem
    found = client._wrong_place(wrapped)
    assert found.startswith(words) if words else found == ""


@pytest.mark.parametrize(
    ("text", "uri", "words"),
    [
        ("database is locked", "sqlite:///x", "database is locked"),
        ("database or disk is full", "sqlite:///x", "disk is full"),
        ("unable to open database file", "sqlite:///x", ""),
        ("server closed the connection unexpectedly", "postgresql://h/d", "server closed the connection unexpectedly"),
    ],
)
def test_what_is_an_outage_of_a_database(text, uri, words):
    wrapped = MlflowException("wrapped")
    wrapped.__cause__ = OperationalError("select", {}, Exception(text))
    found = away(wrapped, uri)
    assert (words in found) if words else found == ""


def test_other_problems_are_no_outage():
    def act():
        raise MlflowException("Run 'x' not found")

    with pytest.raises(MlflowException):
        patiently("sqlite:///x", act)


def test_a_run_whose_process_died_is_ended(place):
    tracker = Tracker(place, "run-1", "digits")
    alive = tracker.child("trial 0", {}, {}, training=True).run_id
    ended = tracker.child("trial 1", {}, {}, training=True).run_id
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(gone.pid)
    assert not has_gone(name)
    there = open_client(place)
    there.set_tag(ended, PROCESS, name)
    assert end_dead_runs(there) == 0
    gone.communicate()
    assert has_gone(name)
    assert end_dead_runs(there) == 1
    assert (there.get_run(ended).info.status, there.get_run(alive).info.status) == ("KILLED", "RUNNING")


@pytest.mark.parametrize("name", ["", "elsewhere pid:[1] 7 1.00", "x", f"{os.uname().nodename} pid:[1] 7 1.00"])
def test_a_process_that_cannot_be_known_is_left_alone(name):
    assert not has_gone(name)


def test_a_killed_run_s_trials_are_ended_with_it(place):
    tracker = Tracker(place, "run-1", "digits")
    trial = tracker.child("trial 0", {}, {}).run_id
    tracker.end_children("KILLED")
    there = open_client(place)
    assert there.get_run(trial).info.status == "KILLED"
    assert there.get_run(tracker.open({})).info.status == "RUNNING"
