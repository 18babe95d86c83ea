"""Names that others chose, wherever a person sees them: whatever they hold, they are there to be read."""

import contextlib
import io
import json

import pytest
from PIL import Image

from ddpm.cli import main
from ddpm.data.dataset import open_dataset
from ddpm.data.datasheet import render
from ddpm.legible import legible, logged
from ddpm.plan import Plan
from ddpm.progress import EVENT_MARK, Bars, Events, Lines
from ddpm.tracking import Tracker
from pipelines.estimate import Estimate
from pipelines.log import Log
from pipelines.watching import watch

FORGED = "x\x1b[2K\x1b[31m\nddpm: all is well\x1b[8m\u202egnp.\u2028"
PLAIN = r"x\x1b[2K\x1b[31m\nddpm: all is well\x1b[8m\u202egnp.\u2028"
HARMFUL = "\x1b\x07\u202e\u2028\x9b\r"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (FORGED, PLAIN),
        ("a\x00\x7f\x9b\r\t", r"a\x00\x7f\x9b\r\t"),
        ("\u2066\u200b\ufeff\U000e0041", r"\u2066\u200b\ufeff\U000e0041"),  # isolates, zero widths, tags
        (b"caf\xe9".decode(errors="surrogateescape"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("Blüten 猫 · 5×5 é\u00a0🌼", "Blüten 猫 · 5×5 é\u00a0🌼"),
        ("می\u200cخواهم 👩\u200d🌾", "می\u200cخواهم 👩\u200d🌾"),
    ],
)
def test_what_is_there_to_be_read_is_left_and_all_else_is_written_out(name, shown):
    assert legible(name) == shown
    shown.encode()  # so that every terminal and file takes it


def test_a_table_keeps_its_lines_and_a_log_loses_colours_alone():
    assert legible("a\tb\n\x07", layout=True) == "a\tb\n\\x07"
    assert logged("\x1b[1;31mred\x1b[0m\x1b[2J\n") == "red\\x1b[2J\n"
    assert logged("[train] retrying http://ann:tr0ub4dor@h/x\n") == "[train] retrying http://ann:…@h/x\n"


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    """A folder whose classes and files are called to be taken for something else."""
    folder = tmp_path_factory.mktemp("forged") / "in"
    for name in ("a", "b" + FORGED):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (8, 8), (number * 9, len(name), 7)).save(folder / name / f"{number}.png")
    (folder / "a" / f"{FORGED}.png").write_bytes(b"no picture")
    return folder


def shown_by(*words):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


def test_the_command_line_shows_them_in_their_lines(forged, tmp_path):
    words = ["ingest", forged, "--name", "d", "--image-size", 8, "--store", tmp_path, "--workers", 1]
    status, out, err = shown_by(*words, "--quarantine-limit", 0.5)
    assert status == 0
    assert PLAIN in out
    assert not any(character in out + err for character in HARMFUL)
    assert "ddpm: all is well" not in [line[:17] for line in (out + err).splitlines()]
    status, out, err = shown_by(*words, "--quarantine-limit", 0)
    assert status == 2
    assert PLAIN in err.splitlines()[-1]
    assert not any(character in out + err for character in HARMFUL)
    status, out, _ = shown_by(*words, "--quarantine-limit", 0.5, "--json")
    facts = json.loads(out)
    assert facts["quarantined"][0]["name"] == f"a/{FORGED}.png", "programs get the name as it is"
    page = render(open_dataset(facts["uri"])).decode()
    assert PLAIN in page
    assert not any(character in page for character in HARMFUL)


@pytest.mark.parametrize("kind", [Lines, Bars, Events])
def test_progress_shows_no_password(kind):
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
        progress = kind()
        progress.say("at postgresql://u:tr0ub4dor@h/d: refused")
        if isinstance(progress, Bars):
            progress.close()
    assert "refused" in err.getvalue() + out.getvalue()
    assert "tr0ub4dor" not in err.getvalue() + out.getvalue()


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_progress_shows_them_in_their_lines(kind):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        progress = kind()
        progress.say(FORGED + ":smile: [red]")
        progress.update(FORGED, 1, 1, FORGED)
        if isinstance(progress, Bars):
            progress.close()
    shown = err.getvalue().replace("\x1b[?25l", "").replace("\x1b[?25h", "")  # rich's own: the cursor
    assert PLAIN + ":smile: [red]" in shown.replace("\n", "")
    assert not any(character in shown for character in HARMFUL)


def test_a_runs_log_and_failures_hold_them_in_their_lines(tmp_path):
    plan = Plan(run_name="r", store=str(tmp_path), tracking_uri="sqlite:///none.db", study_storage="none")
    event = EVENT_MARK + json.dumps({"error": FORGED, "status": 2, "step": "ingest"}) + "\n"
    with contextlib.redirect_stderr(io.StringIO()) as err, Log(tmp_path / "log.txt") as log:
        watch([event, "\x1b[34mkfp\x1b[0m\x1b]0;owned\x07\n"], Lines(), log, Estimate(plan))
    logged = (tmp_path / "log.txt").read_text()
    assert PLAIN in logged
    assert "kfp\\x1b]0;owned\\x07\n" in logged
    assert not any(character in logged + err.getvalue() for character in HARMFUL)


def test_mlflow_is_told_them_so_that_they_can_be_read(tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path}/m.db", "r", "d")
    with tracker.parent() as run:
        run.tag("folder", FORGED)
    tracker.open({"source": f"/in/{FORGED}"})
    found = run.client.get_run(run.run_id).data
    assert (found.params["source"], found.tags["folder"]) == (f"/in/{PLAIN}", PLAIN)
