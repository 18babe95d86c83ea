"""`make run`'s program, end to end on a tiny budget: killed, carried on, run again, and with a second set."""

import html
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from local_runs import TINY, run, start, wait_until_gone
from PIL import Image
from sklearn.datasets import load_digits

from ddpm.cli import main
from ddpm.data.dataset import open_dataset
from ddpm.registry.log import entries
from ddpm.registry.version import resolve
from ddpm.run import Run
from ddpm.search.ranking import Candidate, rank
from ddpm.steps.summarise import summarise
from ddpm.store import open_store
from ddpm.tracking import open_client
from ddpm.training.checkpoint import load_model, read_facts


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was killed -9 while its trials trained, and carried on. What it printed, and its var."""
    var = tmp_path_factory.mktemp("var")
    first = start(var, "--run-name", "one", *TINY)
    for line in first.stdout:
        if "trial 0" in line:
            break
    first.kill()
    first.wait()
    assert wait_until_gone(var) == [], "when local.py is gone, so are the tasks"
    assert not (var / "last-run.json").exists()
    pod = {"KFP_POD_NAME": "a-pod", "DDPM_KFP_URL": "https://kubeflow.example"}  # as a cluster's tasks are told
    again = run(var, "--run-name", "one", *TINY, **pod)
    assert again.returncode == 0, again.stdout + again.stderr
    return var, again


def test_a_killed_run_carries_on_to_the_end(finished):
    var, again = finished
    summary = json.loads((var / "last-run.json").read_text())
    assert (summary["run_name"], summary["state"]) == ("one", "SUCCEEDED")
    assert "found published, not ingested again" in again.stderr
    assert [trial["number"] for trial in summary["trials"]] == [0, 1, 2]
    assert {trial["state"] for trial in summary["trials"]} == {"COMPLETE"}
    assert [trial["channel_mults"] for trial in summary["trials"]] == ["1-2-4-8", "1-2-3-6", "1-2-3"]
    for trial in summary["trials"]:
        assert trial["fid"] > 0
        assert trial["images_seen"] == 1600
        assert trial["seconds"] > 0
    ranked = rank([Candidate(str(one["trial"]), one["fid"], one["kid"]) for one in summary["finalists"]])
    assert [one["n"] for one in summary["finalists"]] == [96] * 3
    assert "finalists  trial " in again.stdout and "scored anew by 96 pictures" in again.stdout
    assert str(summary["best"]) == ranked[0].candidate.model
    assert summary["best_why"].startswith(f"trial {summary['best']} ")
    assert set(summary["seconds"]) == {"configure", "ingest", "search", "train", "evaluate", "register", "promote"}
    assert summary["final"]["fid"] > summary["final"]["noise_floor"]["fid"] > 0
    assert summary["protocol"]["measurement"]["n"] == 64
    assert summary["protocol"]["generation"]["sampler"] == "ddim"
    steps = summary["protocol"]["generation"]["sampling_steps"]
    assert f"drawn by   ddim, {steps} steps\n" in again.stdout
    assert (summary["model"]["version"], summary["model"]["aliases"]) == (1, ["champion"])
    (start,) = summary["final"]["lineage"]
    assert (start["how"], start["images_seen"]) == ("start", 1600)
    cost = summary["cost"]
    assert cost["run"]["lost_unknown"] >= 1, "a worker was killed without a word"
    assert cost["run"]["images"] == 4 * 1600, "three trials of an epoch, and one more of the winner"
    assert cost["steps"]["search"]["seconds"] >= sum(trial["seconds"] for trial in summary["trials"]) - 0.1
    assert (cost["run"]["energy_kwh"], cost["run"]["money"]) == (None, None)
    assert "energy not measured, no price given (price_per_hour)" in again.stdout


def test_the_run_and_the_version_in_mlflow_name_the_pipelines_run(finished):
    var, _ = finished
    summary = json.loads((var / "last-run.json").read_text())
    client = open_client(f"sqlite:///{var}/mlflow/mlflow.db")
    named = {
        "kfp.pipeline_run_id": summary["session"],
        "kfp.pipeline_run_url": f"https://kubeflow.example/#/runs/details/{summary['session']}",
    }
    run_id = summary["mlflow_run"].rpartition("/")[2]
    whole = client.get_run(run_id)
    assert whole.data.tags["ddpm.kind"] == "pipeline"
    assert named.items() <= whole.data.tags.items()
    assert named.items() <= client.get_model_version("ddpm-digits", "1").tags.items()


def test_what_the_summary_names_is_there(finished):
    var, _ = finished
    summary = json.loads((var / "last-run.json").read_text())
    data = open_dataset(summary["dataset"]["uri"])
    assert len(data.train) == summary["dataset"]["n"] == 1605
    facts = read_facts(summary["final"]["checkpoint"])
    assert facts["settings"]["channel_mults"] == summary["trials"][summary["best"]]["channel_mults"]
    assert facts["dataset_digest"] == summary["dataset"]["digest"]
    assert Path(summary["grid"]).read_bytes().startswith(b"\x89PNG")


def test_what_a_person_reads(finished):
    _, again = finished
    for words in (
        "chosen",
        "noise floor",
        "ddpm-digits 1 (champion)",
        "look at it  file://",
        "make ui",
        "make run PRESET=digits SET=",
        "ddpm sample --model",
    ):
        assert words in again.stdout, words
    assert "executor" not in again.stderr + again.stdout, "kfp's own output is in the log"
    assert "{" not in again.stderr


def test_a_run_ends_in_one_page_that_holds_all_of_itself(finished):
    var, again = finished
    (link,) = [line.split()[-1] for line in again.stdout.splitlines() if line.startswith("look at it")]
    folder = var / "runs" / "one"
    assert link == (folder / "index.html").as_uri()
    page, summary = (folder / "index.html").read_text(), json.loads((var / "last-run.json").read_text())
    for words in (
        "Run one", "digits, 1,605 training and 192 held-out pictures at 8×8", "ddpm-digits, version 1: champion", "Verdict",
        summary["best_why"], "1-2-3-6", "fid_classifier (n=64)", "ddpm sample --model models:/ddpm-digits@champion", "make run PRESET=digits",
        'href="report.html"', 'href="samples.png"',
    ):  # fmt: skip
        assert words in page, words
    assert page.count('src="data:image/png;base64,') == 3, "samples, denoising, closest pairs"
    assert not re.search(r"""src=["'](?!data:)""", page), "nothing is fetched"
    in_mlflow = f"http://127.0.0.1:5000/{html.escape(summary['runs_page'])}"
    assert set(re.findall(r'href="([^"]*)"', page)) == {"report.html", "samples.png", "study.html", in_mlflow}
    assert (folder / "samples.png").read_bytes() == Path(summary["grid"]).read_bytes()
    assert (folder / "report.html").read_bytes() == Path(summary["page"]).read_bytes()
    study = (folder / "study.html").read_text()
    assert study.count('src="data:image/png;base64,') == 3 and "Training loss</h3><svg" in study
    assert (var / "store" / "runs" / "one" / "study.html").read_text() == study
    kept = (var / "store" / "runs" / "one" / "index.html").read_text()
    assert "Verdict" in kept
    assert set(re.findall(r'href="([^"]*)"', kept)) == {in_mlflow}, "nothing lies beside the store's own"


