"""A tiny run whose step fails once."""

import json
import os

import pytest
import yaml
from looked_over import about

from components import IMAGE
from pipelines.doctor import __main__ as main
from pipelines.doctor.finding import OK, WRONG
from pipelines.doctor.probe import package


@pytest.mark.parametrize(
    ("states", "left", "state", "words"),
    [
        (("RUNNING", "SUCCEEDED"), False, OK, "a step that failed was tried again, and tasks reach the store"),
        (("FAILED",), True, WRONG, "a step that failed was not tried again; let Argo's retryPolicy be Always"),
        (("FAILED",), False, WRONG, "its step did not get as far as the store; its log says why"),
        (("EXPIRED",), False, WRONG, "probe run: who are you?"),
    ],
)
def test_a_probe_run(doctor, kubeflow, tmp_path, states, left, state, words):
    os.environ["DDPM_STORE"] = str(tmp_path / "store")
    server = kubeflow(*states, version="2.17.0")
    server.on_run = lambda given: leave(given) if left else None
    _, found = doctor("--endpoint", server.url, "--probe", "--image", "127.0.0.1:1/ddpm:1")
    ((is_state, is_words),) = about(found, "probe run")
    assert is_state == state and words in is_words
    (sent,) = server.runs
    assert "127.0.0.1:1/ddpm:1" in json.dumps(sent["pipeline_spec"])
    assert not [path for path in tmp_path.rglob("doctor/*") if path.is_file()], "nothing is left in the store"


def leave(given):
    """What the step's first attempt does."""
    from ddpm.store import open_store

    assert open_store(given["store"]).create(given["key"], b"")


def test_the_probe_s_image_is_the_compiled_file_s(doctor, kubeflow, monkeypatch, tmp_path):
    compiled = tmp_path / "ddpm.yaml"
    compiled.write_text(main.PACKAGE.read_text().replace(f"image: {IMAGE}", "image: 127.0.0.1:1/mine:2"))
    monkeypatch.setattr(main, "PACKAGE", compiled)
    server = kubeflow("SUCCEEDED", version="2.17.0")
    _, found = doctor("--endpoint", server.url, "--probe")
    assert "127.0.0.1:1/mine:2" in json.dumps(server.runs[0]["pipeline_spec"])
    assert [words.partition(": whether")[0] for _, words in about(found, "image")] == ["image 127.0.0.1:1/mine:2"]


def test_a_probe_whose_store_cannot_be_seen_from_here_says_both(doctor, kubeflow):
    server = kubeflow("FAILED", version="2.17.0")
    _, found = doctor("--endpoint", server.url, "--probe")
    assert "which cannot be told from this machine; its log says which" in about(found, "probe run")[0][1]


def test_the_probe_s_step_fails_once(tmp_path):
    """Its own code, twice, as two attempts at a task do."""
    from pipelines.doctor.probe import fail_once

    with pytest.raises(SystemExit) as ended:
        fail_once.python_func(store=str(tmp_path), key="doctor/a")
    assert ended.value.code == 1
    fail_once.python_func(store=str(tmp_path), key="doctor/a")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_probe_s_pod_is_as_the_small_steps_pods_are():
    spec, platform = yaml.safe_load_all(package(IMAGE, ""))
    (executor,) = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["resources"]["resourceMemoryLimit"] == "16Gi"
    (placed,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert placed["securityContext"]["runAsNonRoot"] and placed["secretAsEnv"] and placed["configMapAsEnv"]
    (task,) = spec["root"]["dag"]["tasks"].values()
    assert task["retryPolicy"]["maxRetryCount"] == 1
