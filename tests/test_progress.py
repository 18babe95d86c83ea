"""What a person sees: bars that come and go, each with its own clock."""

import io
import json

import pytest
from rich.console import Console

from ddpm import progress as room
from ddpm.progress import EVENT_MARK, Bars, Events, Lines, Within


@pytest.fixture
def bars():
    """Bars whose terminal is a text of 80 columns; without rich's thread, so that nothing depends on time."""
    found = Bars()
    found._bars.stop()
    found._bars.live._console = found._bars.live.console = Console(file=io.StringIO(), width=80, force_terminal=True)
    return found


def rows(bars):
    return [(task.description, task.completed) for task in bars._bars.tasks]


def test_a_task_that_ends_or_is_dropped_has_no_bar(bars):
    bars.update("one", 1, 4)
    bars.update("two", 1, 4)
    bars.drop("one")
    bars.drop("never heard of")
    assert rows(bars) == [("two", 1)]
    bars.update("two", 4, 4)
    assert rows(bars) == []


def test_a_task_that_begins_anew_has_a_clock_of_its_own(bars):
    bars.update("drawing", 3, 4)
    before = bars._bars.tasks[0]
    bars.update("drawing", 1, 4)
    (anew,) = bars._bars.tasks
    assert anew.id != before.id and anew.completed == 1
    bars.update("drawing", 2, 4)
    assert bars._bars.tasks[0].id == anew.id


def test_what_was_done_before_says_nothing_of_the_speed(bars):
    """A training that carries on at 90% has not come there in no time."""
    bars.update("training", 90, 100)
    assert bars._bars.tasks[0].speed in (None, 0)


def test_a_row_is_a_line_of_the_terminal(bars):
    bars.update("trial 0 (1 of 12) · 1-2-4-8", 30, 100, "epoch 3/6  held-out 0.0512  loss 0.0531  1,234 img/s " * 2)
    console = Console(file=io.StringIO(), width=80)
    console.print(bars._bars.make_tasks_table(bars._bars.tasks))
    (line,) = console.file.getvalue().splitlines()
    assert "trial 0 (1 of 12) · 1-2-4-8" in line and "30%" in line and "epoch 3/6" in line and "…" in line


def test_titles_say_whose_a_task_is(monkeypatch):
    told = []

    class Told(room.Quiet):
        def update(self, *given):
            told.append(given)

        def drop(self, task):
            told.append(task)

    own = Within(Told(), "worker 1")
    own.update("features", 1, 2, "note")
    own.drop("features")
    assert told == [("worker 1 · features", 1, 2, "note"), "worker 1 · features"]


def test_events_say_that_a_task_is_dropped(capsys):
    events = Events()
    events.update("one", 0, 2)
    events.drop("one")
    sent = [json.loads(line.removeprefix(EVENT_MARK)) for line in capsys.readouterr().out.splitlines()]
    assert sent[-1] == {"drop": "one"}


def test_lines_of_a_task_that_begins_anew_come_after_a_while_again(capsys):
    lines = Lines()
    lines.update("one", 0, 2)
    lines.drop("one")
    lines.update("one", 1, 2)
    assert capsys.readouterr().err == ""
    lines.update("one", 2, 2, "end")
    assert capsys.readouterr().err == "one  100%  end\n"