def test_the_page_can_be_made_anew(finished, tmp_path):
    var, _ = finished
    made = main(["page", "--store", str(var / "store"), "--out", str(tmp_path / "page"), "--json"])
    assert made == 0
    made = sorted(path.name for path in (tmp_path / "page").iterdir())
    assert made == ["index.html", "report.html", "samples.png", "study.html"]
    assert "Run one" in (tmp_path / "page" / "index.html").read_text()


def test_what_a_person_is_told_to_try_works(finished, tmp_path):
    _, again = finished
    told = [line.strip() for line in again.stdout.splitlines() if line.startswith("  .venv/bin/ddpm")]
    assert len(told) == 2
    for line in told:
        words = shlex.split(line.replace(".venv/bin", str(Path(sys.executable).parent)))
        found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert found.returncode == 0, found.stderr
    assert len(list((tmp_path / "var/samples").glob("0*.png"))) == 16


@pytest.mark.parametrize(
    ("word", "state", "status"),
    [("FAILED", "FAILED", "FAILED"), ("COMPLETE", "SUCCEEDED", "FINISHED"), ("SUCCEEDED", "SUCCEEDED", "FINISHED")],
)
def test_how_a_run_ended_is_known_by_what_it_left(finished, word, state, status):
    """KFP's word for success depends on the server."""
    var, _ = finished
    assert summarise("one", str(var / "store"), word)["state"] == state
    client = open_client(f"sqlite:///{var}/mlflow/mlflow.db")
    (parent,) = client.search_runs(
        [client.get_experiment_by_name("digits").experiment_id],
        "tags.`ddpm.kind` = 'pipeline' and tags.`ddpm.run_name` = 'one'",
    )
    assert parent.info.status == status


