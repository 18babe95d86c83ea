"""No place is kept with a password, and none is shown."""

import json
import re

import pytest

from ddpm.cli import main
from ddpm.credentials import holds_password, masked, masked_url, without_password
from ddpm.errors import Refused, WrongInput
from ddpm.fields import shown
from ddpm.plan import Plan
from ddpm.run import Run
from ddpm.settings import IngestSettings, JudgeSettings
from pipelines import local, schedule, submit

SECRET = "tr0ub4dor"
HERE = {"run_name": "r", "source": "digits", "image_size": 8}


@pytest.mark.parametrize(
    ("url", "shown", "kept"),
    [
        (f"postgresql+psycopg://optuna:{SECRET}@db/optuna", "postgresql+psycopg://optuna:…@db/optuna", "postgresql+psycopg://optuna@db/optuna"),
        (f"postgresql://u:{SECRET}@x/{SECRET}@db:5432/d", "postgresql://u:…@db:5432/d", "postgresql://u@db:5432/d"),
        (f"postgresql://u:1234/{SECRET}@db/d", "postgresql://u:…@db/d", "postgresql://u@db/d"),
        (f"postgresql://db/d?user=u&password={SECRET}&sslmode=require", "postgresql://db/d?user=u&password=…&sslmode=require", "postgresql://db/d?user=u&sslmode=require"),
        (f"http://ann:{SECRET}@127.0.0.1:9/x", "http://ann:…@127.0.0.1:9/x", "http://127.0.0.1:9/x"),
        (f"https://{SECRET}@mlflow", "https://…@mlflow", "https://mlflow"),
        (f"HTTPS://{SECRET}@mlflow", "HTTPS://…@mlflow", "HTTPS://mlflow"),
        (f"Http://ann:{SECRET}@h:5000/x", "Http://ann:…@h:5000/x", "Http://h:5000/x"),
        (f"mssql+pyodbc:///?odbc_connect=PWD%3D{SECRET}", "mssql+pyodbc:///?odbc_connect=…", "mssql+pyodbc:///"),
        (f"s3://AKIA:{SECRET}@bucket/x", "s3://AKIA:…@bucket/x", "s3://AKIA@bucket/x"),
        (f"postgresql:/u:{SECRET}@h/d", "postgresql:/u:…@h/d", "postgresql:/u@h/d"),
        (f"postgresql+psycopg:u:{SECRET}@h/d", "postgresql+psycopg:u:…@h/d", "postgresql+psycopg:u@h/d"),
        (f"https:/ann:{SECRET}@h:80/d", "https:/ann:…@h:80/d", "https:/ann@h:80/d"),
        (f"https://h/x?X-Amz-Signature={SECRET}", "https://h/x?X-Amz-Signature=…", "https://h/x"),
        (f"https://h/x#access_token={SECRET}&id=7", "https://h/x#access_token=…&id=7", "https://h/x#id=7"),
    ],
)  # fmt: skip
def test_a_password_is_masked_wherever_it_stands(url, shown, kept):
    assert masked(url) == shown
    assert masked(f"cannot reach '{url}' (refused), nor {url}") == f"cannot reach '{shown}' (refused), nor {shown}"
    assert holds_password(url)
    assert without_password(url) == kept
    assert not holds_password(kept)
    for error in (WrongInput, Refused):
        assert SECRET not in str(error(f"at {url}: no"))


def test_a_password_may_hold_a_space():
    url = f"postgresql://u:a {SECRET}@db/d"
    assert holds_password(url)
    assert masked_url(url) == "postgresql://u:…@db/d"
    assert without_password(url) == "postgresql://u@db/d"


def test_a_wrong_value_shows_no_password_that_its_end_would_have_told():
    assert SECRET not in shown(f"https://u:{SECRET}{'x' * 200}@h")


@pytest.mark.parametrize(
    "name",
    ["secret_key", "aws_secret_access_key", "private-key", "pass", "pass_word", "jwt", "hmac", "subscription-key"],
)
@pytest.mark.parametrize("sign", "?&;#")
def test_a_password_has_many_names(name, sign):
    assert masked(f"mysql://h/d?x=1{sign}{name}={SECRET}") == f"mysql://h/d?x=1{sign}{name}=…"


