"""Checkpoints to register."""

import hashlib
import json
import shutil

import pytest
import torch

from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World


@pytest.fixture(scope="session")
def checkpoints(digits, tmp_path_factory):
    """Two trained networks of 8x8: their checkpoints' URIs."""
    from ddpm.progress import Quiet

    uris = []
    for seed in (0, 1):
        out = str(tmp_path_factory.mktemp("out"))
        settings = TrainSettings(lr=1e-3, epochs=1, flip=False, train_seed=seed)
        model = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4)
        facts = Trainer(model, settings, digits, out, World(torch.device("cpu"))).run(NoObserver(), Quiet())
        uris.append(facts["checkpoint"])
    return uris


@pytest.fixture
def place(tmp_path, empty_database):
    """A fresh MLflow database's URI."""
    (tmp_path / "mlflow").mkdir()
    shutil.copy(empty_database, tmp_path / "mlflow")
    return f"sqlite:///{tmp_path}/mlflow/mlflow.db"


@pytest.fixture
def report_of():
    """Makes a report of a checkpoint with the figures given."""
    from ddpm.training.checkpoint import read_facts

    def make(uri, fid=2.0, kid=0.2, **measurement):
        known = {"extractor": "classifier", "n": 64, "image_size": 8, "dataset_digest": "abc", **measurement}
        generation = {
            "weights_sha256": read_facts(uri)["sha256"]["ema.safetensors"], "sampler": "ddim", "sampling_steps": 5,
        }  # fmt: skip
        key = hashlib.sha256(json.dumps([uri, fid, kid, known]).encode()).hexdigest()
        return {
            "key": f"reports/{key}", "metric": "fid_classifier", "fid": fid, "fid_std": 0.1, "kid": kid, "kid_std": 0.01, "n": 64,
            "copying": {"share": 0.0, "share_held_out": 0.0, "excess_low": -0.1},
            "noise_floor": {"fid": 0.1, "kid": 0.0}, "protocol": {"measurement": known, "generation": generation},
        }  # fmt: skip

    return make
