"""What a registered version holds, and how a reference becomes a model."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bench.servers import free_port, running
from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.registry.card import UNKNOWN
from ddpm.registry.version import figures, register, resolve
from ddpm.steps.sample import sample
from ddpm.tracking import open_client, open_experiment
from ddpm.workplace import Workplace


def test_a_version_holds_safetensors_settings_and_figures_and_no_pickle(checkpoints, place, report_of):
    report = report_of(checkpoints[0])
    assert register(place, "m", checkpoints[0], report, None, {"run_name": "r"})["version"] == 1
    files = [path for path in Path(place.removeprefix("sqlite:///")).parent.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"weights.safetensors", "settings.json", "report.json", "MLmodel", "pyfunc.py"} <= names
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    assert figures(place, "m", 1) == report
    settings = json.loads(next(path for path in files if path.name == "settings.json").read_text())["settings"]
    assert (settings["channel_mults"], settings["lr"], settings["epochs"]) == ("1-2", 1e-3, 1)
    version = open_client(place).get_model_version("m", "1")
    assert version.tags["metric"] == "fid_classifier"
    assert (version.tags["fid"], version.tags["run_name"]) == ("2", "r")


def test_the_same_weights_are_one_version(checkpoints, place, report_of):
    found = [register(place, "m", uri, report_of(uri), None, {}) for uri in (*checkpoints, *checkpoints)]
    assert [(facts["version"], facts["new"]) for facts in found] == [(1, True), (2, True), (1, False), (2, False)]


def test_references_give_the_same_pictures_as_the_checkpoint(checkpoints, place, report_of, tmp_path):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    open_client(place).set_registered_model_alias("m", "champion", "1")
    drawn = []
    for number, reference in enumerate([checkpoints[0], "models:/m/1", "models:/m@champion"]):
        facts = sample(
            Workplace(Quiet(), "", place),
            reference,
            3,
            7,
            str(tmp_path / str(number)),
            sampler="ddim",
            sampling_steps=5,
        )
        drawn.append([Path(file).read_bytes() for file in [*facts["files"], facts["grid"]]])
    assert drawn[0] == drawn[1] == drawn[2]
    found = resolve("models:/m@champion", place)
    assert (found.drawing.sampler, found.drawing.sampling_steps, found.origin.reference) == ("ddim", 5, "models:/m/1")


def test_what_is_not_there_is_said_with_what_is(checkpoints, place, report_of):
    with pytest.raises(WrongInput, match="no model is registered"):
        resolve("models:/m@champion", place)
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    with pytest.raises(WrongInput, match="m has versions 1"):
        resolve("models:/m@champion", place)
    with pytest.raises(WrongInput, match="m has versions 1"):
        resolve("models:/m/9", place)
    with pytest.raises(WrongInput, match="the registered models are m"):
        resolve("models:/other/1", place)
    with pytest.raises(WrongInput, match="no reference"):
        resolve("models:/m", place)
    with pytest.raises(WrongInput, match="no checkpoint"):
        resolve("/no/such/folder", place)


def test_another_checkpoints_report_is_refused(checkpoints, place, report_of):
    with pytest.raises(WrongInput, match="evaluate this checkpoint"):
        register(place, "m", checkpoints[0], report_of(checkpoints[1]), None, {})


@pytest.mark.parametrize("report", [{}, {"protocol": None}, {"fid": 1}, []])
def test_what_is_no_report_is_refused(checkpoints, place, report):
    with pytest.raises(WrongInput, match="no report with figures and a protocol"):
        register(place, "m", checkpoints[0], report, None, {})


def test_flipped_bytes_are_refused(checkpoints, place, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    weights = next(Path(place.removeprefix("sqlite:///")).parent.rglob("artifacts/weights.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(WrongInput, match="damaged"):
        resolve("models:/m/1", place)


def test_a_model_that_is_not_ours_is_refused(place, tmp_path):
    client = open_client(place)
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "model.pkl").write_bytes(b"\x80\x04.")
    client.create_registered_model("foreign")
    client.create_model_version("foreign", folder.as_uri())
    with pytest.raises(WrongInput, match="not registered by ddpm"):
        resolve("models:/foreign/1", place)


def test_mlflows_own_server_draws_the_same_pictures_and_refuses_in_one_line(checkpoints, place, report_of, tmp_path):
    """`mlflow models serve` itself, with the version's own copy of pyfunc.py, in a process that may not unpickle."""
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    open_client(place).set_registered_model_alias("m", "champion", "1")
    port = free_port()
    command = ["serve", "-m", "models:/m@champion", "--env-manager", "local", "--port", str(port), "--workers", "1"]
    address = f"http://127.0.0.1:{port}"

    def ask(*rows):
        body = json.dumps({"dataframe_records": rows}).encode()
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, json.load(problem)

    with running([sys.executable, "-m", "mlflow", "models", *command], f"{address}/ping", place, str(tmp_path), 1):
        assert ask({"n": 2, "seed": 7}, {"n": 1, "seed": 9}) == (200, {"predictions": drawn(place, tmp_path)})
        status, told = ask({"n": 1, "sed": 5})
        assert (status, told["message"]) == (400, "'sed' is no field; a row has n and, if you like, seed")
        assert ask(*[{"n": 1}] * 1025)[0] == 400


