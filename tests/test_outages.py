"""Outages are waited out for a time one can set, and said; what is none is raised as it is."""

import http.server
import threading

import pytest

from ddpm import outages
from ddpm.cli import main
from ddpm.errors import Outage, WrongInput
from ddpm.outages import patience, wait_out
from ddpm.progress import Quiet
from ddpm.search.study import open_storage


def failing(times, problem):
    """An attempt that fails so often, and then gives the number of its calls."""
    calls = []

    def attempt():
        calls.append(1)
        if len(calls) <= times:
            raise problem
        return len(calls)

    return attempt


def matter(problem):
    return "the sea is away" if isinstance(problem, ConnectionError) else ""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(outages, "FIRST_PAUSE", 0.0)


def test_an_outage_that_passes_is_waited_out_and_said_once():
    said = []
    assert wait_out(failing(3, ConnectionError()), matter, "bring it back", said.append, 60) == 4
    assert said[0] == "the sea is away; waiting for up to 60 s"
    assert len(said) == 2 and said[1].startswith("it is back, after ")


def test_without_an_outage_nothing_is_said():
    said = []
    assert wait_out(failing(0, ConnectionError()), matter, "bring it back", said.append) == 1
    assert said == []


def test_one_that_lasts_is_one_line(monkeypatch):
    monkeypatch.setenv(outages.VARIABLE, "0.02")
    with pytest.raises(Outage) as problem:
        wait_out(failing(10**9, ConnectionError()), matter, "bring it back", lambda text: None)
    assert str(problem.value) == "the sea is away (waited 0.02 s; DDPM_PATIENCE says how long); bring it back"
    assert isinstance(problem.value.__cause__, ConnectionError)


def test_no_patience_is_no_second_try():
    attempt = failing(1, ConnectionError())
    with pytest.raises(Outage, match="^the sea is away; bring it back$"):
        wait_out(attempt, matter, "bring it back", lambda text: None, 0)
    assert attempt() == 2, "it was called once"


def test_what_is_no_outage_is_raised_as_it_is():
    with pytest.raises(KeyError):
        wait_out(failing(1, KeyError("x")), matter, "bring it back", lambda text: None)


@pytest.mark.parametrize("wrong", ["soon", "-1", "nan", "inf"])
def test_a_patience_that_is_no_number_of_seconds(wrong, monkeypatch):
    monkeypatch.setenv(outages.VARIABLE, wrong)
    with pytest.raises(WrongInput, match="DDPM_PATIENCE: '.*' will not do"):
        patience()


def test_the_default_patience(monkeypatch):
    monkeypatch.delenv(outages.VARIABLE, raising=False)
    assert patience() == 120


SERVER = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    "passing",
    [
        "FATAL: the database system is starting up",
        "FATAL: the database system is shutting down",
        "FATAL: the database system is in recovery mode",
        "FATAL: the database system is not yet accepting connections DETAIL: Consistent recovery state has not been yet reached.",
        "FATAL: the database system is not accepting connections DETAIL: Hot standby mode is disabled.",
        "FATAL: sorry, too many clients already",
        "FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "FATAL: terminating connection because of crash of another server process",
        "FATAL: query_wait_timeout",
        "FATAL: a reason that nobody here knows",
        "Connection refused Is the server running on that host and accepting TCP/IP connections?",
        "server closed the connection unexpectedly",
    ],
)
def test_a_database_that_may_yet_answer_is_not_given_up(passing):
    assert not outages.refused_for_good(SERVER + passing)


@pytest.mark.parametrize(
    "final",
    [
        'FATAL: password authentication failed for user "u"',
        "fe_sendauth: no password supplied",
        'FATAL: no pg_hba.conf entry for host "127.0.0.1", user "u", database "d", no encryption',
        'FATAL: database "d" does not exist',
        'FATAL: role "u" is not permitted to log in',
        'FATAL: permission denied for database "d" DETAIL: User does not have CONNECT privilege.',
        'FATAL: database "d" is not currently accepting connections',
        "server does not support SSL, but SSL was required",
        'invalid port number: "99999"',
    ],
)
def test_nor_is_one_waited_for_that_has_refused_for_good(final):
    assert outages.refused_for_good(SERVER + final)


NOWHERE = "127.0.0.1:9"


@pytest.fixture
def nothing_is_waited_for(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(outages.VARIABLE, "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("ddpm.store.transfer.random.uniform", lambda low, high: 0.0)
    for name, value in account.items():
        monkeypatch.setenv(name, value)


account = {
    "AWS_ENDPOINT_URL": f"http://{NOWHERE}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_DEFAULT_REGION": "us-east-1",
}  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ["datasets", "--store", "s3://b/x"],
        ["sample", "--model", "models:/m/1", "--out", "o", "--tracking-uri", f"http://{NOWHERE}"],
        ["sample", "--model", "models:/m/1", "--out", "o", "--tracking-uri", f"postgresql+psycopg://u@{NOWHERE}/m"],
    ],
    ids=["store", "mlflow", "mlflow-database"],
)
def test_what_does_not_answer_is_no_wrong_input_whatever_it_is(nothing_is_waited_for, capsys, words):
    """At the first contact too: who is right, the place or whoever named it, nobody can tell, and nothing was asked wrong."""
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("; the same command carries on")


def test_nor_is_a_study_s_database(nothing_is_waited_for):
    with pytest.raises(Outage, match="the study's database does not answer"):
        open_storage(f"postgresql+psycopg://u@{NOWHERE}/o", Quiet(), seconds=0)


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that is no MLflow."""

    def do_GET(self):
        self.send_response(404)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


def test_what_answers_and_is_something_else_is_wrong_input(nothing_is_waited_for, capsys):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        assert main(["sample", "--model", "models:/m/1", "--out", "o", "--tracking-uri", place]) == 2
        server.shutdown()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ddpm: tracking_uri: MLflow at {place} cannot be used (") and "404" in line


@pytest.mark.parametrize("url", ["http://u:tr0ub4dor", "http://127.0.0.1:99999", "nonsense"])
def test_an_endpoint_that_is_none_is_wrong_input(nothing_is_waited_for, capsys, monkeypatch, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert main(["datasets", "--store", "s3://b/x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "S3 cannot be used: ValueError; check AWS_PROFILE, AWS_ENDPOINT_URL" in line and "tr0ub4dor" not in line
