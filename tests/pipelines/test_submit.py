"""`make submit`'s program against a stub of the API: what is checked, what is sent, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components import IMAGE
from ddpm.errors import Outage
from ddpm.plan import parameter_names
from ddpm.presets import load_preset
from pipelines.submit import ended

ROOT = Path(__file__).parent.parent.parent
PLACES = {
    "DDPM_STORE": "s3://bucket/ddpm", "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "DDPM_STUDY_STORAGE": "postgresql+psycopg://optuna@postgres/optuna",
}  # fmt: skip


def submit(endpoint, *more, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KFP_", "DDPM_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "pipelines.submit", "--endpoint", endpoint, "--poll-seconds", "0.05", *more],
        cwd=ROOT, env={**kept, **PLACES, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_what_is_sent_is_the_compiled_file_with_the_presets_parameters(kubeflow):
    server = kubeflow("PENDING", "RUNNING", "SUCCEEDED")
    found = submit(server.url, "--preset", "flowers102", "--run-name", "r1", "lr_high=5e-4", "search_workers=3")
    assert found.returncode == 0, found.stderr
    sent = server.runs[0]
    assert sent["display_name"] == "r1"
    assert sent["experiment_id"] == "experiment-1"
    assert server.experiments[0]["display_name"] == "flowers102"
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "ddpm.yaml").read_text()))
    sent_spec = sent["pipeline_spec"].get("pipeline_spec", sent["pipeline_spec"])
    assert sent_spec["deploymentSpec"] == spec["deploymentSpec"]
    assert sent_spec["root"]["inputDefinitions"] == spec["root"]["inputDefinitions"]
    parameters = sent["runtime_config"]["parameters"]
    assert set(parameters) == {*parameter_names(), "search_workers"}
    assert parameters["search_workers"] == [0, 1, 2]
    assert (parameters["lr_high"], parameters["store"]) == (5e-4, "s3://bucket/ddpm")
    for name, value in load_preset("flowers102").items():
        if name != "lr_high":
            assert parameters[name] == value, name
    assert "run  succeeded" in found.stderr
    assert f"{server.url}/#/runs/details/run-1" in found.stderr


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "SKIPPED"])
def test_only_success_is_success(kubeflow, state):
    found = submit(kubeflow("RUNNING", state).url)
    assert found.returncode == 1
    assert f"ended: {state}" in found.stderr


def test_a_server_that_stumbles_is_asked_again(kubeflow):
    assert submit(kubeflow("RUNNING", "BROKEN", "BROKEN", "SUCCEEDED").url).returncode == 0


def test_another_image_is_in_every_task(kubeflow):
    server = kubeflow()
    image = "127.0.0.1:1/ddpm@sha256:" + "0" * 64
    assert submit(server.url, "--image", image).returncode == 0
    text = str(server.runs[0]["pipeline_spec"])
    assert image in text
    assert IMAGE not in text


def test_what_the_tasks_ask_of_a_node_is_compiled_in(kubeflow):
    server = kubeflow()
    assert submit(server.url, "--cluster", "gpu-4").returncode == 0
    spec = server.runs[0]["pipeline_spec"]["pipeline_spec"]
    train = spec["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert train["resources"]["accelerator"]["resourceCount"] == "4"
    assert {"name": "DDPM_PROCESSES", "value": "4"} in train["env"]
    refused = submit(kubeflow().url, "--cluster", "gpu-40")
    assert refused.returncode == 2
    assert refused.stderr.startswith("CLUSTER: there is neither a file 'gpu-40'")


def test_a_token_is_sent_and_never_shown(kubeflow):
    server = kubeflow("SUCCEEDED", token="very-secret")
    without = submit(server.url)
    assert without.returncode == 1
    assert "asks for a token; export KFP_TOKEN" in without.stderr
    with_it = submit(server.url, KFP_TOKEN="very-secret")
    assert with_it.returncode == 0
    assert "very-secret" not in with_it.stderr + with_it.stdout
    assert "refused KFP_TOKEN" in submit(server.url, KFP_TOKEN="wrong").stderr


def test_what_the_server_refuses_is_said_in_its_words(kubeflow):
    found = submit(kubeflow(refuse=(400, {"message": "Validation failed: no such node\nstack"})).url)
    assert found.returncode == 2
    assert (
        found.stderr.strip().splitlines()[-1]
        == "the server refused the run: Validation failed: no such node (status 400)"
    )


@pytest.mark.parametrize(
    ("more", "environment", "words"),
    [
        (["--preset", "rainbow"], {}, "preset: there is none named 'rainbow'"),
        (["epochs=0"], {}, "epochs: 0 will not do"),
        (["nonsense=1"], {}, "'nonsense' is not a setting"),
        (["--data", "/my/pictures"], {}, "a folder of this machine"),
        (["--poll-seconds", "nan"], {}, "'nan' will not do; it must be above 0 and at most 3600 seconds"),
        (["weights=/my/weights.pth"], {}, "weights: /my/weights.pth is a file of this machine"),
        (["init_from=/my/training"], {}, "init_from: /my/training is a file of this machine; give a URI, as in s3://"),
        ([], {"KFP_TOKEN": "sec\u00a0ret"}, "KFP_TOKEN: it holds characters that no token has"),
        ([], {"DDPM_STORE": ""}, "store: missing; export DDPM_STORE=s3://BUCKET/PREFIX"),
        ([], {"DDPM_STORE": "/var/store"}, "store: /var/store cannot be reached from a cluster"),
        ([], {"MLFLOW_TRACKING_URI": "sqlite:///x"}, "tracking_uri: sqlite:///x cannot be reached"),
        ([], {"DDPM_STUDY_STORAGE": "journal.log"}, "study_storage: journal.log cannot be reached"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_sent(kubeflow, more, environment, words):
    server = kubeflow()
    found = submit(server.url, *more, **environment)
    assert found.returncode == 2
    assert words in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert server.calls == []


def test_an_outage_of_a_place_is_no_wrong_input_and_no_bug(capsys):
    def away():
        raise Outage("the store does not answer; look whether it is up")

    assert ended(away) == 1
    assert capsys.readouterr().err == "the store does not answer; look whether it is up\n"


@pytest.mark.parametrize(
    ("endpoint", "status", "words"),
    [
        ("http://127.0.0.1:9", 1, "no server answers"),
        ("", 2, "endpoint: ''"),
        ("pipelines:80", 2, "endpoint: 'pipelines:80'"),
        ("http://pipelines:port", 2, "endpoint: 'http://pipelines:port' will not do"),
        ("http://[bad", 2, "endpoint: 'http://[bad' will not do"),
    ],
)
def test_no_server(endpoint, status, words):
    found = submit(endpoint)
    assert found.returncode == status
    assert words in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_kfps_own_command_submits_the_file_bare(kubeflow):
    """`kfp run submit` with two exported variables, as the README says."""
    server = kubeflow()
    environment = {
        **os.environ, "KFP_ENDPOINT": server.url, "KFP_RUN_CREATE_EXPERIMENT_NAME": "flowers102",
        "KFP_RUN_CREATE_PACKAGE_FILE": str(ROOT / "pipelines" / "ddpm.yaml"),
    }  # fmt: skip
    kfp = Path(sys.executable).parent / "kfp"
    places = ["store=s3://b/p", "tracking_uri=http://m", "study_storage=postgresql+psycopg://o@p/o"]
    found = subprocess.run([kfp, "run", "submit"], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    named = [
        "run",
        "create",
        "-e",
        "flowers102",
        "-r",
        "r2",
        "-f",
        str(ROOT / "pipelines" / "ddpm.yaml"),
        *places,
        "source=flowers102",
    ]
    found = subprocess.run([kfp, *named], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert server.runs[1]["runtime_config"]["parameters"]["source"] == "flowers102"
