"""A run every week: the call that the docs show, as it stands there, and `make schedule`, against a stub of the API."""

import io
import json
import os
import re
import signal
import textwrap
from pathlib import Path
from types import SimpleNamespace

import boto3
import numpy as np
import pytest
from PIL import Image

from components.configure import configure
from ddpm.data.dataset import open_dataset
from ddpm.data.sources import parse
from ddpm.plan import Plan
from ddpm.presets import load_preset
from ddpm.registry.lineage import shared
from ddpm.steps import ingest
from pipelines import schedule
from pipelines.submit import spec_of

ROOT = Path(__file__).parent.parent.parent
PLACES = {
    "DDPM_STORE": "s3://bucket/ddpm", "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "DDPM_STUDY_STORAGE": "postgresql+psycopg://optuna@postgres/optuna",
}  # fmt: skip
HOST = "http://ml-pipeline:8888"
MONDAYS = "0 0 3 * * 1"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("KFP_", "DDPM_", "MLFLOW_TRACKING", "AWS_"))]:
        monkeypatch.delenv(name)
    for name, value in PLACES.items():
        monkeypatch.setenv(name, value)


def declared():
    spec = spec_of((ROOT / "pipelines" / "ddpm.yaml").read_text())
    return spec, spec["root"]["inputDefinitions"]["parameters"]


def documented():
    """The Python of the docs' chapter."""
    page = (ROOT / "docs" / "operations.md").read_text()
    chapter = page[page.index("## A run every week") :]
    (code,) = re.findall(r"^    import kfp\n(?:(?:    .*)?\n)+", chapter, re.MULTILINE)
    return textwrap.dedent(code)


@pytest.fixture
def scheduled(kubeflow, monkeypatch):
    """What arrives where the docs' call is made."""
    server, code = kubeflow(), documented()
    assert code.count(HOST) == 1
    monkeypatch.chdir(ROOT)
    exec(compile(code.replace(HOST, server.url), "docs/operations.md", "exec"), {})
    (made,) = server.schedules
    return server, made


def test_the_documented_call_is_one_that_the_server_takes(scheduled):
    server, made = scheduled
    spec, parameters = declared()
    assert made["pipeline_spec"]["pipeline_spec"]["deploymentSpec"] == spec["deploymentSpec"]
    assert made["trigger"] == {"cron_schedule": {"cron": schedule.check_cron(MONDAYS)}}
    assert (made["mode"], made["max_concurrency"], made["no_catchup"]) == ("ENABLE", 1, True)
    assert [one["experiment_id"] for one in server.experiments if one["display_name"] == "flowers"] == [
        made["experiment_id"]
    ]
    sent = made["runtime_config"]["parameters"]
    kinds = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float, "BOOLEAN": bool}
    for name, value in sent.items():
        kind = kinds[parameters[name]["parameterType"]]
        assert type(value) is kind or (kind is float and type(value) is int), name
    preset = load_preset("flowers102")
    assert {name for name in preset if sent.get(name) != preset[name]} == {"source", "dataset_name", "model_name"}
    assert set(parameters) - set(sent) == {"run_name", "search_workers"}, "what is not given is the digits preset's"
    assert parameters["run_name"]["defaultValue"] == "", "a name would have the second run carry the first one on"


def test_a_parameter_of_another_type_is_noticed_by_the_stub_as_by_the_server(kubeflow, monkeypatch):
    import kfp_server_api

    server = kubeflow()
    code = documented().replace(HOST, server.url).replace("params=settings", 'params={"trials": "12"}')
    monkeypatch.chdir(ROOT)
    with pytest.raises(kfp_server_api.ApiException, match="invalid pipeline job inputs: trials"):
        exec(code, {})
    assert server.schedules == []


def test_its_runs_pick_up_what_has_come_and_meet_the_champion(scheduled, moto, tmp_path, monkeypatch, empty_database):
    """Two runs of the schedule, as Kubeflow starts them, the second after more pictures have come to the bucket."""
    for name, value in {"ENDPOINT_URL": moto, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"DDPM_S3_{name}", value)
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m.db").write_bytes(Path(empty_database).read_bytes())
    handler = signal.getsignal(signal.SIGTERM)
    sent = scheduled[1]["runtime_config"]["parameters"]
    here = {
        "store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/m.db",
        "study_storage": str(tmp_path / "journal"), "extractor": "classifier",
    }  # fmt: skip
    plans, sets = [], []
    for run_id, pictures in (("first", range(30)), ("second", range(25, 40))):
        upload(moto, sent["source"], pictures)
        plan, note, second, dataset = (SimpleNamespace(path=str(tmp_path / name)) for name in "pnsd")
        configure.python_func(**sent | here, run_name="", run_id=run_id, plan=plan, note=note, second=second)
        ingest.in_pipeline(plan.path, output=dataset.path)
        plans.append(Plan.from_json(json.dumps(json.loads(Path(plan.path).read_text())["plan"])))
        sets.append(open_dataset(json.loads(Path(dataset.path).read_text())["uri"]))
    signal.signal(signal.SIGTERM, handler)
    assert [plan.run_name for plan in plans] == ["first", "second"]
    assert {(plan.ingest.dataset_name, plan.registry.model_name) for plan in plans} == {("flowers", "ddpm-flowers")}
    assert [len(one.train) + len(one.held_out) for one in sets] == [30, 40]
    assert {one.name for one in sets} == {"flowers"} and len({one.digest for one in sets}) == 2
    assert shared(*sets).share >= plans[1].evaluate.lineage_gate, "the champion's data is in it"


