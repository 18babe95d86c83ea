"""What a training by hand leaves for people: curves and previews as files, and in MLflow where that has a place."""

import csv
import hashlib
import io

import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from ddpm.cli import main
from ddpm.data.manifest import blob_key, canonical
from ddpm.places import kept_tracking
from ddpm.store import open_store
from ddpm.tracking import open_client

TINY = "--base-channels 8 --blocks 1 --attention-resolution 4 --channel-mults 1-2 --flip false --held-out-every 1 --batch-size 16".split()


@pytest.fixture
def dataset(digits, tmp_path):
    """32 training and 8 held-out digits, published."""
    store, shards = open_store(str(tmp_path / "store")), {}
    for side, split, n in (("train", digits.train, 32), ("held_out", digits.held_out, 8)):
        data = save({"images": split.images[:n].numpy(), "labels": split.labels[:n].numpy()})
        sha256 = hashlib.sha256(data).hexdigest()
        store.create(blob_key(sha256), data)
        shards[side] = [{"sha256": sha256, "bytes": len(data), "n": n}]
    manifest = canonical({
        "format_version": 1, "name": "digits", "image_size": 8, "classes": digits.classes, "source": {}, "n": 32, "held_out": 8, "shards": shards,
    })  # fmt: skip
    store.create(f"datasets/digits/{hashlib.sha256(manifest).hexdigest()}.json", manifest)
    return ["--dataset", "digits", "--store", str(tmp_path / "store")]


def curves(out):
    return list(csv.DictReader(io.StringIO((out / "curves.csv").read_text())))


def test_curves_and_previews_are_files_and_go_on_with_the_training(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ["train", *dataset, "--out", "out", *TINY]
    assert main([*words, "--epochs", "1"]) == 0
    assert not (tmp_path / "var" / "mlflow").exists(), "where MLflow has no place, none is made"
    out = tmp_path / "out"
    one = curves(out)
    assert [row["images_seen"] for row in one if row["held_out_loss"]] == ["32"]
    assert all(float(row["loss"]) > 0 for row in one if row["loss"])
    assert (out / "samples" / "000000032.png").exists()
    assert Image.open(out / "denoising.png").height > 8
    assert (out / "noising.png").exists()
    said = capsys.readouterr().err
    assert "10 classes found, not used; --classes 10 tells the network of them" in said
    uri = f"sqlite:///{tmp_path}/m.db"
    assert main([*words, "--epochs", "1", "--tracking-uri", uri]) == 0
    assert curves(out) == one, "done already: nothing is told twice"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    other = tmp_path / "other"
    words[words.index("out")] = "other"
    for _ in range(2):
        assert main([*words, "--epochs", "2"]) == 0
    assert sorted(int(row["images_seen"]) for row in curves(other) if row["held_out_loss"]) == [32, 64]
    client = open_client(uri)
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    (run,) = [run for run in runs if run.data.tags["out"] == str(other)]
    assert (run.info.status, run.data.tags["ddpm.kind"], run.data.params["epochs"]) == ("FINISHED", "training", "2")
    told = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "held_out_loss")]
    kept = [(int(row["images_seen"]), float(row["held_out_loss"])) for row in curves(other) if row["held_out_loss"]]
    assert [step for step, _ in told] == [32, 64]
    assert [value for _, value in kept] == pytest.approx([value for _, value in told], rel=1e-5)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"denoising.png", "noising.png", "images"}


def test_a_training_that_fails_ends_its_run_so(dataset, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/m.db"

    def breaks(*arguments, **named):
        raise torch.cuda.OutOfMemoryError("no memory")

    monkeypatch.setattr("ddpm.training.trainer.Trainer.run", breaks)
    assert main(["train", *dataset, "--out", str(tmp_path / "out"), *TINY, "--tracking-uri", uri]) == 1
    client = open_client(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FAILED"


def test_where_mlflow_has_a_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert kept_tracking() == ""
    (tmp_path / "var" / "mlflow").mkdir(parents=True)
    (tmp_path / "var" / "mlflow" / "mlflow.db").touch()
    assert kept_tracking() == f"sqlite:///{tmp_path}/var/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert kept_tracking() == "http://mlflow:5000"
