"""A study in PostgreSQL: restarted in the middle of a search, away for good, and what a wrong URL gives."""

import threading

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError, PendingRollbackError

from ddpm import outages
from ddpm.errors import Outage, WrongInput
from ddpm.progress import Quiet
from ddpm.search.database import outage
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_storage, open_study, take_trials
from ddpm.settings import SearchSettings
from ddpm.steps.configure import configure
from ddpm.store import open_store

SETTINGS = SearchSettings(trials=4, mults_choices="1-2 1-2-4", founding_lr=7e-5)


class Heard(Quiet):
    """Keeps what is said, and does something at the first time."""

    def __init__(self, then=lambda: None):
        self.said, self.then = [], then

    def say(self, text):
        self.said.append(text)
        if len(self.said) == 1:
            self.then()


def test_a_restart_in_the_middle_of_a_study_is_waited_out(postgres, tmp_path):
    """The server goes away while each of a trial's calls is under way, and comes back once that has been said."""
    create_study(postgres.url, "restarted", SETTINGS, Quiet())
    starting = threading.Thread(target=postgres.up)
    heard = Heard(starting.start)
    study = open_study(postgres.url, "restarted", SETTINGS, progress=heard)
    for trial, lease in take_trials(study, open_store(str(tmp_path)), 0, heard):
        if trial.number == 1:
            postgres.down()
        with lease:
            suggest(trial, SETTINGS)
            trial.set_user_attr("fid", 1.5)
            study.tell(trial, float(trial.number))
    starting.join()
    assert "the study's database does not answer" in heard.said[0] and "waiting for up to 120 s" in heard.said[0]
    assert heard.said[-1].startswith("it is back, after ")
    found = open_study(postgres.url, "restarted", SETTINGS).trials
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 4
    assert [trial.value for trial in found] == [0.0, 1.0, 2.0, 3.0]
    assert [trial.params["channel_mults"] for trial in found[:2]] == ["1-2", "1-2-4"]
    assert all(trial.user_attrs == {"fid": 1.5} for trial in found)


def test_one_that_is_lost_between_a_statement_and_its_commit_is_away():
    """Optuna commits all the same, and what SQLAlchemy says of that hides why."""
    lost = OperationalError("SELECT", {}, ConnectionError("server closed the connection"))
    pending, told = PendingRollbackError("Can't reconnect"), StorageInternalError()
    pending.__context__, told.__cause__ = lost, pending
    assert outage(told) == "the study's database does not answer (server closed the connection)"
    pending.__context__ = ValueError("else")
    assert outage(told) == ""


def test_connections_that_died_while_nothing_was_asked_are_nothing_to_speak_of(postgres):
    """A trial trains for minutes between two calls."""
    create_study(postgres.url, "idle", SETTINGS, Quiet())
    heard = Heard()
    study = open_study(postgres.url, "idle", SETTINGS, progress=heard)
    trial = study.ask()
    postgres.down()
    postgres.up()
    trial.set_user_attr("fid", 1.5)
    study.tell(trial, 1.0)
    assert heard.said == []


def test_what_was_done_before_the_connection_broke_off_is_done_once(postgres, monkeypatch):
    """The server has committed, and its answer is lost."""
    create_study(postgres.url, "unanswered", SETTINGS, Quiet())
    study = open_study(postgres.url, "unanswered", SETTINGS, progress=Heard())
    done, lost = RDBStorage.set_trial_state_values, []

    def answer_is_lost(self, *arguments):
        found = done(self, *arguments)
        if not lost:
            lost.append(1)
            raise OperationalError("COMMIT", {}, ConnectionError("server closed the connection"))
        return found

    trial = study.ask()
    with monkeypatch.context() as patched:
        patched.setattr(RDBStorage, "set_trial_state_values", answer_is_lost)
        patched.setattr(outages, "FIRST_PAUSE", 0.0)
        study.tell(trial, 2.5)
    assert lost
    assert (study.trials[0].state, study.trials[0].value) == (TrialState.COMPLETE, 2.5)


def test_one_that_stays_away_is_one_line_and_no_wrong_input(postgres, monkeypatch):
    create_study(postgres.url, "away", SETTINGS, Quiet())
    study = open_study(postgres.url, "away", SETTINGS, progress=Heard())
    postgres.down()
    monkeypatch.setenv(outages.VARIABLE, "0.3")
    with pytest.raises(Outage) as problem:
        study.get_trials()
    assert "\n" not in str(problem.value)
    assert str(problem.value).startswith("the study's database does not answer (")
    assert str(problem.value).endswith(
        "(waited 0.3 s; DDPM_PATIENCE says how long); see that it runs and can be reached"
    )
    with pytest.raises(Outage, match="and that study_storage names it"):
        open_storage(postgres.url, Heard())
    with pytest.raises(Outage) as at_once:
        open_storage(postgres.url, Heard(), seconds=0)
    assert "waited" not in str(at_once.value)


def test_a_study_whose_making_was_cut_off_by_a_restart_has_the_asked_trials(postgres, monkeypatch):
    starting = threading.Thread(target=postgres.up)
    heard = Heard(starting.start)
    made, calls = RDBStorage._create_new_trial, []

    def cut_off(self, *arguments):
        found = made(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            postgres.down()
            found = self.get_trial(found._trial_id)
        return found

    monkeypatch.setattr(RDBStorage, "_create_new_trial", cut_off)
    create_study(postgres.url, "cut", SETTINGS, heard)
    starting.join()
    assert len(open_study(postgres.url, "cut", SETTINGS).trials) == 4


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("tests@127.0.0.1:{port}/nothing", "does not exist"),
        ("nobody@127.0.0.1:{port}/postgres", "does not exist"),
        ("tests@127.0.0.1:{port}/postgres?sslmode=require", "does not support SSL"),
        ("tests@127.0.0.1:{port}/postgres?sslmode=so", "invalid sslmode value"),
    ],
)
def test_a_database_that_will_never_do_is_wrong_input_at_once(postgres, wrong, words):
    with pytest.raises(WrongInput, match=f"study_storage: the database cannot be used .*{words}"):
        open_storage(f"postgresql+psycopg://{wrong.format(port=postgres.port)}", Quiet())


def test_a_run_waits_for_its_database_only_once_it_is_open(postgres, tmp_path, monkeypatch):
    """Whoever mistyped a URL hears of it at once; a run that carries on meets an outage."""
    parameters = {
        "run_name": "open", "store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db",
        "study_storage": postgres.url, "source": "digits", "trials": 1, "extractor": "classifier",
    }  # fmt: skip
    monkeypatch.setenv(outages.VARIABLE, "0.2")
    postgres.down()
    with pytest.raises(Outage) as problem:
        configure(parameters, Heard())
    assert "waited" not in str(problem.value) and not (tmp_path / "store" / "runs").exists()
    postgres.up()
    configure(parameters, Heard())
    postgres.down()
    with pytest.raises(Outage, match="waited 0.2 s"):
        configure(parameters, Heard())
