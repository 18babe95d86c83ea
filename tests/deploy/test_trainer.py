"""Kubeflow Trainer's runtime and the tasks' rights: they fit the schemas, the policies, the pipeline and the network."""

import kubernetes_validate
import policies
import pytest
from processes import kustomize
from trainer_stub import check, own_pod, pods_of

from ddpm.steps.trainjob.manifest import Owner, train_job
from pipelines import pipeline
from pipelines.cluster import load_cluster
from pipelines.trainjob import CACHE, nodes_of

CLUSTERS = ["gpu-2x8", "cpu"]


@pytest.fixture(scope="module")
def objects(deploy):
    return {one["kind"]: one for one in kustomize(deploy / "trainer")}


@pytest.fixture(scope="module", params=CLUSTERS)
def pod(request, objects):
    """A node's pod, as the runtime and a run's TrainJob make it together."""
    nodes = nodes_of(load_cluster(request.param), 60)
    job = train_job("ddpm-a", nodes, Owner.of_pod(own_pod()), {"module": "ddpm.steps.train"}, "outcome")
    return pods_of(job, objects["TrainingRuntime"])[0]


def test_they_fit_the_schemas(objects):
    assert set(objects) == {"TrainingRuntime", "Role", "RoleBinding"}
    check(objects["TrainingRuntime"])
    (replicated,) = objects["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
    for version in ("1.30", "1.34"):
        job = {"apiVersion": "batch/v1", "kind": "Job", **replicated["template"]}
        kubernetes_validate.validate(job, version, strict=True)
        for kind in ("Role", "RoleBinding"):
            kubernetes_validate.validate(objects[kind], version, strict=True)


def test_a_node_that_fails_ends_all_and_the_pipeline_alone_tries_again(objects):
    spec = objects["TrainingRuntime"]["spec"]["template"]["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert (spec["failurePolicy"], job["backoffLimit"]) == ({"maxRestarts": 0}, 0)
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_a_training_s_pods_keep_to_the_policies(pod):
    made = [{"kind": "Deployment", "metadata": {"name": "a", "namespace": "kubeflow"}, "spec": {"template": pod}}]
    assert policies.is_restricted(made) == []
    assert policies.is_bounded(made) == []


def test_they_agree_with_the_pipeline_and_the_network(pod, objects, dev):
    assert objects["TrainingRuntime"]["metadata"]["name"] == load_cluster("gpu-2x8").runtime
    assert {one["metadata"]["namespace"] for one in objects.values()} == {policies.TASKS}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts[CACHE] == pipeline.CACHE
    assert pod["spec"]["securityContext"]["runAsUser"] == pipeline.USER
    tasks = [
        source["podSelector"]
        for policy in policies.of_kind(dev, "NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
        for source in rule["from"]
        if source.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
        == policies.TASKS
    ]
    assert tasks and all(policies.matches(selector, pod["metadata"]["labels"]) for selector in tasks)


def test_rights_are_the_least_and_the_tasks_account_is_the_only_one_that_has_any(objects):
    """Elsewhere in deploy/ no service account has a right at all; this one's are in the tasks' namespace."""
    assert policies.rights_are_least([*objects.values()]) == ["RoleBinding ddpm-train: pipeline-runner needs no right"]
    (subject,) = objects["RoleBinding"]["subjects"]
    assert subject["namespace"] == policies.TASKS
