"""The TrainJob: what the cluster's file and the step's own pod say is in the pods that come of it, and nothing else is."""

import json

import jsonschema
import pytest
import yaml
from torch.distributed import run as torchrun
from trainer_stub import check, own_pod, pods_of, runtime

from ddpm.errors import WrongInput
from ddpm.steps.trainjob.manifest import Owner, name_of, train_job
from ddpm.steps.trainjob.nodes import VARIABLE, told
from pipelines.cluster import load_cluster
from pipelines.trainjob import nodes_of

MINE = {
    "gpu": {"accelerators": 1, "node_selector": {"pool": "gpu"}, "image_pull_secrets": ["registry"]},
    "train": {
        "nodes": 3, "accelerators": 4, "accelerator": "amd.com/gpu", "cpu_request": "500m", "cpu_limit": "10", "memory_request": "24Gi",
        "memory_limit": "48Gi", "shared_memory": "4Gi", "cache": "100Gi",
        "tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"operator": "Exists", "tolerationSeconds": 60}],
        "labels": {"kueue.x-k8s.io/queue-name": "team", "cost-centre": "art"}, "annotations": {"sidecar.istio.io/inject": "false"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    file = tmp_path_factory.mktemp("cluster") / "mine.yaml"
    file.write_text(yaml.safe_dump(MINE))
    return nodes_of(load_cluster(str(file)), 3600)


@pytest.fixture
def job(nodes):
    owner = Owner.of_pod(own_pod(env=[("MLFLOW_RUN_ID", "abc"), ("DDPM_PROCESSES", "2"), ("DDPM_CACHE", "/elsewhere")]))
    found = train_job("ddpm-mine-1", nodes, owner, {"module": "ddpm.steps.train"}, "outcome")
    check(found)
    return found


@pytest.fixture
def pod(job):
    return pods_of(job, runtime())[2]


def test_each_node_s_pod_asks_for_what_the_cluster_s_file_says(pod):
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "500m", "memory": "24Gi", "amd.com/gpu": "4"},
        "limits": {"cpu": "10", "memory": "48Gi", "amd.com/gpu": "4"},
    }
    assert spec["nodeSelector"] == {"pool": "gpu"}, "gpu's, where train says nothing"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"operator": "Exists", "tolerationSeconds": 60},
    ]
    sizes = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"]}
    assert sizes["cache"] == {"sizeLimit": "100Gi"} and sizes["dshm"] == {"medium": "Memory", "sizeLimit": "4Gi"}
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert pod["metadata"]["labels"]["cost-centre"] == "art"


def test_kueue_admits_the_whole_and_not_each_pod(job, pod):
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert not [name for name in pod["metadata"]["labels"] if name.startswith("kueue")]


def test_it_has_the_step_s_own_image_account_secret_and_places(pod):
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example/ddpm@sha256:0"
    assert pod["spec"]["serviceAccountName"] == "pipeline-runner"
    told = {one["name"]: one.get("value") or one["valueFrom"] for one in container["env"]}
    assert told["DDPM_S3_SECRET_ACCESS_KEY"] == {
        "secretKeyRef": {"name": "ddpm", "key": "DDPM_S3_SECRET_ACCESS_KEY", "optional": True}
    }
    assert told["DDPM_STORE"]["configMapKeyRef"]["key"] == "DDPM_STORE"
    assert (told["MLFLOW_RUN_ID"], told["OMP_NUM_THREADS"]) == ("abc", "2")
    assert {name for name in told if not name.startswith("PET_")} == {
        "DDPM_S3_SECRET_ACCESS_KEY", "DDPM_STORE", "MLFLOW_RUN_ID", "OMP_NUM_THREADS",
    }, "neither the launcher's variables nor what this step alone is told"  # fmt: skip


def test_its_command_is_a_torchrun_that_the_runtime_tells_the_rest(job, pod):
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-m", "torch.distributed.run", "-m", "ddpm.steps.trainjob"]
    call, outcome = container["args"]
    assert (json.loads(call), outcome) == ({"module": "ddpm.steps.train"}, "outcome")
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], job["spec"]["activeDeadlineSeconds"]) == (3, 4, 3600)


def test_nodes_wait_for_each_other_as_long_as_the_job_may_take(pod, monkeypatch):
    """torchrun's own ten minutes are over before a cluster has made its last node."""
    for one in pod["spec"]["containers"][0]["env"]:
        if one["name"].startswith("PET_"):
            monkeypatch.setenv(one["name"], one["value"])
    config, _, _ = torchrun.config_from_args(torchrun.parse_args(["-m", "ddpm.steps.trainjob"]))
    assert (config.rdzv_backend, config.max_nodes) == ("static", 3)
    assert config.rdzv_configs["timeout"] == "3600"


def test_it_is_the_pod_s_own_and_told_from_another_by_what_is_wanted(job, nodes):
    (owner,) = job["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": own_pod()["metadata"]["name"],
        "uid": own_pod()["metadata"]["uid"],
    }

    def wanted(pod, call, outcome):
        return train_job("a", nodes, Owner.of_pod(pod), call, outcome)["metadata"]["annotations"][
            "free-midjourney/wanted"
        ]

    one = wanted(own_pod(), {"module": "a"}, "x")
    assert wanted(own_pod("the-second"), {"module": "a"}, "y") == one, "of a second attempt at the same"
    assert wanted(own_pod(), {"module": "b"}, "x") != one
    assert wanted(own_pod(image="another"), {"module": "a"}, "x") != one


def test_one_folder_of_checkpoints_has_one_name():
    name = name_of("Flowers_102 at 64px, the third time", "s3://bucket/runs/a/final")
    assert name == name_of("Flowers_102 at 64px, the third time", "s3://bucket/runs/a/final")
    assert name != name_of("Flowers_102 at 64px, the third time", "s3://bucket/runs/b/final")
    assert name.startswith("ddpm-flowers-102-at-64px") and len(f"{name}-node-0-63-abcde") <= 63
    assert name_of("___", "a").startswith("ddpm-") and "--" not in name_of("___", "a")


def test_a_pod_that_is_no_task_is_refused():
    stranger = own_pod()
    stranger["spec"]["containers"].pop()
    with pytest.raises(WrongInput, match="has no container main: it is no task of Kubeflow Pipelines"):
        Owner.of_pod(stranger)


@pytest.mark.parametrize(
    ("part", "field"), [("spec", "podTemplateOverrides"), ("metadata", "name"), ("spec", "runtimePatches")]
)
def test_the_schema_of_the_tests_refuses_what_there_is_not(job, part, field):
    job[part][field] = [{"targetJobs": []}]
    with pytest.raises(jsonschema.ValidationError):
        check(job)


@pytest.mark.parametrize("text", ["two", "{}", '{"count": 2}', "[1]"])
def test_what_is_no_word_of_the_compiler_s_is_wrong_input(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(WrongInput, match="DDPM_TRAINJOB: it is not what the pipeline's compiler writes"):
        told()


def test_what_is_told_is_what_was_said(monkeypatch, nodes):
    monkeypatch.setenv(VARIABLE, nodes.to_json())
    assert told() == nodes
    monkeypatch.delenv(VARIABLE)
    assert told() is None
