"""Outages are waited out for a time one can set, and said; what is none is raised as it is."""

import pytest

from ddpm import outages
from ddpm.errors import Outage, WrongInput
from ddpm.outages import patience, wait_out


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
