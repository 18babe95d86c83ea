"""Nodes that would take the pods: with the accelerators, the labels, and no taint that is not tolerated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.cluster import Cluster, Pods, Toleration
from pipelines.doctor.finding import Findings, ok, wrong


def look(nodes: Sequence[Any], cluster: Cluster) -> Findings:
    for kind, pods in cluster.kinds().items():
        yield from _of_kind(nodes, kind, pods, cluster.nodes if kind == "train" else 1)


def _of_kind(nodes: Sequence[Any], kind: str, pods: Pods, needed: int) -> Findings:
    """What of the nodes would take such pods, `needed` of them at a time."""
    what = f"{pods.accelerators} × {pods.accelerator}" if pods.accelerators else "their pods"
    left = list(nodes)
    steps = f"{kind} steps"
    for holds, nothing in (
        (lambda node: _count(node, pods.accelerator) >= pods.accelerators,
         f"no node has {what}; add one, wait for the autoscaler, or ask for less (CLUSTER=…)"),
        (lambda node: pods.node_selector.items() <= (node.metadata.labels or {}).items(),
         f"no node with {what} has the labels of node_selector, {_pairs(pods.node_selector)}"),
        (lambda node: not node.spec.unschedulable, f"the nodes for {what} are cordoned; kubectl uncordon NODE"),
        (lambda node: _fits(node, pods),
         f"no node for {what} has {pods.cpu_request} CPUs and {pods.memory_request} of memory for a pod; ask for less (CLUSTER=…)"),
    ):  # fmt: skip
        left = [node for node in left if holds(node)]
        if not left:
            yield wrong(f"{steps}: {nothing}")
            return
    free = [node for node in left if not not_tolerated(node, pods.tolerations)]
    if free:
        would = f"{steps}: {len(free)} of {len(nodes)} nodes would take {what}"
        if sum(_many(node, pods, needed) for node in free) >= needed:
            yield ok(would)
        else:
            yield wrong(
                f"{would}, and not {needed} times at once, as train.nodes asks; add nodes, wait for the autoscaler, or ask for less (CLUSTER=…)"
            )
        return
    taints = sorted({_taint(taint) for node in left for taint in not_tolerated(node, pods.tolerations)})
    yield wrong(
        f"{steps}: the nodes for {what} have taints that no toleration is for: {', '.join(taints)}; name them in {kind}.tolerations of a file for CLUSTER=… (docs/cluster.md)"
    )


def not_tolerated(node: Any, tolerations: Sequence[Toleration]) -> list[Any]:
    """A node's taints that keep the pods away."""
    taints = [taint for taint in node.spec.taints or [] if taint.effect in ("NoSchedule", "NoExecute")]
    return [taint for taint in taints if not any(_tolerates(one, taint) for one in tolerations)]


def _tolerates(one: Toleration, taint: Any) -> bool:
    if one.effect and one.effect != taint.effect:
        return False
    if one.operator == "Exists":
        return one.key in ("", taint.key)
    return one.key == taint.key and one.value == (taint.value or "")


def _count(node: Any, accelerator: str) -> int:
    return int((node.status.allocatable or {}).get(accelerator, 0))


def _fits(node: Any, pods: Pods) -> bool:
    """Whether the node is large enough for such a pod, were it alone there."""
    from kubernetes.utils import parse_quantity

    room, asked = node.status.allocatable or {}, {"cpu": pods.cpu_request, "memory": pods.memory_request}
    return all(parse_quantity(room[what]) >= parse_quantity(much) for what, much in asked.items() if what in room)


def _many(node: Any, pods: Pods, most: int) -> int:
    """How many such pods have room there at a time, were they alone; at most so many."""
    from kubernetes.utils import parse_quantity

    asked = {"cpu": pods.cpu_request, "memory": pods.memory_request}
    if pods.accelerators:
        asked[pods.accelerator] = str(pods.accelerators)
    room = node.status.allocatable or {}
    return min(
        [
            most,
            *(int(parse_quantity(room[what]) / parse_quantity(much)) for what, much in asked.items() if what in room),
        ]
    )


def _taint(taint: Any) -> str:
    return f"{taint.key}{f'={taint.value}' if taint.value else ''}:{taint.effect}"


def _pairs(labels: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
