"""The page of a run that has not come to its end; that of one that has is tested where a run is made (test_local.py)."""

import pytest

from ddpm.errors import WrongInput
from ddpm.plan import Plan
from ddpm.run import Run
from ddpm.run_page.folder import last_run, write_page
from ddpm.run_page.going_on import Command
from ddpm.steps.summarise import summarise

INGESTED = {"name": "digits", "uri": "u", "digest": "0123456789abcdef", "n": 1605, "held_out": 192, "seconds": 1.5}


@pytest.fixture
def begun(tmp_path):
    """A run whose pictures were ingested, and nothing after that."""
    store, database = str(tmp_path / "store"), f"sqlite:///{tmp_path}/mlflow.db"
    run = Run(Plan(run_name="one", store=store, tracking_uri=database, study_storage=str(tmp_path / "journal")))
    run.write_plan()
    run.keep("configure", {"seconds": 0.1})
    run.keep("ingest", INGESTED)
    return run


def test_of_a_run_that_goes_on_there_is_a_page_of_what_it_has_left(begun, tmp_path):
    page = write_page(begun, tmp_path / "page").read_text()
    assert "It has not ended" in page and "not ended by" in page
    assert "1,605 training and 192 held-out pictures" in page
    for absent in ("Verdict", "Trials", "Figures", "<img", "It failed", "To go on"):
        assert absent not in page
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]


def test_of_a_failed_run_there_is_a_page_that_says_so(begun, tmp_path):
    summarise("one", begun.plan.store, "FAILED", "search-0: lr <b>above</b> 1")
    command = Command("make run RUN_NAME=one", "carry on")
    page = write_page(Run.named("one", begun.plan.store), tmp_path / "page", [command]).read_text()
    assert "It failed" in page and "search-0: lr &lt;b&gt;above&lt;/b&gt; 1" in page
    assert "<code>make run RUN_NAME=one</code>" in page
    assert begun.folder.read("index.html").decode().count("It failed") == 1
    assert last_run(begun.plan.store) == "one"


def test_a_page_says_when_the_run_ended_and_not_when_it_was_summed_up_again(begun):
    summarise("one", begun.plan.store, "FAILED")
    begun.keep("summary", {**begun.facts("summary"), "ended": "2026-01-31 12:00 UTC"})
    assert summarise("one", begun.plan.store, "FAILED")["ended"] == "2026-01-31 12:00 UTC"
    begun.keep("ingest", {**INGESTED, "n": 7})
    assert summarise("one", begun.plan.store, "FAILED")["ended"] != "2026-01-31 12:00 UTC"


def test_pictures_that_are_gone_are_said_to_be(begun, tmp_path):
    gone = str(tmp_path / "store" / "reports" / "grid.png")
    begun.keep("evaluate", {"pictures": {"grid": gone}, "grid": gone, "page": gone, "protocol": {}, "metric": "fid_768",
                            "fid": 1.0, "kid": 0.1, "noise_floor": {"fid": 0.1}, "seconds": 1.0})  # fmt: skip
    page = write_page(begun, tmp_path / "page").read_text()
    assert f"it is gone from the store ({gone})" in page


def test_a_store_without_an_ended_run_is_said(tmp_path):
    with pytest.raises(WrongInput, match="store: no run has ended in"):
        last_run(str(tmp_path))