def test_a_drivers_own_words_are_masked_too():
    assert masked(f"host=h user=u password={SECRET} dbname=d") == "host=h user=u password=… dbname=d"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://optuna@db:5432/optuna", "http://127.0.0.1:5000/api/models:/m@champion", "http://[::1]:5000/a@b",
        "sqlite:////a/b@c:d.db", "s3://bucket/a:b@c", "file:///a:b@c", "/a/b:c@d", "models:/m@champion", "http://h:5000?x=a@b", "http:/h:80/a@b",
        "reg:5000/a:b@sha256", "C:/a/b:c@d",
    ],
)  # fmt: skip
def test_what_is_no_password_stays(url):
    assert masked(url) == without_password(url) == url
    assert not holds_password(url)


def places(folder, **changes):
    own = {
        "store": str(folder / "store"),
        "tracking_uri": f"sqlite:///{folder}/m.db",
        "study_storage": str(folder / "j"),
    }
    return {**HERE, **own, **changes}


@pytest.mark.parametrize(
    ("name", "url", "instead"),
    [
        ("study_storage", f"postgresql+psycopg://optuna:{SECRET}@db/optuna", "$PGPASSWORD"),
        ("tracking_uri", f"http://ann:{SECRET}@h:5000", "$MLFLOW_TRACKING_PASSWORD"),
        ("tracking_uri", f"postgresql://u:{SECRET}@h/d", "$PGPASSWORD"),
        ("store", f"s3://AKIA:{SECRET}@bucket", "$AWS_SECRET_ACCESS_KEY"),
        ("source", f"s3://AKIA:{SECRET}@bucket", "$AWS_SECRET_ACCESS_KEY"),
        ("weights", f"https://ann:{SECRET}@h/w.pth", "write https://h/w.pth"),
        ("judge_other", f"s3://AKIA:{SECRET}@b/datasets/x/{'0' * 64}.json", "$AWS_SECRET_ACCESS_KEY"),
        ("judge_model", f"http://ann:{SECRET}@h", "write http://h"),
    ],
)
def test_a_plan_takes_no_password(tmp_path, name, url, instead):
    with pytest.raises(WrongInput) as problem:
        Plan.from_parameters(places(tmp_path, **{name: url}))
    assert str(problem.value).startswith(f"{name}: it holds a password")
    assert instead in str(problem.value) and SECRET not in str(problem.value)


def test_the_judge_has_a_key_of_its_own():
    with pytest.raises(WrongInput, match="DDPM_JUDGE_KEY") as problem:
        JudgeSettings(judge_url=f"https://ann:{SECRET}@h/v1", judge_model="m", judge_subject="x")
    assert SECRET not in str(problem.value)


def test_a_run_that_release_0_1_kept_with_a_password_goes_on_without(tmp_path):
    old = places(tmp_path, study_storage=f"postgresql+psycopg://u:{SECRET}@db/d")
    now = Run(Plan.from_parameters({**old, "study_storage": "postgresql+psycopg://u@db/d"}))
    kept = {**json.loads(now.plan.to_json()), "study_storage": old["study_storage"]}
    now.folder.write("plan.json", json.dumps(kept).encode())
    assert Run.named("r", old["store"]).plan == now.plan
    now.require_same_plan()
    with pytest.raises(WrongInput, match="run r has study_storage 'postgresql") as problem:
        Run(Plan.from_parameters(places(tmp_path))).require_same_plan()
    assert SECRET not in str(problem.value)