def drawn(place, tmp_path):
    """What a server of MLflow's answers for the pictures 7 and 8, and 9: those of `ddpm sample`."""
    facts = sample(Workplace(Quiet(), "", place), "models:/m/1", 3, 7, str(tmp_path / "out"))
    expected = [base64.b64encode(Path(file).read_bytes()).decode() for file in facts["files"]]
    return [{"seed": 7, "images_png_b64": expected[:2]}, {"seed": 9, "images_png_b64": expected[2:]}]


def test_a_version_of_the_first_release_draws_the_same_pictures_by_its_own_code(
    checkpoints, place, report_of, tmp_path, monkeypatch
):
    """A version carries its release's own code for good, which calls this package by the names of then."""
    monkeypatch.setattr("ddpm.registry.version.PYFUNC", Path(__file__).parent / "release_0_1" / "pyfunc.py")
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    code = (
        "import json, mlflow, pandas, sys\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/m/1')\n"
        "found = model.predict(pandas.DataFrame({'n': [2, 1], 'seed': [7, 9]}))\n"
        "print('@' + found.to_json(orient='records'))\n"
    )
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    ran = subprocess.run(
        [sys.executable, "-c", code, place], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("@"))[1:])
    assert rows == drawn(place, tmp_path)


def test_registering_leaves_no_temporary_folders(checkpoints, place, report_of, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    resolve("models:/m/1", place)
    assert [path.name for path in (tmp_path / "t").iterdir() if path.name.startswith("ddpm")] == []


@pytest.mark.parametrize("image", ["", "registry.example/ddpm@sha256:0"], ids=["no-container", "container"])
def test_mlflows_pages_say_by_themselves_what_a_version_is(checkpoints, place, report_of, monkeypatch, image):
    """Its card as the description, tags to look for it by, and a logged model with figures linked to the data set."""
    monkeypatch.setenv("DDPM_IMAGE", image)
    uri = "/somewhere/datasets/digits/abc.json"
    tags = {"run_name": "r", "study": "r", "trial": "3", "dataset_uri": uri, "dataset_digest": "abc"}
    report = {**report_of(checkpoints[0]), "precision": 0.5, "recall": 0.25, "intervals": {"fid": [1.5, 2.5]}}
    register(place, "m", checkpoints[0], report, None, tags)
    client = open_client(place)
    version = client.get_model_version("m", "1")
    for word in (
        "# A diffusion model of 8×8 pictures",
        "| fid_classifier (n=64) | 2 | 1.5 to 2.5 | 0.1 |",
        "## Copying",
        "## Intended use",
        "- trial: 3",
        "name=m&version=1&path=artifacts/sample.png",
    ):
        assert word in version.description
    assert len(version.description) <= 5000
    found = {
        name: version.tags[name]
        for name in ("study", "trial", "dataset_name", "image_size", "channel_mults", "sampler", "precision")
    }
    assert found == {
        "study": "r", "trial": "3", "dataset_name": "digits", "image_size": "8", "channel_mults": "1-2", "sampler": "ddim", "precision": "0.5",
    }  # fmt: skip
    assert version.tags.get("image", "") == image and f"- image: {image or UNKNOWN}\n" in version.description
    logged = client.get_logged_model(version.tags["logged_model"])
    assert {metric.key: (metric.value, metric.dataset_name, metric.dataset_digest) for metric in logged.metrics} == {
        "fid_classifier": (2.0, "digits", "abc"), "kid_classifier": (0.2, "digits", "abc"),
        "precision": (0.5, "digits", "abc"), "recall": (0.25, "digits", "abc"),
    }  # fmt: skip
    assert logged.params["channel_mults"] == "1-2"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "m", "version": 1}]


def test_a_registration_that_was_stopped_leaves_one_logged_model(checkpoints, place, report_of, monkeypatch):
    client = open_client(place)
    experiment = open_experiment(client, place, "stopped")  # experiment 0 keeps its files in the working folder
    run = client.create_run(experiment).info.run_id
    with monkeypatch.context() as stopped:
        stopped.setattr("mlflow.MlflowClient.create_model_version", lambda *given, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            register(place, "m", checkpoints[0], report_of(checkpoints[0]), run, {})
    assert register(place, "m", checkpoints[0], report_of(checkpoints[0]), run, {})["version"] == 1
    assert len(client.search_logged_models([experiment])) == 1
