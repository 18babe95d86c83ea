"""The namespace in which tasks run: what they are given there."""

from __future__ import annotations

import base64
import difflib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from ddpm.credentials import holds_password
from ddpm.places import VARIABLES
from ddpm.registry import promoter
from ddpm.store import account
from pipelines.cluster import Cluster, Pods
from pipelines.doctor.finding import Finding, Findings, Look, ok, unknown, wrong
from pipelines.logins import registries_in
from pipelines.pipeline import CONFIG_ENV, PROMOTER_SECRET, SECRET, SECRET_ENV

CONTROLLER = "workflow-controller-configmap"
API_SERVER = "ml-pipeline"
PATCH = "COMPILED_PIPELINE_SPEC_PATCH"
LOGINS = ".dockerconfigjson"  # a pull secret's key
SECONDS = 20  # for an answer of Kubernetes'
# What a quota may count, and what of a pod it is compared with.
COUNTED = {
    "cpu": "cpu_request", "requests.cpu": "cpu_request", "limits.cpu": "cpu_limit",
    "memory": "memory_request", "requests.memory": "memory_request", "limits.memory": "memory_limit",
}  # fmt: skip


class Namespace:
    """A namespace, asked through Kubernetes' own client; `system` is the one that Kubeflow Pipelines itself is in.

    Each raises Kubernetes' ApiException, and urllib3's HTTPError where nobody answers; of what is not there, None comes.
    """

    def __init__(self, name: str, system: str) -> None:
        from kubernetes import client

        self._core, self._apps = client.CoreV1Api(), client.AppsV1Api()
        self.name, self.system = name, system

    def config_map(self, name: str, namespace: str = "") -> dict[str, str] | None:
        found = _or_none(self._core.read_namespaced_config_map, name, namespace or self.name)
        return None if found is None else found.data or {}

    def secret(self, name: str) -> dict[str, str] | None:
        found = _or_none(self._core.read_namespaced_secret, name, self.name)
        if found is None:
            return None
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in (found.data or {}).items()}

    def quotas(self) -> dict[str, dict[str, str]]:
        """What each ResourceQuota allows, by name."""
        found = self._core.list_namespaced_resource_quota(self.name, _request_timeout=SECONDS).items
        return {quota.metadata.name: quota.spec.hard or {} for quota in found}

    def patch(self) -> str:
        """What the API server adds to every workflow, as it was told."""
        found = _or_none(self._apps.read_namespaced_deployment, API_SERVER, self.system)
        containers = found.spec.template.spec.containers if found else []
        told = [variable.value or "" for one in containers for variable in one.env or [] if variable.name == PATCH]
        return told[0] if told else ""

    def nodes(self) -> list[Any]:
        return self._core.list_node(_request_timeout=SECONDS).items


def _or_none(read: Callable[..., Any], *names: str) -> Any:
    from kubernetes.client.exceptions import ApiException

    try:
        return read(*names, _request_timeout=SECONDS)
    except ApiException as problem:
        if problem.status != 404:
            raise
        return None


def look(namespace: Namespace, cluster: Cluster) -> Findings:
    yield from asked("ConfigMap", lambda: _config_map(namespace))
    yield from asked("Secret", lambda: itertools.chain(_secret(namespace), _promoter(namespace)))
    yield from asked("image pull secrets", lambda: _pull_secrets(namespace, cluster))
    yield from asked("ResourceQuota", lambda: _quotas(namespace, cluster))


def take_over(namespace: Namespace) -> None:
    """Say in this process what the tasks are told, where this shell does not say it."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    for read, names in ((namespace.config_map, CONFIG_ENV), (namespace.secret, SECRET_ENV)):
        try:
            told = read(SECRET) or {}
        except (ApiException, HTTPError):  # which is a finding already
            continue
        for name in {*told} & {*names}:
            os.environ[name] = os.environ.get(name) or told[name]


def asked(what: str, look: Look) -> Findings:
    """What a look finds; where Kubernetes does not answer it, why not."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield from look()
    except ApiException as problem:
        words = "you may not read it" if problem.status in (401, 403) else f"status {problem.status}"
        yield unknown(f"{what}: Kubernetes says {problem.reason or 'no'} ({words})")
    except HTTPError as problem:
        yield unknown(f"{what}: Kubernetes' API does not answer ({type(problem).__name__})")


def _config_map(namespace: Namespace) -> Findings:
    data = namespace.config_map(SECRET)
    here = [name for name in VARIABLES.values() if os.environ.get(name)]
    if data is None:
        words = f"there is no ConfigMap {SECRET} in namespace {namespace.name}"
        if len(here) == len(VARIABLES):
            yield ok(f"{words}: `make submit` sends the places that are exported here, and `kfp run create` finds none")
        else:
            yield wrong(
                f"{words}: tasks find no store, no MLflow and no study; kubectl create configmap {SECRET} --namespace {namespace.name} --from-literal=DDPM_STORE=s3://… --from-literal=MLFLOW_TRACKING_URI=… --from-literal=DDPM_STUDY_STORAGE=…"
            )
        return
    problems = [*_strange("ConfigMap", data, CONFIG_ENV)]
    missing = [name for name in VARIABLES.values() if not data.get(name) and name not in here]
    if missing:
        problems.append(wrong(f"ConfigMap {SECRET} has no {', '.join(missing)}, and this shell exports none; add them"))
    for name, value in data.items():
        if holds_password(value):
            problems.append(
                wrong(f"ConfigMap {SECRET}: {name} holds a password; put that into the Secret (docs/cluster.md)")
            )
    yield from problems or [ok(f"ConfigMap {SECRET} in namespace {namespace.name}: {', '.join(sorted(data))}")]


