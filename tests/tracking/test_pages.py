"""What MLflow's pages are told to show, and what `make ui` says of them."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest

from ddpm.tracking import Tracker, open_client, ui
from ddpm.tracking.pages import runs_page


@pytest.fixture
def filled(place):
    """Two experiments, of which the later run's is `flowers`."""
    for number, name in enumerate(("digits", "flowers")):
        tracker = Tracker(place, f"run-{number}", name)
        with tracker.child("trial 0", {"lr": 0.1}, {}) as run:
            run.metrics({"fid_768": 1.0, "kid_768": 0.1, "interim_fid_768": 2.0, "fid_768_ema_50": 2.0, "loss": 1.0}, 1)
        tracker.parent().finish("FINISHED")
    return place


def test_an_experiment_opens_on_what_its_runs_are_compared_by(filled):
    there = open_client(filled)
    found = there.get_experiment_by_name("flowers")
    page = runs_page(there, found.experiment_id)
    assert page == f"#/experiments/{found.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=ddpm"
    tags = there.get_experiment(found.experiment_id).tags
    assert json.loads(tags["mlflow.sharedViewState.ddpm"])["selectedColumns"] == [
        "params.`channel_mults`", "params.`lr`", "params.`n`", "metrics.`fid_768`", "metrics.`kid_768`",
    ]  # fmt: skip
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_links_are_printed_the_latest_first(filled, capsys):
    assert ui.main(filled, "http://127.0.0.1:5000") == 0
    said = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in said] == ["flowers", "digits"]
    assert all(
        "http://127.0.0.1:5000/#/experiments/" in line and "workflowType=machine_learning" in line for line in said
    )


def test_without_runs_it_says_so(place, capsys):
    assert ui.main(place, "http://127.0.0.1:5000") == 2
    assert "make some with: make run" in capsys.readouterr().err


def test_a_place_that_is_none_is_one_line(capsys):
    assert ui.main("nonsense", "http://127.0.0.1:5000") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@contextmanager
def healthy():
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words): ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_browser_is_opened_where_there_is_one(filled, monkeypatch):
    opened = []
    monkeypatch.setattr(ui.webbrowser, "open", opened.append)
    with healthy() as server:
        for display in ("", ":0"):
            monkeypatch.setenv("DISPLAY", display)
            monkeypatch.setenv("WAYLAND_DISPLAY", "")
            monkeypatch.setattr(ui.sys, "platform", "linux")
            assert ui.main(filled, server, "--open") == 0
    assert len(opened) == 1, "not over a bare terminal"
    assert opened[0].startswith(f"{server}/#/experiments/")
