"""What comes through from the runner: shown while it is under way, kept without kfp's dumps, and estimated."""

import errno
import json
import os

import pytest

from ddpm.plan import Plan
from ddpm.progress import EVENT_MARK, Quiet
from pipelines import log as log_room
from pipelines.estimate import DRAWING, FINAL, SECOND_DRAWING, SECOND_TRAINING, TASK, Estimate, in_words, work_of
from pipelines.log import Log
from pipelines.watching import watch

DUMP = """\
[configure] [KFP Executor 2026-11-25 18:23:57,407 INFO]: Looking for component `configure` in --component_module_path `x`
[configure] [KFP Executor 2026-11-25 18:23:57,410 INFO]: Got executor_input:
[configure] {
[configure]     "inputs": {
[search-1] a line of a task beside it
[configure]         "parameterValues": {"epochs": 10}
[configure]     }
[configure] }
[configure] a warning of a library
18:23:57.282 - INFO - Executing task \x1b[96m'configure'\x1b[0m
18:23:57.282 - INFO - Task \x1b[96m'configure'\x1b[0m finished with status SUCCESS
"""


class Seen(Quiet):
    """Keeps what is under way, and what was said."""

    def __init__(self):
        self.under_way, self.said = {}, []

    def update(self, task, done, total, note=""):
        self.under_way[task] = (done / total, note)
        if done >= total:
            self.drop(task)

    def drop(self, task):
        self.under_way.pop(task, None)

    def say(self, text):
        self.said.append(text)


def plan(tmp_path, **more):
    return Plan.from_parameters(
        {
            "run_name": "one", "store": str(tmp_path / "store"), "tracking_uri": "sqlite:////x.db", "study_storage": "/x.log",
            "trials": 2, "trial_epochs": 2, "epochs": 4, "score_n": 100, "score_steps": 10, "n": 100, "sampling_steps": 60,
            **more,
        }
    )  # fmt: skip


def event(**facts):
    return EVENT_MARK + json.dumps(facts) + "\n"


def test_the_log_holds_no_dump_and_no_colours(tmp_path):
    with Log(tmp_path / "log.txt") as log:
        for line in DUMP.splitlines(keepends=True):
            log.write(line)
    assert (tmp_path / "log.txt").read_text().splitlines() == [
        "[search-1] a line of a task beside it",
        "[configure] a warning of a library",
        "18:23:57.282 - INFO - Task 'configure' finished with status SUCCESS",
    ]


def test_a_dump_that_was_cut_off_hides_nothing_else(tmp_path):
    with Log(tmp_path / "log.txt") as log:
        for line in [
            *DUMP.splitlines()[1:4],
            "[configure] Traceback (most recent call last):",
            "[configure]     x = 1",
        ]:
            log.write(line)
    assert (tmp_path / "log.txt").read_text().splitlines() == [
        "[configure] Traceback (most recent call last):",
        "[configure]     x = 1",
    ]


def test_a_last_line_that_was_cut_off_is_ended(tmp_path):
    path = tmp_path / "log.txt"
    for before, after in (("", "new\n"), ("whole\n", "whole\nnew\n"), ("hal", "hal\nnew\n")):
        path.write_text(before)
        with Log(path) as log:
            log.write("new")
        assert path.read_text() == after


