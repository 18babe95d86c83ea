"""The doctor, run in an environment of its own."""

import os

import pytest
from kubernetes_stub import KubernetesStub
from looked_over import KEYS

from pipelines.doctor.__main__ import main
from pipelines.doctor.finding import OK, UNKNOWN, WRONG


@pytest.fixture(autouse=True)
def environment(tmp_path):
    """Nothing of this shell's, and what the program takes over is gone with the test."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("KFP_", "DDPM_", "MLFLOW_TRACKING", "AWS_", "PG")):
            del os.environ[name]
    os.environ.update(KUBECONFIG=str(tmp_path / "none"), HOME=str(tmp_path), DDPM_CACHE=str(tmp_path / "cache"))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def doctor(tmp_path, capsys):
    """Runs it with a Kubernetes of these objects, and gives its exit status and its findings."""
    made = []

    def run(*words, objects=None, **stub):
        if objects is not None:
            made.append(KubernetesStub(*objects, **stub))
            os.environ["KUBECONFIG"] = str(made[-1].kubeconfig(tmp_path / "config"))
        status = main(["--poll-seconds", "0.05", *words])
        told = capsys.readouterr()
        *lines, last = told.out.splitlines()
        found = [(line[: len(UNKNOWN)].strip(), line[len(UNKNOWN) + 2 :]) for line in lines]
        counts = [sum(state == one for state, _ in found) for one in (WRONG, UNKNOWN, OK)]
        assert last == "{} wrong, {} not looked at, {} ok".format(*counts)
        assert status == (3 if counts[0] else 0)
        assert KEYS["DDPM_S3_SECRET_ACCESS_KEY"] not in told.out + told.err
        return status, found

    yield run
    for one in made:
        one.close()
