"""`make run`'s program where it comes to no run: stopped, refused, or left without a success."""

import os
import signal
import time

import pytest
from local_runs import TINY, run, start, wait_until_gone

from ddpm.places import default_places
from ddpm.run import Run
from pipelines.local import finish
from pipelines.request import gather


def test_a_place_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "var").touch()
    found = run(tmp_path / "var", *TINY)
    assert found.returncode == 2
    assert len(found.stderr.strip().splitlines()) == 1
    assert "cannot be made" in found.stderr


def test_ctrl_c_ends_everything_at_once(tmp_path):
    process = start(tmp_path / "var", "--run-name", "stopped", *TINY)
    seen = ""
    for line in process.stdout:
        seen += line
        if "▸ ingest" in line:
            break
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, seen + rest
    assert time.monotonic() - began < 15
    assert "carry on with: make run PRESET=digits RUN_NAME=stopped" in rest
    assert "Traceback" not in rest
    assert wait_until_gone(tmp_path / "var", 5) == []
    assert not list((tmp_path / "var").rglob(".writing-*"))


def test_one_run_name_runs_once_at_a_time(tmp_path):
    import fcntl

    folder = tmp_path / "runs" / "busy"
    folder.mkdir(parents=True)
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = run(tmp_path, "--run-name", "busy", *TINY)
    assert found.returncode == 2
    assert "busy is running already" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "rainbow"], "preset: there is none named 'rainbow'; there are celeba"),
        (["--data", "/no/such/folder"], "there is no folder /no/such/folder"),
        (["--data", "EMPTY"], "holds no pictures"),
        (
            ["--preset", "quick"],
            "source: '' will not do; it must be a folder of pictures (DATA=/path/to/class/folders)",
        ),
        (["mults_choices=1-x-4"], "mults_choices: '1-x-4' will not do; it must be one list or more"),
        (["lr=0"], "lr: the search chooses it; what it may choose is said by founding_lr, lr_low and lr_high"),
        (["channel_mults=1-2"], "channel_mults: the search chooses it"),
        (["lr_low=0"], "lr_low: 0.0 will not do; it must be above 0"),
        (["founding_lr=0"], "founding_lr: 0.0 will not do"),
        (["image_size=9"], "image_size: 9 cannot be halved 3 times"),
        (["image_size=12", "mults_choices=1-2-4-8"], "the nearest size that can is"),
        (["weights=/no/w.pth"], "weights: there is no file /no/w.pth"),
        (["--run-name", "x" * 300], "at most 100"),
        (["nonsense=1"], "'nonsense' is not a setting"),
        (["trials=many"], "trials: 'many' is not a whole number"),
        (["trials"], "not NAME=VALUE"),
        (["epochs=1", "epochs=2"], "given twice"),
        (["search_workers=0"], "search_workers"),
        (["trial_epochs=100"], "trial_epochs: 100 will not do"),
        (["transfer_source=/no/such"], "transfer_source: there is no folder /no/such"),
        (
            ["transfer_source=digits"],
            "transfer_dataset_name: 'digits' will not do; it must be another than the first set's",
        ),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(arguments, words, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path / "empty") if word == "EMPTY" else word for word in arguments]
    found = run(tmp_path / "var", *arguments)
    assert found.returncode == 2
    assert words in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "var" / "store").exists()


def test_a_run_that_has_not_succeeded_is_no_success_whatever_the_runner_says(tmp_path, capsys):
    """kfp's local runner leaves out, without a word, a condition's steps where it cannot read the condition."""
    plan, _ = gather("digits", "", "left-out", {}, default_places(tmp_path))
    Run(plan).keep(
        "summary", {"run_name": "left-out", "state": "FAILED", "error": "promote: it never began", "seconds": {}}
    )
    assert finish(plan, tmp_path, "make run") == 1
    said = capsys.readouterr()
    assert said.out == "" and "the run has not: promote: it never began; page: " in said.err