def test_mlflow_has_it_all(finished):
    var, _ = finished
    client = open_client(f"sqlite:///{var}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    found = client.search_runs([experiment.experiment_id])
    parents = [one for one in found if "mlflow.parentRunId" not in one.data.tags]
    children = [one for one in found if one.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(parents) == 1
    assert sorted(one.info.run_name for one in children) == ["final", "trial 0", "trial 1", "trial 2"]
    assert {one.info.status for one in found} == {"FINISHED"}
    assert parents[0].data.tags["model_version"] == "models:/ddpm-digits/1"
    assert parents[0].data.tags["aliases"] == "champion"
    chosen = json.loads((var / "last-run.json").read_text())
    best = chosen["trials"][chosen["best"]]
    assert parents[0].data.params["channel_mults"] == best["channel_mults"]
    assert parents[0].data.params["n"] == "64"
    assert chosen["runs_page"].startswith(
        f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    )
    columns = json.loads(experiment.tags["mlflow.sharedViewState.ddpm"])["selectedColumns"]
    assert {"params.`channel_mults`", "params.`lr`", "metrics.`fid_classifier`", "metrics.`kid_classifier`"} <= set(
        columns
    )
    assert parents[0].data.params["mults_choices"] == "1-2-4-8 1-2-3-6 1-2-3 1-2-4"
    assert "datasheet.html" in {file.path for file in client.list_artifacts(parents[0].info.run_id)}
    assert parents[0].inputs.dataset_inputs or any(one.inputs.dataset_inputs for one in children)
    final = next(one for one in children if one.info.run_name == "final")
    for one in children:
        assert {"loss", "grad_norm", "lr", "images_per_second", "held_out_loss"} <= set(one.data.metrics)
        assert {"skipped_steps", "skipped_not_finite"} <= set(one.data.metrics)
        assert {"fid_classifier", "kid_classifier"} <= set(one.data.metrics), "a figure carries its protocol"
        assert one.data.params["n"] == "64"
        assert one.data.params["channel_mults"]
        assert "device" in one.data.tags
        grids = {int(file.path.split("+")[2]) for file in client.list_artifacts(one.info.run_id, "images")}
        assert grids == ({0, 1600} if one is not final else {0, 3200}), "a sample grid at the start and at each look"
    assert {"noising.png", "denoising.png"} <= {file.path for file in client.list_artifacts(final.info.run_id)}
    fids = {half_life: final.data.metrics[f"fid_classifier_ema_{half_life}"] for half_life in (20, 150)}
    facts = read_facts(json.loads((var / "last-run.json").read_text())["final"]["checkpoint"])
    assert fids[20] != fids[150] and facts["average"] == min(fids, key=fids.get)
    served = client.get_model_version("ddpm-digits", "1").tags["weights_sha256"]
    assert served == facts["sha256"]["ema.safetensors" if facts["average"] == 20 else "ema-150.safetensors"]


def test_a_finished_run_is_done_again_at_once_and_changes_nothing(finished):
    var, _ = finished
    before = json.loads((var / "last-run.json").read_text())
    again = run(var, "--run-name", "one", *TINY)
    assert again.returncode == 0, again.stdout + again.stderr
    after = json.loads((var / "last-run.json").read_text())
    own = ("session", "ended")  # which tests above have written anew
    assert {**after, **{name: before[name] for name in own}} == before
    assert len(entries(open_store(str(var / "store")), "ddpm-digits")) == 1


@pytest.fixture(scope="module")
def second_run(finished, tmp_path_factory):
    """Another run on the same data set, whose trials wait for one another at a rung, guided by its own trial, and with a
    second set, the digits below five, that begins with the winner's weights."""
    var, _ = finished
    raw, pictures = load_digits(), tmp_path_factory.mktemp("pictures")
    for number, (picture, digit) in enumerate(zip(raw.images, raw.target, strict=True)):
        if digit < 5:
            (pictures / str(digit)).mkdir(exist_ok=True)
            grey = np.round(picture * 255 / 16).astype(np.uint8)
            Image.fromarray(grey).save(pictures / str(digit) / f"{number}.png")
    second = [f"transfer_source={pictures}", "transfer_dataset_name=five", "transfer_epochs=1", "transfer_from=winner"]
    second += ["guide=trial", "guidance=1.25"]
    second += "trial_epochs=2 epochs=3 first_rung=1 rung_factor=3 rung_score=loss founding_first=false".split()
    tiny = [word for word in TINY if word not in ("trial_epochs=1", "epochs=2")]
    return var, run(var, "--run-name", "two", *tiny, *second)


def test_a_second_run_recognises_the_data_set_and_challenges(second_run):
    var, again = second_run
    assert again.returncode == 0, again.stdout + again.stderr
    assert "found published, not ingested again" in again.stderr
    summary = json.loads((var / "last-run.json").read_text())
    assert (summary["model"]["version"], summary["model"]["new"]) == (2, True), "another name, another repetition"
    log = entries(open_store(str(var / "store")), "ddpm-digits")
    assert [entry["to"] for entry in log] == [1, 2]
    assert log[1]["action"] in ("challenge", "promote")
    assert summary["model"]["decision"] == log[1]["why"]
    if log[1]["action"] == "challenge":
        assert summary["model"]["aliases"] == ["challenger"]


def test_what_halving_saved_is_told_wherever_one_looks(second_run):
    var, again = second_run
    summary = json.loads((var / "last-run.json").read_text())
    states = [trial["state"] for trial in summary["trials"]]
    assert {*states} == {"COMPLETE", "PRUNED"} and states[summary["best"]] == "COMPLETE"
    assert [trial["images_seen"] for trial in summary["trials"]] == [
        3200 if state == "COMPLETE" else 1600 for state in states
    ]  # fmt: skip
    saved = summary["cost"]["saved"]
    assert (saved["trials"], saved["images"]) == (states.count("PRUNED"), 1600 * states.count("PRUNED"))
    words = f"ended early, which saved {saved['images']:,} pictures"
    assert "pruning    " in again.stdout and words in again.stdout
    folder = var / "runs" / "two"
    assert words in (folder / "index.html").read_text() and words in (folder / "study.html").read_text()
    client = open_client(f"sqlite:///{var}/mlflow/mlflow.db")
    told = client.get_run(summary["mlflow_run"].rpartition("/")[2]).data.metrics
    assert told["pruning_saved_images"] == saved["images"] and told["pruning_saved_share"] == saved["share"]
    assert summary["cost"]["steps"]["search"]["images"] == sum(trial["images_seen"] for trial in summary["trials"])


def test_the_winner_s_own_trial_guides_it_and_the_version_carries_that(second_run):
    var, again = second_run
    trained = Run.named("two", str(var / "store")).facts("train")
    trial = trained["trials"][trained["best"]]["checkpoint"]
    assert f"guided, 1.25, by {trial} (weights " in again.stderr
    model = resolve("models:/ddpm-digits/2", f"sqlite:///{var}/mlflow/mlflow.db")
    assert model.drawing.guidance == 1.25
    weights = load_model(trial).net.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.guide.net.state_dict().items())
    five = resolve("models:/ddpm-five/1", f"sqlite:///{var}/mlflow/mlflow.db")
    assert (five.guide, five.drawing.guidance) == (None, 1.0)


def test_a_second_set_goes_through_the_same_steps_and_stands_beside_the_first(second_run):
    var, again = second_run
    summary = json.loads((var / "last-run.json").read_text())
    second = summary["transfer"]
    assert (second["dataset"]["name"], second["dataset"]["n"], second["begun_from"]) == ("five", 811, "winner")
    facts = read_facts(second["final"]["checkpoint"])
    best = summary["trials"][summary["best"]]
    assert [facts["settings"][name] for name in ("channel_mults", "lr")] == [best["channel_mults"], best["lr"]]
    assert facts["dataset_digest"] == second["dataset"]["digest"] != summary["dataset"]["digest"]
    (start,) = second["final"]["lineage"]
    assert (start["how"], start["reference"], start["anew"]) == ("init_from", summary["final"]["checkpoint"], [])
    assert second["images_seen"] == summary["cost"]["steps"]["transfer-train"]["images"] == 768, "an epoch of 811"
    assert second["final"]["fid"] > second["final"]["noise_floor"]["fid"] > 0
    assert second["protocol"]["measurement"]["n"] == 64
    name, version, aliases = (second["model"][key] for key in ("name", "version", "aliases"))
    assert (name, version, aliases) == ("ddpm-five", 1, ["champion"]), "a gate of its own"
    assert second["harder"] == (
        "How much harder five is than digits cannot be said: each set was measured by a classifier of its own; extractor=inception measures both alike."
    )
    steps = [line.split()[1] for line in again.stderr.splitlines() if line.startswith("✓")]
    assert steps[-6:] == [
        "transfer-ingest", "transfer-train", "transfer-evaluate", "transfer-register", "transfer-promote", "summarise",
    ]  # fmt: skip
    for words in (
        "both sets",
        "the winner's weights",
        "drawn by",
        "ddpm-five 1 (champion)",
        f"harder     {second['harder']}",
    ):
        assert words in again.stdout, words
    folder = var / "runs" / "two"
    page = (folder / "index.html").read_text()
    assert "Both sets" in page and second["harder"] in page and page.count('src="data:image/png;base64,') == 6
    assert 'href="transfer-report.html"' in page and 'href="report.html"' in page
    assert (folder / "transfer-report.html").read_bytes() == Path(second["page"]).read_bytes()
    client = open_client(f"sqlite:///{var}/mlflow/mlflow.db")
    whole = client.get_run(summary["mlflow_run"].rpartition("/")[2])
    shown = [whole.data.metrics[f"{prefix}fid_classifier"] for prefix in ("", "transfer_")]
    assert shown == [summary["final"]["fid"], second["final"]["fid"]] and whole.info.status == "FINISHED"
    assert [whole.data.tags[key] for key in ("transfer_model_version", "transfer_aliases", "harder")] == [
        "models:/ddpm-five/1", "champion", second["harder"],
    ]  # fmt: skip
    made = client.get_model_version("ddpm-five", "1")
    assert client.get_run(made.run_id).data.tags["mlflow.parentRunId"] == whole.info.run_id


def test_the_same_name_with_other_settings_is_refused(finished):
    var, _ = finished
    others = [word for word in TINY if not word.startswith("base_channels")]
    found = run(var, "--run-name", "one", *others, "base_channels=12")
    assert found.returncode == 2
    assert "run_name: run one has base_channels 8, not 12; give another run_name, or the same settings" in found.stderr
