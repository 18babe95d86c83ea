"""The Makefile, in a copy of the tree with this environment: what it passes on, and what a cut-off leaves."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
OLD = ["-o", "requirements.lock", "-o", "requirements-dev.lock", "-o", "pyproject.toml", "-o", "uv"]


@pytest.fixture
def tree(tmp_path):
    """The tree without its environment, in a folder whose name needs care."""
    copy = tmp_path / "it's a python3 folder"
    shutil.copytree(
        ROOT,
        copy,
        ignore=lambda folder, names: {n for n in names if n.startswith((".", "var", "build")) or n == "__pycache__"},
    )
    return copy


@pytest.fixture
def installed(tree):
    (tree / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return tree


def make(tree, *words, **environment):
    return subprocess.run(
        ["make", *words],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", ["it's", 'q"q', "$HOME `touch x` $(touch x)", "-x", "two  words"])
def test_what_a_person_wrote_arrives_untouched(installed, name):
    (installed / name).mkdir()
    found = make(installed, *OLD, "run", "PRESET=quick", f"DATA=./{name}")
    assert found.returncode == 2
    assert f"source: {installed}/{name} holds no pictures" in found.stderr
    assert not (installed / "x").exists()


def test_settings_are_read_by_neither_make_nor_the_shell(installed):
    found = make(installed, *OLD, "run", "SET='dataset_name=$(shell touch x)' epochs=1")
    assert found.returncode == 2
    assert "dataset_name: '$(shell touch x)' will not do" in found.stderr
    assert not (installed / "x").exists()


def test_no_dollar_of_what_a_person_wrote_is_make_s(installed):
    found = make(installed, *OLD, "run", "PRESET=$?$@")
    assert "preset: there is none named '$?$@'" in found.stderr
    found = make(installed, *OLD, "run", "DATA=digits", "SET=dataset_name='$@'")
    assert "dataset_name: '$@' will not do" in found.stderr


@pytest.mark.parametrize("target", ["run", "submit"])
def test_nothing_that_set_holds_is_dropped(installed, target):
    found = make(installed, *OLD, target, "ENDPOINT=http://127.0.0.1:9", "SET=epochs=1\ntrials=1; lr_low=1 > x")
    assert found.returncode == 2
    assert "SET: ';' is not understood there; part settings by spaces" in found.stderr
    assert not (installed / "x").exists() and not (installed / "var").exists()


def test_what_would_end_the_command_is_refused_where_the_shell_reads(tree):
    """Before anything is installed."""
    for name, target in {"SERVE": "serve", "TESTS": "test", "BENCH": "bench", "IMAGES": "pin"}.items():
        for sign in (";", "#", "`", "|", "\n"):
            found = make(tree, target, f"{name}=a {sign} touch x")
            assert found.returncode == 2
            said = "a line end" if sign == "\n" else f"'{sign}'"
            assert f"{name}: {said} has no place in it" in found.stderr
    assert not (tree / "x").exists() and not (tree / ".venv").exists()


@pytest.mark.parametrize("target", ["doctor", "compile"])
def test_a_cluster_s_file_arrives_untouched_too(installed, target):
    found = make(installed, *OLD, target, "CLUSTER=no such `touch x`")
    assert found.returncode == 2
    assert "CLUSTER: there is neither a file 'no such `touch x`' nor a cluster of that name" in found.stderr
    assert not (installed / "x").exists()


def test_a_schedule_s_stars_are_nobody_s_files(installed):
    found = make(installed, *OLD, "schedule", "CRON=0 3 * * 1", "ENDPOINT=http://127.0.0.1:9")
    assert found.returncode == 2
    assert "CRON: '0 3 * * 1' has five fields, and Kubeflow takes the first of them for the seconds" in found.stderr


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("EPOCHS=3", "EPOCHS: make has no such variable; write SET='epochs=3'"),
        ("trial-epochs=3", "trial-epochs: make has no such variable; write SET='trial_epochs=3'"),
        (
            "STUDY_STORAGE=postgresql://u:tr0ub4dor@h/d",
            "STUDY_STORAGE: make has no such variable; write SET='study_storage=…'",
        ),
        (
            "PRESTE=quick",
            "PRESTE: make has no such variable; there are PYTHON UV DOCKER PRESET DATA RUN_NAME RUNNER SET ",
        ),
        ("it's=`touch x`$(shell touch x)", "it's: make has no such variable; there are "),
    ],
)
def test_a_variable_that_nobody_reads_is_refused(tree, word, said):
    """Before anything is installed."""
    found = make(tree, "run", word)
    assert found.returncode == 2
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert "tr0ub4dor" not in found.stderr
    assert not (tree / "x").exists() and not (tree / ".venv").exists()


def test_a_terminated_make_leaves_no_process(installed):
    process = subprocess.Popen(
        ["make", *OLD, "run", "RUN_NAME=ended"],
        cwd=installed,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stderr:
        if "▸ ingest" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while (left := [child for child in children if child.is_running()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert not list((installed / "var").rglob(".writing-*"))


FAKE_UV = """#!/bin/sh
echo "$*" >>calls
case "$*" in
venv*) mkdir .venv .venv/bin && ln -s "$(command -v python3)" .venv/bin/python ;;
"pip sync"*) echo half >.venv/half && test ! -e fail ;;
esac
"""


def test_an_installation_that_was_cut_off_is_done_anew(tree):
    uv = tree / "fake-uv"
    uv.write_text(FAKE_UV)
    uv.chmod(0o755)
    (tree / "fail").touch()
    words = ["UV=./fake-uv", ".venv/.installed"]
    assert make(tree, *words).returncode != 0
    assert not (tree / ".venv/.installed").exists()
    (tree / "fail").unlink()
    (tree / ".venv/leftover").touch()
    assert make(tree, *words).returncode == 0
    assert (tree / ".venv/.installed").exists()
    assert not (tree / ".venv/leftover").exists(), "what the first one left looks installed, and is not"
    (tree / ".venv/bin/python").unlink()
    (tree / ".venv/bin/python").symlink_to("/no/such/python")
    (tree / "requirements.lock").touch()
    assert make(tree, *words).returncode == 0, "nor can one be used whose Python is gone"
    calls = len((tree / "calls").read_text().splitlines())
    assert make(tree, *words).returncode == 0
    assert len((tree / "calls").read_text().splitlines()) == calls, "once installed, nothing is done"


def test_a_python_that_is_too_old_is_one_line(tree):
    old = tree / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    found = make(tree, "UV=./no-uv", "PYTHON=./old-python", ".venv/.installed")
    assert found.returncode == 2
    assert "Python 3.11 or later is needed; say which with PYTHON=…" in found.stderr


def test_the_dashboard_is_of_the_run_that_is_named(installed):
    found = make(installed, *OLD, "dashboard", "RUN_NAME=it's")
    assert found.returncode == 2
    assert "run_name: there is no run it's in" in found.stderr


def test_the_pages_need_runs_and_a_free_port(installed):
    nothing = make(installed, *OLD, "ui", MLFLOW_TRACKING_URI="")
    assert nothing.returncode == 2
    assert "make some with: make run" in nothing.stderr
    (installed / "var/mlflow").mkdir(parents=True)
    (installed / "var/mlflow/mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        for port in (80808, server.getsockname()[1]):
            taken = make(installed, *OLD, "ui", f"PORT={port}", MLFLOW_TRACKING_URI="")
            assert taken.returncode == 2
            assert f"port {port} cannot be had; say another: make ui PORT=5001" in taken.stderr