def upload(moto, source, numbers):
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    client.create_bucket(Bucket=bucket)
    for number in numbers:
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(data := io.BytesIO(), "png")
        client.put_object(Bucket=bucket, Key=f"{prefix}/{number:03d}.png", Body=data.getvalue())


# -- make schedule -----------------------------------------------------------------------------------------------------


@pytest.fixture
def make_schedule(kubeflow, capsys):
    """Its exit status, and what was told."""

    def run(server, *more, cron=MONDAYS):
        status = schedule.main(["--endpoint", server.url, "--cron", cron, *more])
        return status, capsys.readouterr().err.splitlines()

    return run


def test_one_command_sends_what_submit_would_but_for_the_run_s_name(make_schedule, kubeflow):
    server, image, name = kubeflow(), "127.0.0.1:1/ddpm@sha256:" + "0" * 64, parse("s3://bucket/roses").name
    status, told = make_schedule(
        server, "--data", "s3://bucket/roses", "--image", image, "trials=3", "search_workers=4"
    )
    assert (status, told[-1]) == (0, f"schedule {name} is {server.url}/#/recurringrun/details/schedule-0")
    (made,) = server.schedules
    sent = made["runtime_config"]["parameters"]
    assert set(sent) == set(declared()[1]) - {"run_name"}
    expected = load_preset("flowers102") | {
        "source": "s3://bucket/roses", "dataset_name": name, "model_name": f"ddpm-{name}", "trials": 3,
        "search_workers": [0, 1, 2, 3], "store": "s3://bucket/ddpm",
    }  # fmt: skip
    assert {name: sent[name] for name in expected} == expected
    assert made["trigger"] == {"cron_schedule": {"cron": MONDAYS}}
    assert (made["display_name"], made["max_concurrency"], made["no_catchup"]) == (name, 1, True)
    assert image in str(made["pipeline_spec"]) and server.experiments[0]["display_name"] == name


def test_a_schedule_that_is_there_is_not_doubled(make_schedule, kubeflow):
    server = kubeflow()
    assert make_schedule(server)[0] == 0
    status, told = make_schedule(server, cron="@daily")
    assert status == 2
    assert told[-1] == (
        "schedule: there is one named 'flowers102' already, whose runs would go on beside; take it away (kfp recurring-run delete schedule-0), or give another SCHEDULE_NAME"
    )
    assert make_schedule(server, "--name", "daily", cron="@daily")[0] == 0
    assert [one["display_name"] for one in server.schedules] == ["flowers102", "daily"]


@pytest.mark.parametrize(
    ("more", "cron", "words"),
    [
        ([], "", "CRON: '' will not do; write second, minute, hour, day, month, weekday, as in CRON='0 0 3 * * 1'"),
        ([], "0 3 * * 1", "CRON: '0 3 * * 1' has five fields, and Kubeflow takes the first of them for the seconds; write CRON='0 0 3 * * 1'"),
        ([], "0 0 3 * * 1;", "CRON: '0 0 3 * * 1;' will not do"),
        ([], "@fortnightly", "CRON: '@fortnightly' will not do"),
        (["--run-name", "r1"], MONDAYS, "RUN_NAME: the second run of that name would carry the first one on; leave it out"),
        (["--data", "/my/pictures"], MONDAYS, "a folder of this machine"),
        (["epochs=0"], MONDAYS, "epochs: 0 will not do"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_nobody_is_asked(make_schedule, kubeflow, more, cron, words):
    server = kubeflow()
    status, told = make_schedule(server, *more, cron=cron)
    assert status == 2 and len(told) == 1 and words in told[0]
    assert server.calls == []


def test_what_the_server_refuses_is_said_in_its_words(make_schedule, kubeflow):
    status, told = make_schedule(kubeflow(refuse=(400, {"message": "no such minute\nstack"})), cron="0 99 3 * * 1")
    assert (status, told[-1]) == (2, "the server refused the schedule: no such minute (status 400)")
