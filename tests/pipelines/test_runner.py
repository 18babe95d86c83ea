"""The process that runs the compiled pipeline: that it knows the kfp which it changes."""

import inspect
import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import kfp
import pytest
from kfp.local import docker_task_handler, subprocess_task_handler

from components.configure import configure
from ddpm.progress import EVENT_MARK
from pipelines import runner
from pipelines.runner import KFP, SECOND_PLAN, Job, run_pipeline

ROOT = Path(__file__).parents[2]


def test_its_kfp_is_the_pinned_and_installed_one():
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["pipeline"]
    assert f"kfp=={KFP}" in pinned and kfp.__version__ == KFP


def test_another_kfp_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kfp, "__version__", "9.9.9")
    assert not run_pipeline(Job(str(tmp_path / "none.yaml"), {}, str(tmp_path), "subprocess", "run", 1))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith(EVENT_MARK)
    assert '"status": 2' in said and f"version 9.9.9 is installed, and its tasks are started as in {KFP}" in said


@pytest.mark.parametrize(
    ("name", "inputs", "step"),
    [
        ("train", {"artifacts": {"plan": {"artifacts": [{"uri": "/root/configure/plan"}]}}}, "train"),
        ("train", {"artifacts": {"plan": {"artifacts": [{"uri": "/root/configure/second"}]}}}, "transfer-train"),
        ("search", {"parameterValues": {"worker": 3.0}, "artifacts": {}}, "search-3"),
        ("configure", {"parameterValues": {}}, "configure"),
    ],
)
def test_a_step_is_called_by_what_it_works_for(name, inputs, step):
    assert SECOND_PLAN in inspect.signature(configure.python_func).parameters
    command = ["sh", "--executor_input", json.dumps({"inputs": inputs}), "--function_to_execute", name]
    assert runner.step_name(command) == step


@pytest.mark.parametrize("runs", ["subprocess", "docker"])
def test_of_a_cluster_s_gpus_and_of_an_image_only_what_is_so_here_is_told_to_a_task(tmp_path, monkeypatch, runs):
    """`make compile CLUSTER=gpu-4` writes the file that `make run` runs; a process runs in no image."""
    handlers = (subprocess_task_handler.SubprocessTaskHandler, docker_task_handler.DockerTaskHandler)
    for handler in handlers:
        monkeypatch.setattr(handler, "run", handler.run)  # which puts back what is installed
    seen = []
    monkeypatch.setattr(runner, "run_task", lambda command, environment, image, job: seen.append(environment) or True)
    runner.install(Job(str(tmp_path / "none.yaml"), {}, str(tmp_path), runs, "run", 1))
    for handler in handlers:
        told = {"DDPM_PROCESSES": "4", "DDPM_SEARCH_PROCESSES": "4", "DDPM_TRAINING_PROCESSES": "16"}
        told |= {"DDPM_TRAINJOB": "{}", "DDPM_IMAGE": "ddpm:1", "KEPT": "x"}
        handler.run(SimpleNamespace(full_command=[], image="", env_vars=told))
    assert seen == [{"KEPT": "x", **({"DDPM_IMAGE": "ddpm:1"} if runs == "docker" else {})}] * 2
