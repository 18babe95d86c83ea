"""The page of a run that has not come to its end; that of one that has is tested where a run is made (test_local.py)."""

import dataclasses
import html
import json
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from ddpm.errors import WrongInput
from ddpm.pictures import png
from ddpm.plan import Plan
from ddpm.progress import EVENT_MARK
from ddpm.run import Run
from ddpm.run_page.folder import find_run, write_page
from ddpm.run_page.going_on import Command
from ddpm.steps.summarise import in_pipeline, summarise

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
    assert find_run("", begun.plan.store).name == "one"


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
        find_run("", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ones", r"no run ones in .*store \(did you mean one\?\); there are one$"),
        ("../runs/one", "no run ../runs/one in"),
    ],
)
def test_a_run_that_is_not_there_is_said_with_those_that_are(begun, name, said):
    with pytest.raises(WrongInput, match=said):
        find_run(name, begun.plan.store)
    assert find_run("one", begun.plan.store).plan == begun.plan
    with pytest.raises(WrongInput, match="there are none; begin one with: make run"):
        find_run(name, begun.plan.store + "2")


def test_what_the_steps_left_is_told_though_mlflow_is_away(begun, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("DDPM_PATIENCE", "0")
    gone = dataclasses.replace(begun.plan, run_name="two", tracking_uri="http://127.0.0.1:9")
    run = Run(gone)
    run.write_plan()
    run.keep("ingest", INGESTED)
    with pytest.raises(SystemExit) as ended:
        in_pipeline("two", gone.store, "FAILED", "promote: MLflow does not answer", "", str(tmp_path / "note.md"))
    told = json.loads(capsys.readouterr().out.partition(EVENT_MARK)[2].splitlines()[0])
    assert ended.value.code == told["status"] == 1 and "MLflow at http://127.0.0.1:9 does not answer" in told["error"]
    assert run.facts("summary")["error"] == "promote: MLflow does not answer"
    assert "promote: MLflow does not answer" in run.folder.read("index.html").decode()


DRAWN = {"sampler": "heun", "sampling_steps": 18, "guidance": 1.25, "guide": "ab" * 32}


@pytest.fixture
def ended(begun):
    """A run that has come to its end, with names as long as they may be, and photographs' worth of pixels."""
    noise, pictures = np.random.default_rng(0), {}
    for name, shape in {"grid": (544, 544, 3), "denoising": (264, 600, 3), "pairs": (160, 800, 3)}.items():
        begun.store.write(f"reports/{name}.png", png(noise.integers(0, 256, shape, np.uint8)))
        pictures[name] = begun.store.uri(f"reports/{name}.png")
    begun.store.write("reports/report.html", b"<p>the report</p>")
    begun.keep("evaluate", {"pictures": pictures, "grid": pictures["grid"], "page": begun.store.uri("reports/report.html"),
                            "protocol": {"measurement": {"n": 128}, "generation": DRAWN}, "metric": "fid_768", "n": 128, "fid": 1.0, "kid": 0.1,
                            "noise_floor": {"fid": 0.1, "kid": 0.0}, "seconds": 1.0})  # fmt: skip
    trials = [
        {"number": number, "channel_mults": "1-2-4-8-16-32-64-64", "lr": 1.23456e-3, "fid": 2.0 + number, "kid": 0.1,
         "fid_std": 0.1, "kid_std": 0.01, "seconds": 4000.0, "images_seen": 1_000_000, "state": "COMPLETE"}
        for number in range(6)
    ]  # fmt: skip
    summary = {
        **summarise("one", begun.plan.store, "SUCCEEDED"), "state": "SUCCEEDED", "trials": trials, "best": 0,
        "best_why": "trial 0 has the best mean rank", "seconds": {"ingest": 1.0, "search": 4000.0, "train": 9000.0},
        "model": {"name": "ddpm-" + "n" * 90, "version": 1, "new": True, "aliases": ["champion"], "decision": "the first"},
    }  # fmt: skip
    finalist = {"n": 8192, "fid": 1.5, "fid_std": 0.05, "kid": 0.02, "kid_std": 0.005, "mean_rank": 1.0}
    summary["cost"]["saved"] = {"trials": 2, "images": 1500, "share": 0.25, "device_hours": 3.0, "money": None}
    summary["cost"]["run"] |= {"device_hours": 2.5, "waiting_hours": 0.25}
    summary["cost"]["steps"]["train"] = summary["cost"]["run"]
    summary["finalists"] = [{"trial": 0, **finalist}, {"trial": 1, **finalist, "mean_rank": 2.0}]
    begun.keep("summary", {**summary, "tied": [1]})
    return begun


def test_trials_have_their_protocol_and_their_intervals_and_a_tie_is_shown(ended, tmp_path):
    page = write_page(ended, tmp_path / "page").read_text()
    n = ended.plan.search.score_n
    assert f'<th scope="col">fid_768 (n={n})</th><th scope="col">kid_768 (n={n})</th>' in page
    assert page.count("<td>2 ± 0.2</td><td>0.1 ± 0.02</td>") == 1
    rows = [row.partition("</td>")[0] for row in page.split("<td>")]
    assert [rows.count(mark) for mark in ("★", "≈")] == [2, 2], "among the trials, and among the finalists"
    assert page.count("<td>1.5 ± 0.098</td><td>0.02 ± 0.0098</td>") == 2 and f"fid_768 (n={4 * n})" in page
    assert "2 trials ended early, which saved 1,500 pictures, 25% of all trials&#39; budgets" in page
    assert page.count(">2.5 (0.25 of them waiting)</td>") == 1, "as the closing table has it"
    assert "2.5 device-hours (0.25 of them waiting), " in page
    assert "≈ chance may have put it behind the chosen one" in page
    assert "what real pictures have; drawn by heun, 18 steps, guidance 1.25 by the weaker weights abababababab<" in page


def test_trials_that_have_no_room_are_counted(ended, tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm.summary.MOST_ROWS", 4)
    page = write_page(ended, tmp_path / "page").read_text()
    assert page.count("<td>1-2-4-8-16-32-64-64</td>") == 4
    assert "2 more trials are not shown (2 complete); MLflow has them." in page


def test_a_page_links_the_run_in_mlflow_and_says_when_that_answers(ended, tmp_path):
    link = ended.facts("summary")["runs_page"]
    page = write_page(ended, tmp_path / "page").read_text()
    assert f'<a href="http://127.0.0.1:5000/{html.escape(link)}">the run in MLflow</a>, once make ui is started' in page
    on_server = dataclasses.replace(ended.plan, run_name="two", tracking_uri="https://mlflow.example/")
    Run(on_server).write_plan()
    Run(on_server).keep("summary", {**ended.facts("summary"), "run_name": "two"})
    page = write_page(Run(on_server), tmp_path / "other").read_text()
    assert f'<a href="https://mlflow.example/{html.escape(link)}">the run in MLflow</a></p>' in page


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_in_a_browser_the_page_is_whole_on_a_desk_and_on_a_phone(ended, tmp_path):
    from playwright.sync_api import sync_playwright

    written = write_page(ended, tmp_path / "page", [Command("make run " + "x" * 300, "once more")])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        trouble = []
        for width in (1400, 390):
            page = browser.new_page(viewport={"width": width, "height": 844})
            page.on("pageerror", lambda error: trouble.append(str(error)))
            page.on("requestfailed", lambda request: trouble.append(request.url))
            page.goto(written.as_uri())
            assert page.evaluate("document.scrollingElement.scrollWidth") == width, "the page does not scroll sideways"
            headings = page.locator("h2").all_inner_texts()
            assert headings[1:] == [
                "A number becomes a picture",
                "Pictures",
                "Verdict",
                "Trials",
                "Figures of the final model",
                "Time and cost",
                "To go on",
            ]
            shown = page.evaluate(
                "[...document.images].filter(e => e.src).map(e => [e.naturalWidth, e.getBoundingClientRect().right])"
            )
            assert [natural for natural, _ in shown] == [544, 600, 800], "each picture is there"
            assert all(right <= width for _, right in shown), "and within the page"
            assert page.locator(".scroll").first.evaluate("e => e.scrollWidth > e.clientWidth") == (width == 390)
            for name in ("samples.png", "report.html"):
                assert page.locator(f"a[href='{name}']").count() == 1 and (tmp_path / "page" / name).is_file()
            assert not trouble
        browser.close()


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_number_becomes_a_picture_once_the_server_is_started(ended, tmp_path, monkeypatch):
    from playwright.sync_api import sync_playwright

    asked = []

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(png(np.zeros((8, 8, 3), np.uint8)))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("ddpm.run_page.render.SERVER", address)
    written = write_page(ended, tmp_path / "page")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.goto(written.as_uri())
        assert "make serve MODEL=models:/ddpm-n" in page.locator("#note").inner_text() and not asked
        page.get_by_role("spinbutton", name="Number").fill("41")
        Thread(target=server.serve_forever, daemon=True).start()
        page.get_by_role("button", name="Draw").press("Enter")
        page.locator("#drawn").wait_for()
        assert page.locator("#drawn").evaluate("e => e.naturalWidth") == 8
        assert page.locator("#keep").get_attribute("href") == f"{address}/v1/images/41.png?download=true"
        server.shutdown()
        server.server_close()
        page.get_by_role("spinbutton", name="Number").fill("42")
        page.get_by_role("button", name="Draw").click()
        page.get_by_text(f"no picture came from {address}").wait_for()
        assert not page.locator("#drawn").is_visible() and not page.locator("#keep").is_visible()
        browser.close()
    assert asked == ["/v1/images/41.png"]
