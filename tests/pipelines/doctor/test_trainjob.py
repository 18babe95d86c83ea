"""A final training on several nodes: Kubeflow Trainer, its runtime, the tasks' rights, and nodes enough at a time."""

import os

import pytest
import yaml
from kubernetes_stub import node
from looked_over import WELL, about
from trainer_stub import TrainerStub, runtime

from pipelines.doctor.__main__ import main
from pipelines.doctor.finding import OK, UNKNOWN, WRONG
from pipelines.doctor.trainjob import NEEDED

LARGE = {"cpu": "96", "memory": "800Gi"}
NODES = [node("gpu-1", 1), node("a", 8, **LARGE), node("b", 8, **LARGE)]


@pytest.fixture
def look(tmp_path, capsys):
    """What the doctor says of a training on two nodes of eight GPUs."""
    made = []

    def run(*objects, cluster="gpu-2x8", nodes=NODES, **options):
        made.append(TrainerStub(*objects, *WELL[:4], node("cpu-1"), *nodes, **options))
        os.environ["KUBECONFIG"] = str(made[-1].kubeconfig(tmp_path / "config"))
        status = main(["--cluster", cluster])
        lines = capsys.readouterr().out.splitlines()
        return status, [(line[: len(UNKNOWN)].strip(), line[len(UNKNOWN) + 2 :]) for line in lines], made[-1]

    yield run
    for one in made:
        one.close()


def test_a_cluster_that_has_what_it_takes(look):
    status, found, stub = look(runtime())
    assert status == 0, found
    assert about(found, "TrainJob") == [
        (OK, "TrainJob: Kubeflow Trainer would take one of 2 nodes, by TrainingRuntime ddpm"),
        (OK, "TrainJob: service account pipeline-runner, which tasks have, may make, follow and end one"),
    ]
    assert about(found, "train steps") == [(OK, "train steps: 2 of 4 nodes would take 8 × nvidia.com/gpu")]
    assert stub.jobs == {}, "a dry run: nothing is changed"


def test_of_one_node_nothing_is_asked(look):
    status, found, stub = look(cluster="default")
    assert status == 0 and about(found, "TrainJob") == [] and about(found, "train steps") == []
    assert not [call for call in stub.calls if call.startswith("POST")]


@pytest.mark.parametrize(
    ("objects", "options", "words"),
    [
        ((), {"without": "all"}, "install Kubeflow Trainer 2.2 or later, for there is none"),
        ((), {}, "specified trainingRuntime ddpm must be created before; Kubeflow Trainer 2.2 or later is needed"),
        ((runtime(),), {"without": ("runtimePatches",)}, 'unknown field "spec.runtimePatches"; Kubeflow Trainer 2.2'),
    ],
    ids=["no Trainer", "no runtime", "an older Trainer"],
)
def test_what_would_not_be_taken(look, objects, options, words):
    status, found, _ = look(*objects, **options)
    assert status == 3
    assert [state for state, told in about(found, "TrainJob") if words in told] == [WRONG]


def test_a_right_that_is_missing_is_named(look):
    status, found, _ = look(runtime(), may=lambda of: of.get("subresource") != "log" and of["verb"] != "patch")
    assert status == 3
    ((state, words),) = [one for one in about(found, "TrainJob") if "service account" in one[1]]
    assert state == WRONG and "may not patch trainjobs, get pods/log; deploy/trainer has" in words


def test_nodes_enough_for_one_and_not_for_all_at_a_time(look, tmp_path):
    status, found, _ = look(runtime(), nodes=NODES[:2])
    assert (status, about(found, "train steps")[0][0]) == (3, WRONG)
    assert "1 of 3 nodes would take 8 × nvidia.com/gpu, and not 2 times at once, as train.nodes asks" in str(found)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"train": {"nodes": 2, "accelerators": 4}}))
    _, found, _ = look(runtime(), nodes=NODES[:2], cluster=str(file))
    assert about(found, "train steps")[0][0] == OK, "one node has room for two pods of four"


def test_rights_in_deploy_are_those_that_are_asked_for():
    from trainer_stub import ROOT

    role, binding = yaml.safe_load_all((ROOT / "deploy/trainer/rights.yaml").read_text())
    given = {
        (group, *resource.partition("/")[::2]): tuple(rule["verbs"])
        for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
    }  # fmt: skip
    assert given == NEEDED
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
