"""What Argo does with a step that fails, as its settings say; the probe tries it out."""

from __future__ import annotations

import json

from pipelines.cluster import Cluster
from pipelines.doctor.finding import Findings, ok, unknown, wrong
from pipelines.doctor.namespace import API_SERVER, CONTROLLER, PATCH, Namespace, section

STEPS = "retry-system-container-impl"  # Argo's template of a step that asks for retries, as all of ours do
POLICY = "Always"


def _templates(cluster: Cluster) -> list[str]:
    """What Argo's templates of our steps are called: where a pod is given labels or annotations, by their numbers too."""
    kinds = [cluster.cpu, cluster.gpu, *([cluster.train] if cluster.nodes == 1 else [])]
    named = {(len(pods.annotations), len(pods.labels)) for pods in kinds}
    return [f"metadata-{one[0]}-{one[1]}-{STEPS}" if any(one) else STEPS for one in sorted(named)]


def look(namespace: Namespace, cluster: Cluster) -> Findings:
    """What is tried again: the API server's patch of our steps' templates, or else Argo's default."""
    patch = namespace.patch()
    try:
        templates = (json.loads(patch) if patch else {}).get("templates") or []
        told = {
            one.get("name"): one["retryStrategy"].get("retryPolicy") for one in templates if one.get("retryStrategy")
        }
    except (json.JSONDecodeError, AttributeError):
        yield wrong(f"retries: {PATCH} of deployment {API_SERVER} is no JSON object; mend it")
        return
    needed = _templates(cluster)
    data = namespace.config_map(CONTROLLER, namespace.system)
    if data is None and not all(name in told for name in needed):
        yield unknown(
            f"retries: there is no ConfigMap {CONTROLLER} in namespace {namespace.system}; PROBE=1 tries it out"
        )
        return
    defaults = (section(data or {}, "workflowDefaults").get("spec") or {}).get("templateDefaults") or {}
    default = (defaults.get("retryStrategy") or {}).get("retryPolicy", "OnFailure")
    lacking = [name for name in needed if told.get(name, default) != POLICY]
    if default == POLICY and not told:
        yield wrong(
            f"retries: {CONTROLLER}'s templateDefaults say {POLICY} of every template, those that hold others too: one failed step begins its run again; take it out, and let {PATCH} say it (deploy/kubeflow)"
        )
    elif not lacking:
        yield ok(f"retries: Argo's retryPolicy is {POLICY}")
    else:
        yield wrong(_lacks(lacking[0], told.get(lacking[0], default), STEPS in told))


def _lacks(template: str, policy: str, patched: bool) -> str:
    """That a template of ours has another policy; `patched`: whether the one of pods without labels and annotations has it."""
    what = {
        "OnError": "deleted pods are tried again, and no exit status, no kill and no lack of memory",
        "OnFailure": "exit statuses and kills are tried again, and no deleted pods",
    }.get(policy, "not every death is tried again")
    if template != STEPS and patched:
        return f"retries: a pod with the labels or annotations of CLUSTER is of Argo's template {template}, whose retryPolicy is {policy}: {what}; add an entry of that name to {PATCH}, beside the one that is there (docs/deploy.md), and submit with RETRIES=3 until then"
    return f"retries: Argo's retryPolicy is {policy}: {what}; let it be {POLICY} (deploy/kubeflow does that), and submit with RETRIES=3 until then"
