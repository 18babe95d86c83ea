"""Whether network policies and quotas say what is meant: functions over a cluster's objects, as in `policies`."""

from __future__ import annotations

from typing import Any

from policies import CLUSTER_WIDE, TASKS, Object, Pods, matches, named, namespace, of_kind, pods, selected

DNS = 53
UNITS = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def policies_select_pods(objects: list[Object]) -> list[str]:
    """Each policy selects pods that exist, names peers that exist (where they are ours), and ports that they listen at."""
    wrong = []
    for one in of_kind(objects, "NetworkPolicy"):
        where, spec = namespace(one), one["spec"]
        found = selected(objects, spec["podSelector"], where)
        if not found:
            wrong.append(f"{named(one)} selects no pod")
        for rule in spec.get("ingress", []):
            wrong += _peers(objects, one, rule.get("from", []))
            if not rule.get("from"):
                wrong.append(f"{named(one)} lets everybody in")
            wrong += [
                f"{named(one)}: {pod.name} does not listen at {port['port']}"
                for pod in found
                for port in rule["ports"]
                if port["port"] not in pod.ports.values()
            ]
        for rule in spec.get("egress", []):
            wrong += _peers(objects, one, rule.get("to", []))
    return wrong


def _peers(objects: list[Object], one: Object, peers: list[Object]) -> list[str]:
    ours = [peer["podSelector"] for peer in peers if "namespaceSelector" not in peer]
    return [
        f"{named(one)}: no pod is {selector}" for selector in ours if not selected(objects, selector, namespace(one))
    ]


def nothing_passes_unsaid(objects: list[Object]) -> list[str]:
    """For every pod some policy closes both directions; what others open is all that passes."""
    closed = {
        direction: [one for one in of_kind(objects, "NetworkPolicy") if direction in one["spec"]["policyTypes"]]
        for direction in ("Ingress", "Egress")
    }
    return [
        f"{pod.name}: nothing closes {direction}"
        for pod in pods(objects)
        for direction, found in closed.items()
        if not any(matches(one["spec"]["podSelector"], pod.labels) and namespace(one) == pod.namespace for one in found)
    ]


def reaches(objects: list[Object], caller: Pods, called: Pods, port: int) -> bool:
    """Whether the policies let one pod of ours ask another at this port: out of the one, and into the other."""
    ways = {"Egress": (caller, called, "egress", "to"), "Ingress": (called, caller, "ingress", "from")}
    return all(
        any(
            matches(one["spec"]["podSelector"], held.labels)
            and any(number["port"] == port for number in rule["ports"])
            and any(
                "namespaceSelector" not in peer and matches(peer["podSelector"], other.labels)
                for peer in rule.get(word, [])
            )
            for one in of_kind(objects, "NetworkPolicy")
            if direction in one["spec"]["policyTypes"]
            for rule in one["spec"].get(key, [])
        )
        for direction, (held, other, key, word) in ways.items()
    )


def tasks_reach(objects: list[Object], called: Pods, port: int) -> bool:
    """Whether the tasks of runs, by the mark that KFP puts on their pods, may ask this pod at this port."""
    return any(
        matches(one["spec"]["podSelector"], called.labels)
        and any(number["port"] == port for number in rule["ports"])
        and any(
            matches(peer.get("namespaceSelector", {}), {"kubernetes.io/metadata.name": TASKS})
            and matches(peer["podSelector"], {"pipelines.kubeflow.org/v2_component": "true"})
            for peer in rule["from"]
            if "namespaceSelector" in peer and "podSelector" in peer
        )
        for one in of_kind(objects, "NetworkPolicy")
        for rule in one["spec"].get("ingress", [])
    )


def names_can_be_asked(objects: list[Object]) -> list[str]:
    """Every pod may ask for names."""
    asking = [
        one
        for one in of_kind(objects, "NetworkPolicy")
        if any(port["port"] == DNS for rule in one["spec"].get("egress", []) for port in rule["ports"])
    ]
    return [
        f"{pod.name} cannot ask for names"
        for pod in pods(objects)
        if not any(matches(one["spec"]["podSelector"], pod.labels) for one in asking)
    ]


def amount(told: Any) -> float:
    """A quantity as Kubernetes writes it, as a number: 250m, 1536Mi, "2"."""
    text = str(told)
    unit = next((unit for unit in UNITS if text.endswith(unit)), "")
    return float(text.removesuffix(unit)) * UNITS.get(unit, 1)


def quota_holds_all(objects: list[Object]) -> list[str]:
    """All pods at their most, by autoscaling and while they are rolled out, find room; and no container is above its limit."""
    wrong = []
    for quota in of_kind(objects, "ResourceQuota"):
        ours = [pod for pod in pods(objects) if pod.namespace == namespace(quota)]
        sums: dict[str, float] = {"pods": sum(pod.replicas for pod in ours)}
        for pod in ours:
            for container in pod.spec["containers"]:
                for kind, told in container["resources"].items():
                    for name, value in told.items():
                        sums[f"{kind}.{name}"] = sums.get(f"{kind}.{name}", 0) + pod.replicas * amount(value)
        claims = [
            claim for one in of_kind(objects, "StatefulSet") for claim in one["spec"].get("volumeClaimTemplates", [])
        ]
        sums["requests.storage"] = sum(amount(claim["spec"]["resources"]["requests"]["storage"]) for claim in claims)
        sums["persistentvolumeclaims"] = len(claims)
        hard = quota["spec"]["hard"]
        wrong += [
            f"{named(quota)}: {name} {hard[name]}, and {total:g} is asked for"
            for name, total in sums.items()
            if name in hard and amount(hard[name]) < total
        ]
    for limit in (one for ranges in of_kind(objects, "LimitRange") for one in ranges["spec"]["limits"]):
        wrong += [
            f"{pod.name}, {container['name']}: {name} above {highest}"
            for pod in pods(objects)
            for container in pod.containers
            for name, highest in limit.get("max", {}).items()
            if amount(container["resources"]["limits"][name]) > amount(highest)
        ]
    return wrong


TASKS_OWN = ("ddpm", "ddpm-promote")  # by these names the compiled pipeline asks for them


def namespaces_are_ours(objects: list[Object]) -> list[str]:
    """Everything is in a namespace that is made here and restricted, or in KFP's, where there is nothing but the tasks' own."""
    made = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in of_kind(objects, "Namespace")}
    wrong = [
        f"Namespace {name} is not restricted"
        for name, labels in made.items()
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted"
    ]
    for one in objects:
        where = namespace(one)
        if one["kind"] in CLUSTER_WIDE or where in made:
            continue
        if where != TASKS or one["kind"] not in ("Secret", "ConfigMap") or one["metadata"]["name"] not in TASKS_OWN:
            wrong.append(f"{named(one)} is in {where or 'no namespace'}")
    return wrong
