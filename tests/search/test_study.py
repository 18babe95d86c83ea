"""The study: how it is made, and which trial is whose."""

import optuna
import pytest
from optuna.trial import TrialState
from toy import SETTINGS, Toy

from ddpm.errors import WrongInput
from ddpm.progress import Lines
from ddpm.search.leases import Lease
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study, take_trials
from ddpm.store import open_store


@pytest.fixture(params=["journal", "sqlite"])
def toy(request, tmp_path):
    place = str(tmp_path / "journal.log") if request.param == "journal" else f"sqlite:///{tmp_path}/study.db"
    return Toy(place, tmp_path / "run")


def test_founding_lists_come_first_at_the_founding_rate(toy):
    toy.work(0)
    trials = toy.study.trials
    assert [t.params["channel_mults"] for t in trials[:4]] == ["1-2-4-8", "1-2-3-6", "1-2-3", "1-2-4"]
    assert [t.params["lr"] for t in trials[:4]] == [7e-5] * 4
    assert len(trials) == 12 and len({t.params["lr"] for t in trials[4:]}) == 8, "the others are the sampler's"
    assert all(1e-5 <= t.params["lr"] <= 1e-3 for t in trials)


def test_creating_again_changes_nothing(toy):
    create_study(toy.storage, "s", SETTINGS)
    assert len(toy.study.trials) == 12


def test_creation_that_was_cut_off_is_completed(tmp_path):
    place = str(tmp_path / "journal.log")
    study = optuna.create_study(storage=open_study_storage(place), study_name="s")
    study.enqueue_trial({"channel_mults": "1-2-4-8", "lr": 7e-5})
    create_study(place, "s", SETTINGS)
    assert len(open_study(place, "s", SETTINGS).trials) == 12


def open_study_storage(place):
    from ddpm.search.study import open_storage

    return open_storage(place)


def test_a_trial_that_moved_on_since_it_was_listed(toy):
    """Another worker has ended one and begun another: the one is skipped, and so is the other, while it lives."""
    ours, theirs = toy.take(0), toy.take(1)
    (first, lease), (second, other_lease) = next(ours), next(theirs)
    assert (first.number, second.number) == (0, 1)
    with other_lease:
        chosen = suggest(second, SETTINGS)
        second.study.tell(second, 1.0)
    with lease:
        first.study.tell(first, 0.0)
    assert next(theirs)[0].number == 2
    taken, _ = next(ours)
    assert taken.number == 3 and suggest(taken, SETTINGS) != chosen


def test_one_that_was_let_go_of_is_taken_up_as_it_was(toy):
    """Its worker has come upon an exception, say."""
    trial, lease = next(toy.take(0))
    with pytest.raises(ZeroDivisionError), lease:
        chosen = suggest(trial, SETTINGS)
        raise ZeroDivisionError
    again, _ = next(toy.take(1))
    assert again.number == trial.number == 0 and suggest(again, SETTINGS) == chosen


def test_a_trial_that_ends_while_it_is_being_begun(toy, monkeypatch):
    """The storage has answered that it was RUNNING already, and by now it is not."""
    study, other = toy.study, toy.study
    begin = study._storage.set_trial_state_values

    def too_late(trial_id, state):
        (trial,) = (trial for trial in other.trials if trial._trial_id == trial_id)
        if trial.number:
            return begin(trial_id, state)
        assert other._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        assert not begin(trial_id, state), "the storage says who was first"
        other.tell(trial.number, 1.0)
        return False

    monkeypatch.setattr(study._storage, "set_trial_state_values", too_late)
    run = open_store(str(toy.folder))
    trial, _ = next(take_trials(study, run, 0, Lines()))
    assert trial.number == 1
    with Lease(run, "trial-000000", "trial 0", pytest.fail):
        pass  # it was let go of


def test_no_study_is_one_line(tmp_path):
    with pytest.raises(WrongInput, match="no study 'other'"):
        open_study(str(tmp_path / "journal.log"), "other", SETTINGS)
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="study_storage"):
        create_study(str(tmp_path / "file" / "journal.log"), "s", SETTINGS)


def test_a_study_in_postgresql_takes_its_password_from_the_environment(postgres, tmp_path, monkeypatch):
    """As it is kept, its URL holds none; psycopg reads $PGPASSWORD itself."""
    import psycopg

    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute("CREATE ROLE guarded LOGIN PASSWORD 'tr0ub4dor&3'")
        owner.execute("CREATE DATABASE guarded OWNER guarded")
    url = f"postgresql+psycopg://guarded@127.0.0.1:{postgres.port}/guarded"
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(WrongInput, match="password authentication failed"):
        create_study(url, "run", SETTINGS)
    monkeypatch.setenv("PGPASSWORD", "tr0ub4dor&3")
    create_study(url, "run", SETTINGS)
    assert len(open_study(url, "run", SETTINGS).trials) == SETTINGS.trials
