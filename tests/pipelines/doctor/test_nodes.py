"""Nodes, and whether they would take the tasks' pods."""

import pytest
import yaml
from kubernetes_stub import node
from looked_over import TAINT, WELL, about

from pipelines.doctor.finding import OK, WRONG


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("a")], "gpu steps: no node has 1 × nvidia.com/gpu; add one"),
        ([node("a", 1, taints=[TAINT])], "have taints that no toleration is for: nvidia.com/gpu=present:NoSchedule"),
        ([node("a", 1, cordoned=True)], "gpu steps: the nodes for 1 × nvidia.com/gpu are cordoned"),
        ([node("a", 1, memory="8Gi")], "gpu steps: no node for 1 × nvidia.com/gpu has 4 CPUs and 16Gi of memory"),
    ],
)
def test_nodes_that_would_not_take_the_pods(doctor, nodes, words):
    status, found = doctor(objects=(*WELL[:3], node("cpu-1"), *nodes))
    assert status == 3
    assert [state for state, told in about(found, "gpu steps") if words in told] == [WRONG]
    assert about(found, "cpu steps")[0][0] == OK


def test_nodes_are_looked_at_with_what_the_tasks_will_ask_for(doctor, tmp_path):
    """Four GPUs, a label and a toleration, as CLUSTER=… names them."""
    large = {"cpu": "63", "memory": "500Gi"}
    nodes = [node("a", 1), node("b", 4, {"disk": "fast"}, [TAINT], **large), node("c", 4, **large)]
    status, found = doctor("--cluster", "gpu-4", objects=(*WELL[:4], *nodes))
    assert (status, about(found, "gpu steps")) == (0, [(OK, "gpu steps: 2 of 3 nodes would take 4 × nvidia.com/gpu")])
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"gpu": {"node_selector": {"disk": "fast"}, "image_pull_secrets": ["registry"]}}))
    status, found = doctor("--cluster", str(file), objects=(*WELL[:4], *nodes))
    assert "have taints that no toleration is for" in about(found, "gpu steps")[0][1]
    assert (WRONG, "image pull secrets: there is no Secret registry in namespace kubeflow; create it") in found
    file.write_text(yaml.safe_dump({"gpu": {"node_selector": {"disk": "slow"}}}))
    _, found = doctor("--cluster", str(file), objects=(*WELL[:4], *nodes))
    assert "has the labels of node_selector, disk=slow" in about(found, "gpu steps")[0][1]
