"""What the nodes of a TrainJob ask for, by a cluster's file, in Kubernetes' own words."""

from __future__ import annotations

from typing import Any

from ddpm.steps.trainjob import Nodes
from pipelines.cluster import Cluster, Pods, Toleration, cpus

CACHE, SHARED_MEMORY = (
    "cache",
    "dshm",
)  # volumes of the TrainingRuntime (deploy/trainer), which are given their sizes here


def nodes_of(cluster: Cluster, seconds: int) -> Nodes:
    """The nodes of the final training, which is ended after so many seconds."""
    pods = cluster.train
    processes = max(1, pods.accelerators)
    return Nodes(
        count=cluster.nodes,
        processes=processes,
        threads=max(1, int(cpus(pods.cpu_limit)) // processes),
        runtime=cluster.runtime,
        seconds=seconds,
        resources=_resources(pods),
        pod=_pod(pods),
        labels=pods.labels,
        annotations=pods.annotations,
    )


def _resources(pods: Pods) -> dict[str, dict[str, str]]:
    whole = {pods.accelerator: str(pods.accelerators)} if pods.accelerators else {}
    return {
        "requests": {"cpu": pods.cpu_request, "memory": pods.memory_request, **whole},
        "limits": {"cpu": pods.cpu_limit, "memory": pods.memory_limit, **whole},
    }


def _pod(pods: Pods) -> dict[str, Any]:
    """Of the pod's spec, what is said; volumes always, for the runtime's own have no size that would be right for all."""
    memory = {"medium": "Memory", **({"sizeLimit": pods.shared_memory} if pods.shared_memory else {})}
    volumes = [
        {"name": CACHE, "emptyDir": {"sizeLimit": pods.cache}},
        {"name": SHARED_MEMORY, "emptyDir": memory},
    ]
    said = {
        "nodeSelector": dict(pods.node_selector),
        "tolerations": [_toleration(one) for one in pods.tolerations],
        "imagePullSecrets": [{"name": name} for name in pods.image_pull_secrets],
    }
    return {"volumes": volumes, **{name: value for name, value in said.items() if value}}


def _toleration(one: Toleration) -> dict[str, Any]:
    words = {"key": one.key, "operator": one.operator, "value": one.value, "effect": one.effect}
    seconds = {} if one.seconds is None else {"tolerationSeconds": one.seconds}
    return {**{name: value for name, value in words.items() if value}, **seconds}
