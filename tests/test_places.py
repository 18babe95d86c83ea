"""Where things are kept when nobody says so."""

import argparse
import os
import tempfile

import pytest

from ddpm.cli import main, parser
from ddpm.errors import WrongInput
from ddpm.places import VARIABLES, cache_folder, default_places, fill_places, output_file, require_place
from pipelines import local, pipeline


def test_empty_places_are_the_environments(monkeypatch):
    monkeypatch.setenv("DDPM_STORE", "s3://bucket/x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("DDPM_STUDY_STORAGE", "postgresql+psycopg://o@p/o")
    given = {"store": "", "tracking_uri": "http://other", "study_storage": "", "lr": 0.1}
    assert fill_places(given) == {
        "store": "s3://bucket/x", "tracking_uri": "http://other", "study_storage": "postgresql+psycopg://o@p/o", "lr": 0.1,
    }  # fmt: skip


def test_a_place_that_nobody_names_is_one_line(monkeypatch):
    monkeypatch.delenv("DDPM_STORE", raising=False)
    with pytest.raises(WrongInput, match="store: missing; give it as a parameter, or DDPM_STORE"):
        fill_places({"store": ""})


def test_on_one_machine_all_is_below_var_or_where_the_environment_says(monkeypatch, tmp_path):
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_places() == {
        "store": f"{tmp_path}/var/store", "tracking_uri": f"sqlite:///{tmp_path}/var/mlflow/mlflow.db",
        "study_storage": f"{tmp_path}/var/optuna/journal.log",
    }  # fmt: skip
    told = {
        "store": "s3://ddpm/main",
        "tracking_uri": "http://mlflow:5000",
        "study_storage": "postgresql+psycopg://o@p/o",
    }
    for name, place in told.items():
        monkeypatch.setenv(VARIABLES[name], place)
    assert default_places() == told


def test_the_cache_is_where_one_says_or_at_home_or_among_the_temporary_files(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "told"))
    assert cache_folder() == tmp_path / "told"
    monkeypatch.setenv("DDPM_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "ddpm"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    temporary = tmp_path / "tmp" / f"ddpm-cache-{os.getuid()}"
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root may write everywhere
    assert cache_folder() == temporary
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(os, "access", lambda place, mode: True)
    monkeypatch.setattr(os.path, "expanduser", lambda path: "")
    assert cache_folder() == temporary


def test_the_cache_is_no_bucket(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_CACHE", "s3://b/c")
    with pytest.raises(
        WrongInput, match="DDPM_CACHE: 's3://b/c' is a URI, and what is written there is a file of this"
    ):
        cache_folder()


@pytest.mark.parametrize(
    "place",
    [
        "sqlite://", "sqlite:///", "sqlite+pysqlite:///", "sqlite:///:memory:", "sqlite:///file::memory:?cache=shared",
        "sqlite:///file:x?mode=memory&uri=true", "sqlite://m.db",
    ],
)  # fmt: skip
def test_a_database_that_nothing_would_be_kept_in_is_no_place(place):
    for name in ("tracking_uri", "study_storage"):
        with pytest.raises(
            WrongInput, match=f"{name}: it names no file of SQLite, .*; write sqlite:///absolute/path.db"
        ):
            require_place(name, place)
        for right in ("sqlite:///m.db", "sqlite:////a/b:memory:/m.db"):
            require_place(name, right)


@pytest.mark.parametrize(
    "place",
    [
        "postgresql:/u:s3cret@h/d", "postgresql:u:s3cret@h/d", "postgresql+psycopg:h/d?password=s3cret", "u:s3cret@h/d",
        "models:/x", "C:/x", "C:\\x", "s3:/b/x", "s3:b", "http:/h:5000", "file:/x", "sqlite:x.db",
    ],
)  # fmt: skip
def test_what_begins_as_a_url_and_is_none_becomes_no_file(place):
    for name in ("store", "tracking_uri", "study_storage"):
        with pytest.raises(
            WrongInput, match=f"{name}: what begins with {place.partition(':')[0]}".replace("+", ".")
        ) as said:
            require_place(name, place)
        assert "s3cret" not in str(said.value)
        for right in ("./C:/x", "a-10:30.zip", "x/C:/y"):
            require_place(name, right)


@pytest.mark.parametrize("place", ["http://", "https:///x", "http://:5000"])
def test_a_server_has_a_name(place):
    with pytest.raises(WrongInput, match="tracking_uri: it names no host; write https?://HOST:PORT"):
        require_place("tracking_uri", place)


def test_what_may_be_a_reference_is_one():
    for name, text in (("source", "digits:/data/x"), ("DATA", "archive:/a.zip"), ("model", "models:/m@champion")):
        require_place(name, text)
    for name in ("source", "DATA", "init_from"):
        with pytest.raises(WrongInput, match=f"{name}: it holds a password") as said:
            require_place(name, "postgresql:/u:s3cret@h/d")
        assert "s3cret" not in str(said.value)


OUTPUTS = [("page", "--out"), ("sample", "--out"), ("export", "--out"), ("evaluate", "--html"), ("history", "--html")]
NEEDED = {
    "sample": ["--model", "m"], "export": ["--model", "m"], "history": ["--model-name", "m"],
    "evaluate": ["--generated", "g", "--dataset", "d"],
}  # fmt: skip


def test_these_are_the_flags_that_name_what_is_written():
    """Train's --out is a store, which may be a bucket."""
    (steps,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    found = {(name, flag) for name, command in steps.choices.items() for action in command._actions
             for flag in action.option_strings if flag in ("--out", "--html", "--output")}  # fmt: skip
    assert found == {*OUTPUTS, ("train", "--out")}


@pytest.mark.parametrize(("command", "flag"), OUTPUTS)
@pytest.mark.parametrize("text", ["", " ", "s3://bucket/x", "file:///x", "s3:/bucket/x", "https://u:tr0ub4dor@h/x"])
def test_what_is_written_to_this_machine_is_no_uri_and_not_empty(tmp_path, monkeypatch, capsys, command, flag, text):
    monkeypatch.chdir(tmp_path)
    assert main([command, *NEEDED.get(command, []), flag, text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    what = "is a URI" if text.startswith(("s3", "file")) else "password" if text.strip() else "it is empty"
    assert line.startswith(f"ddpm: {flag.removeprefix('--')}: ") and what in line and "tr0ub4dor" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", [local.main, pipeline.main])
def test_so_do_the_programs_of_the_pipeline(tmp_path, monkeypatch, capsys, program):
    monkeypatch.chdir(tmp_path)
    flag = "--var" if program is local.main else "--output"
    for text in ("", "s3://bucket/x"):
        assert program([flag, text]) == 2
        assert f"{flag.removeprefix('--')}: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_written_lies_in_a_folder_and_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_file("html", "~/page.html") == tmp_path / "page.html"
    with pytest.raises(WrongInput, match="html: .* is a folder; name a file"):
        output_file("html", str(tmp_path))
    with pytest.raises(WrongInput, match="html: there is no folder for .*/none/page.html; make it"):
        output_file("html", f"{tmp_path}/none/page.html")


@pytest.mark.parametrize("name", ["", ".", "good/", "../good", "-good", "good\n", "a" * 101, "gut und böse"])
@pytest.mark.parametrize(
    "words",
    [
        ["history"],
        ["rollback", "--why", "x"],
        ["promote", "--version", "1", "--dataset", "d"],
        ["register", "--checkpoint", "c", "--report", "r"],
    ],
)
def test_a_model_s_name_is_checked_alike_by_every_command(tmp_path, monkeypatch, capsys, words, name):
    monkeypatch.chdir(tmp_path)
    assert main([*words, f"--model-name={name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ddpm: model_name: ") and "it must be letters, digits, '.', '_' and '-'" in line
    assert list(tmp_path.iterdir()) == []