def test_a_log_that_cannot_be_written_is_said_once_and_ends_nothing(tmp_path, monkeypatch, capsys):
    def full(file, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Log(tmp_path / "log.txt") as log:
        with monkeypatch.context() as patched:
            patched.setattr(log_room.os, "write", full)
            assert log.write("one") == "one"
            log.write("two")
        log.write("three")
    said = capsys.readouterr().err
    assert said == f"{tmp_path}/log.txt cannot be written (No space left on device); the run goes on without it\n"
    assert (tmp_path / "log.txt").read_text() == "three\n"


def test_what_a_step_leaves_under_way_goes_with_it(tmp_path):
    seen = Seen()
    lines = [
        event(step="search-0", state="started"),
        event(step="search-1", state="started"),
        event(step="search-0", task="trial 0 (1 of 2)", done=1, total=4, note="n"),
        event(step="search-1", task="trial 1 (2 of 2)", done=1, total=4, note="n"),
    ]
    with Log(tmp_path / "log.txt") as log:
        watch(lines, seen, log, Estimate(plan(tmp_path)))
        assert set(seen.under_way) == {"trial 0 (1 of 2)", "trial 1 (2 of 2)"}
        watch([*lines, event(step="search-0", state="done", seconds=1.0)], seen, log, Estimate(plan(tmp_path)))
        assert set(seen.under_way) == {"trial 1 (2 of 2)"}


def test_a_step_is_seen_before_its_first_task_and_after_its_last(tmp_path):
    seen = Seen()
    lines = [event(step="train", state="started")]
    with Log(tmp_path / "log.txt") as log:
        watch(lines, seen, log, Estimate(plan(tmp_path)))
        assert set(seen.under_way) == {"train"}
        lines.append(event(step="train", task="final training", done=1, total=4))
        watch(lines, seen, log, Estimate(plan(tmp_path)))
        assert set(seen.under_way) == {"final training"}
        lines.append(event(step="train", task="final training", done=4, total=4))
        watch(lines, seen, log, Estimate(plan(tmp_path)))
        assert set(seen.under_way) == {"train"}
        lines.append(event(step="train", state="failed"))
        watch(lines, seen, log, Estimate(plan(tmp_path)))
        assert seen.under_way == {}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def heard(tmp_path):
    """An estimate of a run on 1,000 pictures whose clock is told, and what it tells."""
    from ddpm.run import Run

    settings = plan(tmp_path)
    Run(settings).keep("ingest", {"n": 1000, "seconds": 1.0})
    clock, seen = Clock(), Seen()
    estimate = Estimate(settings, clock)

    def hear(at, **facts):
        clock.now = at
        estimate.hear(facts, seen)
        return seen.under_way.get(TASK)

    assert hear(0, step="ingest", state="done", seconds=1.0) is None
    return hear


def test_the_work_of_a_run(tmp_path):
    """Two trials of 2 epochs, each with 100 pictures of 10 steps, 2 more epochs, and 100 pictures of 60 steps."""
    assert work_of(plan(tmp_path), 1000) == {
        "trial 0": 6000, "score 0": 1000, "trial 1": 6000, "score 1": 1000, FINAL: 6000, DRAWING: 6000,
    }  # fmt: skip
    second = plan(tmp_path, transfer_source="dalle-dogs", transfer_dataset_name="dogs", transfer_epochs=5)
    both = work_of(second, 1000, 500)
    assert list(both)[-3:] == [DRAWING, SECOND_TRAINING, SECOND_DRAWING]
    assert (both[SECOND_TRAINING], both[SECOND_DRAWING]) == (7500, 6000), "5 epochs of 500, whole, and 100 pictures"
    assert work_of(plan(tmp_path, finalists=3), 1000)["finalists"] == 8000, "there are but two, of 400 pictures each"


def test_what_is_left_follows_from_the_speed_so_far(heard):
    """26,000 in all. 3,000 in 30 seconds: 23,000 are left, 230 seconds."""
    assert heard(100, step="search-0", task="trial 0 (1 of 2) · 1-2", done=0, total=4) is None
    share, left = heard(130, step="search-0", task="trial 0 (1 of 2) · 1-2", done=2, total=4)
    assert share == pytest.approx(3 / 26) and left == "about 4 min left"
    heard(160, step="search-0", task="trial 0 (1 of 2) · 1-2", done=4, total=4)
    heard(165, step="search-0", task="trial 0 (1 of 2) · its score", done=1, total=4)
    share, left = heard(170, step="search-0", drop="trial 0 (1 of 2) · its score")
    assert share == pytest.approx(7 / 26)
    share, _ = heard(200, step="train", task=FINAL, done=2, total=4)
    assert share == pytest.approx(14 / 26), "trials that were never heard of are over, and it goes on from one's end"
    heard(270, step="evaluate", task=DRAWING, done=0, total=2)
    share, left = heard(360, step="evaluate", task=DRAWING, done=1, total=2)
    assert share == pytest.approx(23 / 26) and left == "about 1 min left", "3,000 at 38 a second; trial 1 took no time"


def test_a_second_set_is_part_of_the_whole(tmp_path):
    """39,500 in all, of which 26,000 are the first set's; its pictures are known from the first ingest on."""
    from ddpm.run import Run

    settings = plan(tmp_path, transfer_source="dalle-dogs", transfer_dataset_name="dogs", transfer_epochs=5)
    Run(settings).keep("ingest", {"n": 1000, "second_n": 500, "seconds": 1.0})
    clock, seen = Clock(), Seen()
    estimate = Estimate(settings, clock)
    told = []
    for at, facts in enumerate([
        {"step": "ingest", "state": "done"}, {"step": "search-0", "task": "trial 0 (1 of 2)", "done": 0, "total": 4},
        {"step": "evaluate", "task": DRAWING, "done": 0, "total": 2},
        {"step": "evaluate", "task": DRAWING, "done": 2, "total": 2},
        {"step": "transfer-train", "task": "transfer training", "done": 1, "total": 3},
        {"step": "transfer-train", "task": DRAWING, "done": 1, "total": 2},
        {"step": "transfer-evaluate", "task": DRAWING, "done": 1, "total": 2},
    ]):  # fmt: skip
        clock.now = 100.0 * at
        estimate.hear(facts, seen)
        told.append(seen.under_way.get(TASK, (0,))[0] * 39_500)
    assert told == pytest.approx([0, 0, 0, 26_000, 28_500, 28_500, 36_500])


@pytest.mark.parametrize("finalists", [2, 3])
def test_finalists_are_part_of_the_whole(tmp_path, finalists):
    """34,000 in all, of which both trials are over when the second of two finalists is half scored."""
    from ddpm.run import Run

    settings, clock, seen = plan(tmp_path, finalists=finalists), Clock(), Seen()
    Run(settings).keep("ingest", {"n": 1000, "seconds": 1.0})
    estimate = Estimate(settings, clock)
    for at, facts in enumerate([
        {"step": "ingest", "state": "done"}, {"step": "search-0", "task": "trial 0 (1 of 2)", "done": 0, "total": 4},
        {"step": "train", "task": "finalists: trial 0, 1 of 2", "done": 0, "total": 2},
        {"step": "train", "task": "finalists: trial 1, 2 of 2", "done": 1, "total": 2},
    ]):  # fmt: skip
        clock.now = 100.0 * at
        estimate.hear(facts, seen)
    assert seen.under_way[TASK][0] == pytest.approx((14 + 6) / 34)


def test_a_run_that_carries_on_is_measured_by_its_own_seconds(heard):
    """Trial 0 was over before, as its worker is told first: its work took this process no time."""
    heard(99, step="search-0", drop="trial 0 (1 of 2)")
    heard(100, step="search-0", task="trial 1 (2 of 2) · 1-2", done=2, total=4)
    share, left = heard(130, step="search-0", task="trial 1 (2 of 2) · 1-2", done=4, total=4)
    assert share == pytest.approx(13 / 26) and left == "about 2 min left", "13,000 at 100 a second"


def test_two_workers_that_carry_on_are_measured_by_their_own_seconds(tmp_path):
    """Three trials, 33,000 in all: one was pruned before, and what the others had behind them took this process no time."""
    from ddpm.run import Run

    settings = plan(tmp_path, trials=3, first_rung=1, held_out_every=1)
    Run(settings).keep("ingest", {"n": 1000, "seconds": 1.0})
    clock, seen = Clock(), Seen()
    estimate = Estimate(settings, clock)
    for at, facts in (
        (0.0, {"step": "ingest", "state": "done"}),
        (99.0, {"step": "search-0", "drop": "trial 0 (1 of 3)"}), (99.0, {"step": "search-1", "drop": "trial 0 (1 of 3)"}),
        (100.0, {"step": "search-0", "task": "trial 1 (2 of 3) · 1-2", "done": 1, "total": 2}),
        (110.0, {"step": "search-1", "task": "trial 2 (3 of 3) · 1-2-4", "done": 3, "total": 4}),
        (130.0, {"step": "search-0", "task": "trial 1 (2 of 3) · 1-2", "done": 3, "total": 4}),
    ):  # fmt: skip
        clock.now = at
        estimate.hear(facts, seen)
    share, left = seen.under_way[TASK]
    assert share == pytest.approx((7 + 4.5 + 4.5) / 33) and left == "about 6 min left", "17,000 at 1,500 in 30 seconds"


@pytest.mark.parametrize("rung", [0, 1])
def test_of_two_workers_the_first_that_is_heard_of_says_nothing_of_the_other_s_trial(tmp_path, rung):
    from ddpm.run import Run

    settings = plan(tmp_path, first_rung=rung, held_out_every=1)
    Run(settings).keep("ingest", {"n": 1000, "seconds": 1.0})
    clock, seen = Clock(), Seen()
    estimate = Estimate(settings, clock)
    for at, done in ((0.0, None), (100.0, 2), (130.0, 4)):
        clock.now = at
        trial = {"step": "search-0", "task": "trial 1 (2 of 2) · 1-2", "done": done, "total": 4}
        estimate.hear(trial if done else {"step": "ingest", "state": "done", "seconds": 1.0}, seen)
    assert seen.under_way[TASK][0] == pytest.approx(6 / 26)


def test_a_training_that_is_over_before_its_last_epoch_was_not_that_fast(tmp_path):
    """51,500 in all, of which 6,000 are the final training's, and two draws are measured of either set."""
    from ddpm.run import Run

    settings = plan(tmp_path, transfer_source="dalle-dogs", transfer_dataset_name="dogs", transfer_epochs=5, seeds=2)
    Run(settings).keep("ingest", {"n": 1000, "second_n": 500, "seconds": 1.0})
    clock, seen = Clock(), Seen()
    estimate = Estimate(settings, clock)
    for at, facts in (
        (0.0, {"step": "ingest", "state": "done"}),
        (100.0, {"step": "train", "task": FINAL, "done": 2, "total": 4}),
        (120.0, {"step": "train", "task": FINAL, "done": 3, "total": 4}),
        (120.0, {"step": "train", "drop": FINAL}), (120.0, {"step": "train", "task": FINAL, "done": 1, "total": 1}),
        (120.0, {"step": "evaluate", "task": DRAWING, "done": 0, "total": 2}),
    ):  # fmt: skip
        clock.now = at
        estimate.hear(facts, seen)
    share, left = seen.under_way[TASK]
    whole = 26_000 + 6000 + 7500 + 12_000
    assert share == pytest.approx(20_000 / whole) and left == "about 4 min left", "31,500 at 3,000 in 20 seconds"
    for event in (
        {"task": DRAWING, "done": 2, "total": 2},
        {"drop": DRAWING},
        {"task": DRAWING, "done": 1, "total": 2},
    ):
        estimate.hear({"step": "evaluate", **event}, seen)
    assert seen.under_way[TASK][0] == pytest.approx((20_000 + 9000) / whole), "of two draws, one and a half"


def test_durations_in_words():
    assert [in_words(seconds) for seconds in (0, 29, 31, 600, 7260)] == [
        "less than a minute", "less than a minute", "about 1 min", "about 10 min", "about 2 h 1 min",
    ]  # fmt: skip
