"""Whatever is given to any flag of any command: exit status 2 and one line that says what is wrong, and nothing is left."""

import argparse
import functools
import signal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ddpm.cli import main, parser
from ddpm.fields import about_of, type_of
from ddpm.plan import OF_CLUSTER, ROOMS, fields, parameter_names, places
from pipelines import local, schedule, submit

DIGEST = "0" * 64
NOTHING = f"nowhere/datasets/x/{DIGEST}.json"  # so that no command gets far, whatever is given to its other flags
GIVEN = {
    "dataset": NOTHING, "uri": NOTHING, "out": "out", "model": "nowhere", "generated": "nowhere", "checkpoint": "nowhere",
    "report": "nowhere.json", "a": "a.json", "b": "b.json", "file": "no.csv", "source": "nowhere/pictures", "dataset_name": "x",
    "model_name": "x", "run_name": "x", "version": "1", "why": "x",
}  # fmt: skip
NO_NUMBER = ["", "x", "inf", "-inf", "nan", "1e308", "-1", "0x10", "9" * 5000, "[" * 100_000, "True", "1,5", "None"]
NO_PLACE = [
    "",
    "  ",
    "http://[::1",
    "http://h:99999",
    "s3://[x",
    "~nouser/x",
    "x" * 300,
    "a/" * 3000,
    "a\0b",
    "http://u:tr0ub4dor@h",
]
NUMBERS = {
    spec.name for kind in ROOMS.values() for spec in kind.__dataclass_fields__.values() if type_of(spec) in ("int", "float")
}  # fmt: skip
PLACES = {
    "store", "tracking_uri", "study_storage", "dataset", "uri", "out", "model", "generated", "checkpoint", "report", "a", "b", "file",
    "source", "html", "start", "guide",
}  # fmt: skip


@functools.cache
def commands():
    (steps,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return steps.choices


def flag_of(command, name):
    return next(action for action in commands()[command]._actions if action.dest == name)


FLAGS = [
    (command, action)
    for command, of in commands().items()
    for action in of._actions
    if action.dest not in ("help", "json", "delete")
    and command not in ("gc", "datasets")  # for which any folder will do
]


def words_with(command, wrong, value):
    """The command with all that it needs, and this value for one of its flags."""
    flags, others = [], []
    for action in commands()[command]._actions:
        if action.dest == wrong.dest or (action.required and action.dest in GIVEN):
            given = value if action.dest == wrong.dest else GIVEN[action.dest]
            (flags if action.option_strings else others).append((action.option_strings, given))
    return [
        command,
        *(f"{names[0]}={given}" for names, given in flags),
        *["--"][: len(others)],
        *(given for _, given in others),
    ]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, which must stay so; and the signals as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    before = {number: signal.getsignal(number) for number in local.SIGNALS}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)
    assert [*tmp_path.iterdir()] == []


def one_line(capsys, run, words):
    """Runs it; the line that it says on standard error."""
    assert run(words) == 2, words
    found = capsys.readouterr()
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert len(line) < 2000
    assert "Traceback" not in line and "failed unexpectedly" not in line
    return line


@pytest.mark.parametrize(
    ("command", "action"),
    [
        *((command, action) for command, action in FLAGS if action.type not in (None, str)),
        ("gc", flag_of("gc", "store")),
        ("gc", flag_of("gc", "older_than")),
    ],
    ids=lambda of: of if isinstance(of, str) else of.dest,
)
def test_each_places_and_numbers_own_line(command, action, elsewhere, capsys):
    for value in NO_PLACE if action.dest in PLACES else NO_NUMBER:
        line = one_line(capsys, main, words_with(command, action, value))
        name = action.option_strings[0].removeprefix("--").replace("-", "_") if action.option_strings else action.dest
        assert line.startswith(f"ddpm: {name}: "), line
        assert "tr0ub4dor" not in line


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=400)


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(FLAGS), st.one_of(st.sampled_from(NO_NUMBER + NO_PLACE + ["s3://", "redis://x"]), TEXT))
def test_any_value_for_any_flag(elsewhere, capsys, flag, value):
    command, action = flag
    one_line(capsys, main, words_with(command, action, value))


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from([*places(), *fields()]), st.one_of(st.sampled_from(NO_NUMBER + NO_PLACE), TEXT))
@example(next(spec for spec in fields() if spec.name == "judge_url"), "http://[::1")
def test_any_value_for_any_setting_of_a_run(elsewhere, capsys, spec, value):
    """Beside a data set that is not there, for which alone it would be refused."""
    words = ["--var", "var", "--data", NOTHING, f"{spec.name}={value}"]
    line = one_line(capsys, local.main, words)
    if spec.name in NUMBERS and value in NO_NUMBER and not about_of(spec).choices:
        assert line.startswith(f"{spec.name}: "), line


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "s3://"], ["--data", "~nouser/x"], ["--data", "/" + "x" * 300], ["--data", "a/" * 3000], ["--data", "/a{{$.b}}"],
        ["--data", "archive:"], ["--data", "folder:~nouser/x"], ["--preset", "x" * 300], ["--preset", "a/b"], ["--run-name", "x" * 300],
        ["--runner", "magic"], ["--nonsense"], ["nonsense"], ["=1"], ["search_workers=" + "[" * 100_000], ["search_workers=" + "9" * 5000],
        ["search_workers=1e9"], ["search_workers=[1,true]"], ["search_workers=1000000000"], ["weights=~nouser/w"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("run", [local.main, submit.main, schedule.main])
def test_words_of_make_run_make_submit_and_make_schedule(run, words, elsewhere, capsys, monkeypatch):
    monkeypatch.setenv("DDPM_STORE", "s3://bucket/x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("DDPM_STUDY_STORAGE", "postgresql+psycopg://u@h/d")
    where = {
        local.main: ["--var", "var", "store=store"],
        submit.main: ["--endpoint", "http://h"],
        schedule.main: ["--endpoint", "http://h", "--cron", "@weekly"],
    }
    one_line(capsys, run, [*words, *where[run]])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "there is no command 'trian' (did you mean train?); there are ingest, "),
        (["train", "--epoch", "3"], "there is no flag --epoch (did you mean --epochs?); `ddpm train --help`"),
        (["train", "--preset", "flower102", "--dataset", NOTHING, "--out", "x"], "(did you mean flowers102?)"),
        (["train"], "the following arguments are required: --dataset, --out"),
    ],
)
def test_a_slip_is_told_what_was_meant(words, said, elsewhere, capsys):
    assert said in one_line(capsys, main, words)


def test_a_slip_in_set(elsewhere, capsys):
    line = one_line(capsys, local.main, ["--var", "var", "epoch=3"])
    assert line.startswith("'epoch' is not a setting (did you mean epochs?)")


@pytest.mark.parametrize("word", ["train_nodes=2", "train_gpus=4", "nodes=2", "GPU=1"])
def test_nodes_and_gpus_in_set(elsewhere, capsys, word):
    line = one_line(capsys, local.main, ["--var", "var", word])
    said = (
        "(nodes and GPUs are said by a CLUSTER file, as in train: {nodes: 2, accelerators: 4}; docs/cluster.md); docs"
    )
    assert line.startswith(f"'{word.split('=')[0]}' is not a setting {said}")


def test_no_setting_is_taken_for_a_cluster_s():
    assert [name for name in parameter_names() if name.rsplit("_", 1)[-1] in OF_CLUSTER] == []
