"""A Kubernetes with Kubeflow Trainer, and a task of a run in it."""

import os

import pytest
from trainer_stub import OWN_POD, TrainerStub, own_pod, runtime

from ddpm.plan import Plan
from ddpm.run import Run
from ddpm.steps.trainjob import following
from ddpm.steps.trainjob.nodes import Nodes
from ddpm.steps.trainjob.rank import call
from pipelines.cluster import load_cluster
from pipelines.trainjob import nodes_of


class Told:
    """A progress that keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    """Makes one, in which this process is a task's pod."""
    made = []

    def make(*objects, **options):
        made.append(TrainerStub(*(objects or (runtime(), own_pod())), **options))
        monkeypatch.setenv("KUBECONFIG", str(made[-1].kubeconfig(tmp_path / "config", namespace="kubeflow")))
        return made[-1]

    monkeypatch.setenv("KFP_POD_NAME", OWN_POD)
    monkeypatch.setenv("DDPM_PATIENCE", "5")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.01)
    yield make
    for one in made:
        one.close()
    os.environ.pop("DDPM_TRAINJOB", None)


@pytest.fixture
def run(tmp_path):
    parameters = {"run_name": "Mine_1", "store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    return Run(Plan.from_parameters({**parameters, "study_storage": str(tmp_path / "journal"), "source": "digits"}))


@pytest.fixture
def nodes() -> Nodes:
    return nodes_of(load_cluster("gpu-2x8"), 3600)


@pytest.fixture
def wanted():
    """What the ranks are to call."""
    return call("ddpm.steps.train", {"run_name": "mine"}, [{"uri": "s3://bucket/digits"}], {})
