"""Every step by hand, one after the other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typed import ddpm, facts_of

from ddpm.tracking import open_client

TINY = "--base-channels 8 --blocks 1 --attention-resolution 4 --channel-mults 1-2 --flip false".split()


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """The whole way by hand, in a folder of its own: the facts of each step."""
    folder = tmp_path_factory.mktemp("by-hand")
    facts = {"folder": folder}
    facts["ingest"] = facts_of(
        "ingest", "digits", "--name", "digits", "--image-size", 8, "--store", "store", cwd=folder
    )
    uri = facts["ingest"]["uri"]
    assert (listed := facts_of("datasets", "--store", "store", cwd=folder)["datasets"][0])["uri"] == uri
    assert facts["ingest"]["dataset"] == listed["dataset"]
    train = [
        "train",
        "--dataset",
        "digits",
        "--store",
        "store",
        "--out",
        folder / "out",
        *TINY,
        "--epochs",
        1,
        "--lr",
        "1e-3",
    ]
    facts["train"] = facts_of(*train, cwd=folder)
    facts["again"] = facts_of(*train, cwd=folder)
    measure = [
        "--dataset",
        uri,
        "--extractor",
        "classifier",
        "--store",
        "store",
        "--sampler",
        "ddim",
        "--sampling-steps",
        4,
        "--n",
        64,
    ]
    facts["measure"] = measure
    for wrong, data in (("broken/0000.png", b"no picture"), ("junk.log", b"junk\n"), ("list.json", b"[]")):
        (folder / wrong).parent.mkdir(exist_ok=True)
        (folder / wrong).write_bytes(data)
    (folder / "few").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "few" / "0000.png")
    facts["evaluate"] = facts_of("evaluate", "--generated", folder / "out", *measure, cwd=folder)
    (folder / "report.json").write_text(json.dumps(facts["evaluate"]))
    facts["register"] = facts_of(
        "register",
        "--checkpoint",
        facts["train"]["checkpoint"],
        "--report",
        "report.json",
        "--model-name",
        "m",
        cwd=folder,
    )
    facts["promote"] = facts_of(
        "promote", "--model-name", "m", "--version", 1, "--store", "store", *measure[:4], "--noise-gate", 1, cwd=folder
    )
    return facts


def test_training_again_says_that_it_is_done(by_hand):
    assert by_hand["again"] == by_hand["train"]
    assert by_hand["train"]["images_seen"] == 1600
    assert by_hand["train"]["skipped_steps"] == 0
    assert len(by_hand["train"]["weights_sha256"]) == 64


def test_another_training_begins_with_a_version_s_weights_and_goes_on_when_it_is_given_more_epochs(by_hand):
    folder = by_hand["folder"]
    train = ["train", "--dataset", "digits", "--store", "store", "--out", "more", *TINY, "--lr", "1e-3"]
    begun = facts_of(*train, "--init-from", "models:/m@champion", "--epochs", 1, cwd=folder)
    (first,) = begun["lineage"]
    assert (first["how"], first["reference"], first["anew"]) == ("init_from", "models:/m/1", [])
    assert first["weights_sha256"] == by_hand["evaluate"]["protocol"]["generation"]["weights_sha256"]
    longer = ddpm(*train, "--init-from", "models:/m@champion", "--epochs", 2, "--json", cwd=folder)
    assert "training: goes on beyond its 1 epochs from " in longer.stderr
    found = json.loads(longer.stdout)
    assert [one["how"] for one in found["lineage"]] == ["init_from", "epochs"] and found["images_seen"] == 3200
    assert Path(begun["last_checkpoint"]).is_file()
    wrong = ddpm(*train, "--init-from", "models:/m@gone", "--out", "wrong", cwd=folder)
    assert wrong.returncode == 2 and "init_from: there is no models:/m@gone at " in wrong.stderr
    other = ddpm(*train, "--init-from", "out", "--channel-mults", "1-3", "--out", "wrong", cwd=folder)
    assert other.returncode == 2 and "another network: channel_mults 1-2, not 1-3" in other.stderr
    both = ddpm(*train, "--init-from", "out", "--start", "out", "--out", "wrong", cwd=folder)
    assert both.returncode == 2 and "init_from: it takes weights alone" in both.stderr
    assert not (folder / "wrong").exists()


def test_registered_and_promoted(by_hand):
    assert by_hand["register"] == {"name": "m", "version": 1, "new": True}
    assert by_hand["promote"]["aliases"] == ["champion"]
    found = facts_of("history", "--model-name", "m", "--store", "store", cwd=by_hand["folder"])
    assert [entry["action"] for entry in found["entries"]] == ["promote"]
    refused = ddpm("rollback", "--model-name", "m", "--store", "store", "--why", "x", cwd=by_hand["folder"])
    assert refused.returncode == 3


def test_samples_belong_to_their_seeds(by_hand):
    folder = by_hand["folder"]

    def draw(name, n, seed, *more):
        return facts_of(
            "sample", "--model", "models:/m@champion", "--n", n, "--seed", seed, "--out", name, *more, cwd=folder
        )

    one, other, later = draw("one", 16, 0), draw("other", 16, 0, "--sample-batch", 16), draw("later", 2, 3)
    names = [Path(file).name for file in one["files"]]
    assert names == [f"{number:04d}.png" for number in range(16)]
    assert {path.name for path in (folder / "one").iterdir()} == {*names, "grid.png"}
    assert [Path(a).read_bytes() for a in one["files"]] == [Path(b).read_bytes() for b in other["files"]]
    assert Path(one["grid"]).read_bytes() == Path(other["grid"]).read_bytes()
    assert Path(later["files"][0]).read_bytes() == Path(one["files"][3]).read_bytes()
    assert Image.open(one["files"][0]).size == (8, 8)
    assert one["model"] == "models:/m/1"
    assert [Path(file).name for file in later["files"]] == ["0003.png", "0004.png"], "a file belongs to its seed"


def test_no_other_picture_is_overwritten(by_hand):
    folder = by_hand["folder"]
    draw = ["sample", "--model", "models:/m@champion", "--n", 2, "--out", "kept", "--sampling-steps", 2]
    first = facts_of(*draw, cwd=folder)
    before = {path.name: path.read_bytes() for path in (folder / "kept").iterdir()}
    assert facts_of(*draw, cwd=folder)["files"] == first["files"], "the same once more"
    more = facts_of(*draw, "--seed", 1, cwd=folder)
    assert Path(more["grid"]).name == "grid-0001-0002.png"
    after = {path.name: path.read_bytes() for path in (folder / "kept").iterdir()}
    assert {name: after[name] for name in before} == before
    assert sorted(after) == ["0000.png", "0001.png", "0002.png", "grid-0001-0002.png", "grid.png"]
    for otherwise in (["--sampling-steps", 3], ["--seed", 0, "--n", 8, "--sampler", "ancestral"]):
        found = ddpm(*draw, *otherwise, cwd=folder)
        assert found.returncode == 2
        assert "0000.png is there, and is another picture" in found.stderr
    assert {path.name: path.read_bytes() for path in (folder / "kept").iterdir()} == after


def test_a_folder_of_pictures_is_evaluated_like_the_model_that_drew_them(by_hand):
    folder = by_hand["folder"]
    facts_of(
        "sample", "--model", "models:/m/1", "--n", 64, "--seed", 0, "--out", "drawn", "--sample-batch", 256, cwd=folder
    )
    found = facts_of("evaluate", "--generated", "drawn", *by_hand["measure"], cwd=folder)
    assert found["fid"] == pytest.approx(by_hand["evaluate"]["fid"], rel=1e-6)
    assert found["kid"] == pytest.approx(by_hand["evaluate"]["kid"], rel=1e-6)
    assert facts_of("evaluate", "--generated", "drawn", *by_hand["measure"], cwd=folder) == found, "the first stays"
    (folder / "b.json").write_text(json.dumps(found))
    side_by_side = facts_of("compare", "report.json", "b.json", cwd=folder)
    assert side_by_side["fid"]["low"] <= 0 <= side_by_side["fid"]["high"]


def test_figures_of_another_measurement_do_not_compare(by_hand):
    folder = by_hand["folder"]
    other = facts_of("evaluate", "--generated", "out", *by_hand["measure"][:-1], 32, cwd=folder)
    (folder / "other.json").write_text(json.dumps(other))
    refused = ddpm("compare", "report.json", "other.json", cwd=folder)
    assert refused.returncode == 3
    assert "differ in kid_subset_size" in refused.stderr


def test_the_founding_table(tmp_path):
    (tmp_path / "table.csv").write_text(
        "model,fid,kid\n1-2-4-8,24.92,0.334\n1-2-3-6,27.13,0.328\n1-2-3,18.30,0.393\n1-2-4,24.49,0.296\n"
    )
    found = facts_of("rank", "table.csv", cwd=tmp_path)
    assert found["best"] == "1-2-4"
    assert {row["model"]: row["mean_rank"] for row in found["ranking"]} == {
        "1-2-4": 1.5,
        "1-2-3": 2.5,
        "1-2-4-8": 3.0,
        "1-2-3-6": 3.0,
    }


def test_a_search_by_hand(by_hand):
    folder = by_hand["folder"]
    search = [
        "search", "--dataset", by_hand["ingest"]["uri"], "--run-name", "by-hand", "--store", "store", "--trials", 2,
        "--trial-epochs", 1, "--epochs", 1, "--held-out-every", 1, "--score-n", 64, "--score-steps", 2, "--extractor", "classifier",
        "--base-channels", 8, "--blocks", 1, "--attention-resolution", 4, "--flip", "false", "--founding-lr", "1e-3",
    ]  # fmt: skip
    found = facts_of(*search, cwd=folder)
    assert found["best"] == min((0, 1), key=lambda number: found["trials"][number]["fid"]), "of two, the lower FID wins"
    assert [trial["state"] for trial in found["trials"]] == ["COMPLETE", "COMPLETE"]
    assert facts_of(*search, cwd=folder) == found, "again, it finds the trials done"


def test_search_workers_that_are_started_at_once(by_hand, tmp_path):
    """Real processes: one opens the run, another waits for it elsewhere, and no trial is queued, or run, twice."""
    words = [
        Path(sys.executable).parent / "ddpm", "search", "--dataset", by_hand["ingest"]["uri"], "--run-name", "crowd", "--store", "store",
        "--trials", "3", "--trial-epochs", "1", "--epochs", "1", "--held-out-every", "1", "--score-n", "64", "--score-steps", "2",
        "--extractor", "classifier", "--base-channels", "8", "--blocks", "1", "--attention-resolution", "4", "--json",
    ]  # fmt: skip
    folder, elsewhere = tmp_path / "here", tmp_path / "there"
    for one in (folder, elsewhere):
        one.mkdir()
        (one / "store").symlink_to(by_hand["folder"] / "store")
    joins = [words[0], "search", "--run-name", "crowd", "--store", folder / "store", "--worker", "1", "--json"]
    started = [
        subprocess.Popen(command, cwd=one, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for command, one in ((joins, elsewhere), (words, folder))
    ]
    ended = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert json.loads(ended[0][0])["best"] == json.loads(ended[1][0])["best"], "both wait for the whole, and its choice"
    assert [path.name for path in elsewhere.iterdir()] == ["store"], "it has left nothing where it was started"
    trials = facts_of(*words[1:-1], cwd=folder)["trials"]
    assert [(trial["number"], trial["state"]) for trial in trials] == [(n, "COMPLETE") for n in range(3)]
    client = open_client(f"sqlite:///{folder}/var/mlflow/mlflow.db")
    names = [run.info.run_name for run in client.search_runs([client.get_experiment_by_name("digits").experiment_id])]
    assert sorted(names) == ["crowd", "trial 0", "trial 1", "trial 2"]


def test_a_search_on_two_processes_is_the_search_on_one(by_hand, tmp_path):
    """Under a real torchrun: rank 0 alone talks to study and tracker, and both end each trial alike, the hopeless too."""
    words = [
        "search", "--dataset", by_hand["ingest"]["uri"], "--store", "store", "--trials", "4", "--mults-choices", "1-2",
        "--founding-lr", "1e-3", "--lr-low", "0.9", "--lr-high", "0.9", "--trial-epochs", "3", "--epochs", "3", "--held-out-every", "1",
        "--first-rung", "1", "--rung-factor", "4", "--score-n", "64", "--score-steps", "2", "--extractor", "classifier", "--base-channels", "8", "--blocks", "1",
        "--attention-resolution", "4", "--precision", "fp64", "--run-name", "ranks", "--json",
    ]  # fmt: skip
    for folder in ("one", "two"):  # the name is one, as seeds follow from it
        (tmp_path / folder).mkdir()
    torchrun = [Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", "2", "-m", "ddpm.cli"]
    ended = subprocess.run([*torchrun, *words], cwd=tmp_path / "two", capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 1, "rank 0 alone speaks"
    two = json.loads(ended.stdout)["trials"]
    one = facts_of(*words[:-1], cwd=tmp_path / "one")["trials"]
    assert two[0]["state"] == "COMPLETE" and two[0]["fid"] == pytest.approx(one[0]["fid"], rel=1e-3)
    assert [t["state"] for t in one] == [t["state"] for t in two] and {t["state"] for t in two} != {"COMPLETE"}
    client = open_client(f"sqlite:///{tmp_path}/two/var/mlflow/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["ranks", *(f"trial {number}" for number in range(4))]


def test_an_exported_folder_may_be_written_as_a_url(by_hand):
    folder = by_hand["folder"]
    facts_of("export", "--model", "models:/m/1", "--out", "exported", cwd=folder)
    draw = ["sample", "--n", 1, "--sampling-steps", 2, "--model"]
    one = facts_of(*draw, "exported", "--out", "by-path", cwd=folder)
    other = facts_of(*draw, f"file://{folder}/exported", "--out", "by-url", cwd=folder)
    assert Path(one["files"][0]).read_bytes() == Path(other["files"][0]).read_bytes()


def test_a_sampler_of_ones_own_that_is_not_known_here(by_hand):
    folder = by_hand["folder"]
    facts_of("export", "--model", "models:/m/1", "--out", "own", cwd=folder)
    known = json.loads((folder / "own" / "settings.json").read_text())
    (folder / "own" / "settings.json").write_text(json.dumps({**known, "sampler": "mine"}))
    found = ddpm("sample", "--model", "own", "--out", "x", cwd=folder)
    assert found.returncode == 2
    assert "is drawn by the sampler 'mine', which is not known here; name the module" in found.stderr
    assert "$DDPM_EXTENSIONS" in found.stderr and not (folder / "x").exists()


def test_a_damaged_manifest_is_mended_by_ingesting_again(tmp_path):
    words = ["ingest", "digits", "--name", "d", "--image-size", 8, "--store", tmp_path]
    facts = facts_of(*words)
    manifest = Path(facts["uri"])
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-9])
    assert ddpm("verify", facts["uri"]).returncode == 2
    assert facts_of(*words)["uri"] == facts["uri"]
    assert manifest.read_bytes() == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --dataset {uri} --out x --lr 0", "lr: 0.0 will not do"),
        (
            "train --dataset {uri} --out x --channel-mults 1-x-4",
            "channel_mults: '1-x-4' will not do; it must be whole numbers from 1 up, as in 1-2-4",
        ),
        ("train --dataset {uri} --out x --channel-mults 1-2-4-8-16", "image_size: 8 cannot be halved 4 times"),
        ("train --dataset {uri}x --out x", "not a data set's URI"),
        ("train --dataset store/datasets/digits/00.json --out x", "there is no object"),
        ("train --dataset {uri} --out x --preset rainbow", "preset: there is none named 'rainbow'"),
        ("ingest /no/such/folder --name x --store y", "there is no folder /no/such/folder"),
        ("ingest digits --name x/y --store z", "dataset_name"),
        ("sample --model nothing --out x", "there is no checkpoint"),
        ("sample --model models:/m@nobody --out x", "var/mlflow/mlflow.db; m has versions 1, @champion is 1"),
        ("sample --model models:/nobody/1 --out x", "var/mlflow/mlflow.db; the registered models are m"),
        (
            "sample --model models:/m/1 --out x --tracking-uri sqlite:////no/such/x.db",
            "there is no models:/m/1: nothing was ever registered at sqlite:////no/such/x.db; say where",
        ),
        ("sample --model models:/m/1 --n 0 --out x", "n: 0 will not do; it must be from 1"),
        ("sample --model models:/m/1 --sampler magic --out x", "sampler: 'magic'"),
        (
            "sample --model out --sampler ddim --churn 40 --out x",
            "churn: 40.0 will not do; it must be 0 for the sampler ddim",
        ),
        ("sample --model out --sampler heun --churn -40 --out x", "churn: -40.0 will not do"),
        (
            "sample --model out --guidance 3 --out x",
            "guidance: 3.0 will not do; it must be 1 (none) for a model with neither classes nor a guide",
        ),
        (
            "sample --model out --sampling-steps 5000 --out x",
            "sampling_steps: 5000 will not do; it must be at most the model's",
        ),
        (
            "evaluate --generated out --dataset {uri} --store store --extractor classifier --sampling-steps 5000",
            "it must be at most the model's timesteps, 1000",
        ),
        ("evaluate --generated out --dataset {uri} --store store --extractor magic", "extractor: 'magic'"),
        (
            "evaluate --generated out --dataset {uri} --store store --weights /no/weights.pth",
            "there is no file /no/weights.pth",
        ),
        (
            "evaluate --generated broken --dataset {uri} --store store --extractor classifier",
            "broken/0000.png cannot be used: not a picture",
        ),
        (
            "evaluate --generated few --dataset {uri} --store store --extractor classifier --n 32",
            "few holds 1 pictures",
        ),
        (
            "search --dataset {uri} --store store --run-name j --study-storage junk.log --extractor classifier",
            "no journal of Optuna's",
        ),
        (
            "search --dataset {uri} --store store --run-name d --study-storage sqlite:///no/such/x.db",
            "the database cannot be used",
        ),
        ("search --dataset {uri} --store store --run-name d --study-storage redis://x", "the database cannot be used"),
        ("sample --model models:/a'b@champion --out x", "is no reference"),
        ("sample --model {uri} --out x", "is not a checkpoint"),
        ("history --model-name nobody --store store", "no version of nobody was ever decided on"),
        ("register --checkpoint out --report list.json --model-name m", "list.json is damaged: it is []"),
        ("rank nothing.csv", "nothing.csv cannot be read: No such file"),
        ("compare report.json nothing.json", "nothing.json cannot be read: No such file"),
        ("register --checkpoint out --report nothing.json --model-name m", "nothing.json cannot be read: No such file"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(by_hand, words, said):
    found = ddpm(*words.format(uri=by_hand["ingest"]["uri"]).split(), cwd=by_hand["folder"])
    assert found.returncode == 2, found.stderr
    assert said in found.stderr
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ddpm: ")
    assert "Traceback" not in found.stderr
    assert not (by_hand["folder"] / "x").exists()


def test_a_damaged_data_set_is_refused_by_verify(tmp_path):
    facts = facts_of("ingest", "digits", "--name", "d", "--image-size", 8, "--store", tmp_path)
    assert facts_of("verify", facts["dataset"], "--store", tmp_path)["ok"]
    blob = next(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    blob.write_bytes(blob.read_bytes()[:-1])
    found = facts_of("verify", facts["uri"], status=3)
    assert not found["ok"]
    assert blob.name in found["bad"][0]["object"]


def test_a_reader_that_has_seen_enough(by_hand):
    words = [Path(sys.executable).parent / "ddpm", "history", "--model-name", "m", "--store", "store"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        ended = subprocess.run(
            words, cwd=by_hand["folder"], stdout=nobody, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, "")