@pytest.mark.parametrize("command", ["sample", "history", "evaluate", "search"])
def test_help_shows_no_password(command, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{SECRET}@127.0.0.1:9")
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = "".join(capsys.readouterr().out.split())
    assert "default:http://ann:…@127.0.0.1:9" in text and SECRET not in text


PLACED = [
    ("gc", "--store", f"s3://AKIA:{SECRET}@b"),
    ("ingest", "digits", "--name", "d", "--store", f"s3://AKIA:{SECRET}@b"),
    ("ingest", f"s3://AKIA:{SECRET}@b", "--name", "d"),
    ("verify", f"s3://AKIA:{SECRET}@b/x.json"),
    ("train", "--dataset", f"s3://AKIA:{SECRET}@b/x.json", "--out", "x"),
    ("sample", "--model", "models:/m@champion", "--out", "x", "--tracking-uri", f"http://ann:{SECRET}@127.0.0.1:1"),
    ("sample", "--model", f"s3://AKIA:{SECRET}@b/x", "--out", "x"),
    ("sample", "--modell", f"s3://AKIA:{SECRET}@b/x", "--out", "x"),
    (f"http://ann:{SECRET}@127.0.0.1:1",),
    ("rank", f"http://ann:{SECRET}@h/x"),
]


@pytest.mark.parametrize("words", PLACED)
def test_a_command_takes_and_repeats_no_password(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words]) == 2
    found = capsys.readouterr()
    assert found.err.startswith("ddpm: ") and len(found.err.splitlines()) == 1
    assert SECRET not in found.err + found.out
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("run", [local.main, submit.main, schedule.main])
def test_neither_do_make_run_make_submit_and_make_schedule(run, tmp_path, monkeypatch, capsys):
    for name in ("DDPM_STORE", "MLFLOW_TRACKING_URI", "DDPM_STUDY_STORAGE"):
        monkeypatch.setenv(name, f"http://ann:{SECRET}@h")
    where = {local.main: ["--var", str(tmp_path)], submit.main: [], schedule.main: ["--cron", "@weekly"]}[run]
    for word in (f"study_storage=postgresql://u:{SECRET}@h/d", f"store=s3://k:{SECRET}@b", f"http://a:{SECRET}@h"):
        assert run([*where, word]) == 2
        found = capsys.readouterr()
        assert len(found.err.splitlines()) == 1
        assert SECRET not in found.err + found.out
    assert not [*tmp_path.iterdir()]


def test_a_source_is_refused_where_it_enters():
    with pytest.raises(WrongInput, match=re.escape("source: it holds a password")):
        IngestSettings(source=f"s3://k:{SECRET}@b")


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        (
            "tracking_uri=https://u:{}@h/x",
            "write https://h/x, and put the name and the password into $MLFLOW_TRACKING_USERNAME",
        ),
        ("weights=https://u:{}@h/x", "write https://h/x, and give a file or an s3:// URI"),
        ("weights='https://u:a {}@h/x'", "write https://h/x, and give a file or an s3:// URI"),
        ("judge_other=http://{}@h/x", "write http://h/x, and give a file or an s3:// URI"),
        ("init_from=s3://u:{}@h/x", "write s3://u@h/x, and put it into $AWS_ACCESS_KEY_ID"),
        ("weights=https://u:{}/x", "weights: it is no URL: its host or its port cannot be read"),
        ("store=s3://u:{}/x", "store: it is no URL"),
        ("weigths=https://u:{}@h/x", "did you mean weights?"),
        ("trials='https://u:a {}@h/x'", "trials: 'https://u:…@h/x' is not a whole number"),
        ("'https://u:a {}@h/x'", "SET: 'https://u:…@h/x' is not NAME=VALUE"),
        ("search_workers=https://{}@h", "search_workers: 'https://…@h' will not do"),
    ],
)
def test_no_advice_repeats_a_password(tmp_path, capsys, setting, advice):
    assert local.main(["--var", str(tmp_path), "--set", setting.format(SECRET)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert advice in line and SECRET not in line


@pytest.mark.parametrize(
    "words",
    [
        ["rank", "a.csv", f"https://u:a {SECRET}@h"],
        ["gc", f"https://u:a {SECRET}@h"],
        ["evaluate", f"--weigths=https://u:{SECRET}@h"],
        [f"https://u:{SECRET}@h"],
        ["page", "--out", f"https://u:a {SECRET}@h"],
    ],
)
def test_no_line_of_the_command_line_repeats_a_password(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert SECRET not in line