def _secret(namespace: Namespace) -> Findings:
    data = namespace.secret(SECRET)
    if data is None:
        yield wrong(
            f"there is no Secret {SECRET} in namespace {namespace.name}: tasks have no credentials but their pods' role; kubectl create secret generic {SECRET} --namespace {namespace.name} --from-literal=DDPM_S3_ACCESS_KEY_ID=… (an empty one says that the role is enough)"
        )
        return
    problems = [*_strange("Secret", data, SECRET_ENV)]
    pair = SECRET_ENV[:2]
    if len([name for name in pair if name in data]) == 1:
        problems.append(wrong(f"Secret {SECRET} has one of {' and '.join(pair)} without the other; add it"))
    named = ", ".join(sorted(data)) or "empty, so that what the pods' role allows must be enough"
    yield from problems or [ok(f"Secret {SECRET} in namespace {namespace.name}: {named}")]


def _promoter(namespace: Namespace) -> Findings:
    """Optional: without it promote has the others' account, and says nothing of it."""
    data = namespace.secret(PROMOTER_SECRET)
    if data is None:
        return
    problems = [*_strange("Secret", data, (*promoter.VARIABLES,), PROMOTER_SECRET)]
    if missing := [name for name in promoter.VARIABLES if not data.get(name)]:
        problems.append(wrong(f"Secret {PROMOTER_SECRET} has no {' and no '.join(missing)}; add it"))
    yield from problems or [
        ok(f"Secret {PROMOTER_SECRET} in namespace {namespace.name}: promote has an account of its own")
    ]


def _strange(kind: str, data: Mapping[str, str], known: tuple[str, ...], which: str = SECRET) -> Iterator[Finding]:
    for name in data:
        if name not in known:
            ours = name.upper().replace(account.STANDARD, account.PREFIX, 1)
            near = difflib.get_close_matches(ours, known, n=1, cutoff=0.7)
            right = f" (did you mean {near[0]}?)" if near else ""
            yield wrong(f"{kind} {which}: no task reads its key {name}{right}; those that are read: {', '.join(known)}")


def _pull_secrets(namespace: Namespace, cluster: Cluster) -> Findings:
    for name in sorted({name for pods in cluster.kinds().values() for name in pods.image_pull_secrets}):
        data = namespace.secret(name)
        if data is None:
            yield wrong(f"image pull secrets: there is no Secret {name} in namespace {namespace.name}; create it")
            continue
        try:
            hosts = registries_in(data.get(LOGINS, ""))
        except (ValueError, RecursionError):
            hosts = []
        if hosts:
            yield ok(f"image pull secrets: {name} has a login for {', '.join(hosts)}")
        else:
            yield wrong(
                f"image pull secrets: Secret {name} holds no login that nodes read ({LOGINS}); make it anew by kubectl create secret docker-registry {name} --namespace {namespace.name} …"
            )


def _quotas(namespace: Namespace, cluster: Cluster) -> Findings:
    quotas = namespace.quotas()
    if not quotas:
        yield ok(f"no ResourceQuota in namespace {namespace.name}")
        return
    problems = [
        wrong(f"ResourceQuota {name}: {problem}")
        for name, hard in quotas.items()
        for problem in _too_much(hard, cluster)
    ]
    if any(key in COUNTED for hard in quotas.values() for key in hard) and not _executor(namespace):
        problems.append(
            wrong(
                f"ResourceQuota {', '.join(quotas)}: Argo's own init and wait containers are refused, for they have no requests and limits; set executor.resources in ConfigMap {CONTROLLER}, namespace {namespace.system} (deploy/kubeflow)"
            )
        )
    yield from problems or [ok(f"ResourceQuota {', '.join(quotas)} takes the pods, Argo's containers too")]


def _executor(namespace: Namespace) -> bool:
    """Whether Argo's own containers have requests and limits."""
    data = namespace.config_map(CONTROLLER, namespace.system) or {}
    resources = (section(data, "executor") or {}).get("resources") or {}
    return bool(resources.get("requests") and resources.get("limits"))


def section(data: Mapping[str, str], name: str) -> dict[str, Any]:
    """A part of the controller's settings, which stand each by itself or all in `config`."""
    found = yaml.safe_load(data.get(name) or "") or (yaml.safe_load(data.get("config") or "") or {}).get(name)
    return found if isinstance(found, dict) else {}


def _too_much(hard: Mapping[str, str], cluster: Cluster) -> Iterator[str]:
    """What of a pod, for it alone, is more than a quota allows."""
    from kubernetes.utils import parse_quantity

    for kind, pods in cluster.kinds().items():
        count = cluster.nodes if kind == "train" else 1
        whose = f"the {count} pods of the train step ask" if count > 1 else f"a pod of the {kind} steps asks"
        for key, most in hard.items():
            ask = _of(pods, key)
            if ask and count * parse_quantity(ask) > parse_quantity(most):
                each = " each" if count > 1 else ""
                yield f"{whose} for {key} {ask}{each}, and {most} is all there is; raise it, or ask for less (CLUSTER=…)"
    for key in hard:
        if "ephemeral-storage" in key:
            yield f"it counts {key}, which KFP's file cannot ask for; take that out of it, or give the namespace a LimitRange with a default"


def _of(pods: Pods, key: str) -> str:
    if key in COUNTED:
        return getattr(pods, COUNTED[key])
    if key in (f"requests.{pods.accelerator}", f"limits.{pods.accelerator}"):
        return str(pods.accelerators)
    return ""
