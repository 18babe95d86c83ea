"""Quotas of the tasks' namespace: they fit the schemas, and each cluster's file of ours fits into them."""

import kubernetes_validate
import pytest
from kubernetes.utils import parse_quantity
from processes import kustomize

from pipelines.cluster import cluster_names, load_cluster
from pipelines.doctor.namespace import COUNTED
from pipelines.pipeline import WORKERS

BESIDE = {
    "requests.cpu": "1",
    "requests.memory": "1Gi",
    "limits.cpu": "4",
    "limits.memory": "4Gi",
}  # drivers, Argo's own


def hard(objects):
    quotas = [one["spec"]["hard"] for one in objects if one["kind"] == "ResourceQuota"]
    return {key: most for quota in quotas for key, most in quota.items()}


@pytest.fixture(scope="module", params=["runs", "alone"])
def objects(request, deploy):
    return kustomize(deploy / "quota" / request.param)


def test_they_fit_the_schemas_and_are_in_one_namespace(objects):
    for one in objects:
        for version in ("1.30", "1.34"):
            kubernetes_validate.validate(one, version, strict=True)
    assert len({one["metadata"]["namespace"] for one in objects}) == 1


@pytest.mark.parametrize("name", cluster_names())
def test_a_run_of_each_cluster_s_file_fits(objects, name):
    """All its search workers at a time, or the nodes of its final training."""
    cluster, most = load_cluster(name), hard(objects)
    for pods, count in ((cluster.gpu, len(WORKERS)), (cluster.train, cluster.nodes)):
        asked = {key: parse_quantity(getattr(pods, COUNTED[key])) for key in most if key in COUNTED}
        asked |= {f"requests.{pods.accelerator}": pods.accelerators}
        for key, much in asked.items():
            beside = parse_quantity(BESIDE.get(key, "0"))
            assert count * much + beside <= parse_quantity(most[key]), (key, name)


def test_where_kubeflow_is_no_pod_is_refused_for_saying_nothing(deploy):
    assert not {*hard(kustomize(deploy / "quota" / "runs"))} & {*COUNTED}
    alone = kustomize(deploy / "quota" / "alone")
    (limits,) = (one["spec"]["limits"][0] for one in alone if one["kind"] == "LimitRange")
    assert {*limits["default"]} == {*limits["defaultRequest"]} == {"cpu", "memory"}
