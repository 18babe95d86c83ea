"""What is asked of Kubernetes: TrainJobs and their pods in one namespace, by the client that Kubeflow Pipelines brings.

An answer that does not come is waited for ($DDPM_PATIENCE). What is refused for good is WrongInput, in one line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ddpm.errors import WrongInput
from ddpm.outages import wait_out
from ddpm.progress import announce
from ddpm.steps.trainjob.manifest import CONTAINER, GROUP, PLURAL, VERSION, Object, Owner

SECONDS, HASTY = 20, 1  # for an answer; where this process has about a second left
RIGHTS = "deploy/trainer has the rights and the runtime that are needed (docs/deploy.md)"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
POD_NAMES = ("KFP_POD_NAME", "HOSTNAME")  # which of the environment's variables names this pod
OF_JOB = "jobset.sigs.k8s.io/jobset-name"  # a pod's label; the JobSet has the TrainJob's name
INDEX = "batch.kubernetes.io/job-completion-index"  # a pod's annotation: which node it is, from 0
OVER = ("Succeeded", "Failed")
FULL = "exceeded quota"  # by which a 403 tells of a ResourceQuota that is full, and not of a right that is missing

T = TypeVar("T")


def connect() -> str:
    """Tell Kubernetes' client where its API is: by $KUBECONFIG or ~/.kube/config, or as the pod that this is; why not."""
    import yaml
    from kubernetes import config

    try:
        if file := _kubeconfig():
            config.load_kube_config(file)
        else:
            config.load_incluster_config()
    except (config.ConfigException, OSError, ValueError, yaml.YAMLError) as problem:
        return " ".join(str(problem).split())[:160]
    return ""


def own_namespace() -> str:
    """The namespace of the pod that this is, or the kubeconfig's."""
    if NAMESPACE_FILE.is_file():
        return NAMESPACE_FILE.read_text().strip()
    from kubernetes import config

    _, current = config.list_kube_config_contexts(_kubeconfig())
    return current["context"].get("namespace", "default")


def _kubeconfig() -> str:
    """The file that says where Kubernetes is; empty where there is none. The client itself asks but once, as it is imported."""
    home = Path.home() / ".kube" / "config"
    return os.environ.get("KUBECONFIG", "") or (str(home) if home.exists() else "")


class TrainJobs:
    """The TrainJobs of a namespace: the one that this pod is in, unless another is named.

    Raises WrongInput where there is no Kubernetes to ask; each of its methods Outage, and WrongInput for what is refused.
    """

    def __init__(self, namespace: str = "") -> None:
        if problem := connect():
            raise WrongInput(f"training on several nodes needs Kubernetes' API, and none is known here ({problem})")
        from kubernetes import client

        self._custom, self._core = client.CustomObjectsApi(), client.CoreV1Api()
        self.namespace = namespace or own_namespace()
        self._where = (GROUP, VERSION, self.namespace, PLURAL)

    # -- the TrainJob --------------------------------------------------------------------------------------------------

    def create(self, body: Object, dry_run: bool = False) -> Object | None:
        """Make it; None where there is one of that name. A field that this Kubeflow Trainer does not know is refused."""
        more = {"dry_run": "All"} if dry_run else {}
        return self._asked(
            lambda: self._custom.create_namespaced_custom_object(
                *self._where, body, field_validation="Strict", _request_timeout=SECONDS, **more
            ),
            "create trainjobs", {409: None},
        )  # fmt: skip

    def read(self, name: str, patience: float | None = None) -> Object | None:
        """None where there is none.

        Args:
            patience: seconds for which an outage is waited out; None: $DDPM_PATIENCE.
        """
        seconds = SECONDS if patience is None else HASTY
        return self._asked(
            lambda: self._custom.get_namespaced_custom_object(*self._where, name, _request_timeout=seconds),
            "get trainjobs", {404: None}, patience,
        )  # fmt: skip

    def take_over(self, job: Object, owner: Owner) -> Object | None:
        """Make it this pod's; None where it has changed meanwhile, or is gone."""
        metadata = {
            "resourceVersion": job["metadata"]["resourceVersion"], "ownerReferences": [owner.reference()],
        }  # fmt: skip
        return self._asked(
            lambda: self._custom.patch_namespaced_custom_object(
                *self._where, job["metadata"]["name"], {"metadata": metadata}, _request_timeout=SECONDS
            ),
            "patch trainjobs", {404: None, 409: None},
        )  # fmt: skip

    def delete(self, job: Object, patience: float | None = None) -> None:
        """Begin to end exactly this one, if it is there: its name is free again when its pods are gone. `patience` as above."""
        from kubernetes import client

        metadata = job["metadata"]
        options = client.V1DeleteOptions(
            propagation_policy="Foreground",
            preconditions=client.V1Preconditions(uid=metadata["uid"]),
        )
        self._asked(
            lambda: self._custom.delete_namespaced_custom_object(
                *self._where, metadata["name"], body=options, _request_timeout=SECONDS if patience is None else HASTY
            ),
            "delete trainjobs", {404: None, 409: None}, patience,
        )  # fmt: skip

    # -- pods ----------------------------------------------------------------------------------------------------------

    def own_pod(self) -> Owner:
        """The pod that this process is in. Raises WrongInput where it is in none."""
        name = next((os.environ[name] for name in POD_NAMES if os.environ.get(name)), "")
        found = self._asked(lambda: self._pod(name), "get pods", {404: None}) if name else None
        if found is None:
            raise WrongInput(
                f"training on several nodes is begun by a task of Kubeflow Pipelines, and namespace {self.namespace} has no pod '{name}' ({', '.join(POD_NAMES)})"
            )
        return Owner.of_pod(found)

    def _pod(self, name: str) -> Object:
        from kubernetes import client

        pod = self._core.read_namespaced_pod(name, self.namespace, _request_timeout=SECONDS)
        return client.ApiClient().sanitize_for_serialization(pod)

    def is_at_work(self, owner: Object) -> bool:
        """Whether a pod that a TrainJob names as its owner is there, and not over."""
        found = self._asked(lambda: self._pod(owner["name"]), "get pods", {404: None})
        return bool(found) and found["metadata"]["uid"] == owner["uid"] and found["status"].get("phase") not in OVER

    def pods(self, name: str) -> list[Any]:
        """The pods of a TrainJob, in the order of their nodes."""
        found = self._asked(
            lambda: self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{OF_JOB}={name}", _request_timeout=SECONDS
            ),
            "list pods",
        )  # fmt: skip
        return sorted(found.items, key=lambda pod: (index_of(pod), pod.metadata.name))

    def log(self, pod: str, **which: Any) -> str:
        """What the client's `which` asks for of a pod's log, each line after its time; empty where there is none."""
        return self._asked(
            lambda: self._core.read_namespaced_pod_log(
                pod, self.namespace, container=CONTAINER, timestamps=True, _request_timeout=SECONDS, **which
            ),
            "get pods/log", {400: "", 404: ""},
        )  # fmt: skip

    def _asked(
        self, call: Callable[[], T], what: str, instead: dict[int, Any] | None = None, patience: float | None = None
    ) -> Any:
        """What Kubernetes answers, or what stands there `instead` of an answer with that status."""
        from kubernetes.client.exceptions import ApiException

        try:
            return wait_out(call, _matter, "the step carries on when it is tried again", announce, patience)
        except ApiException as problem:
            if instead is not None and problem.status in instead:
                return instead[problem.status]
            raise WrongInput(f"Kubernetes, asked to {what} in namespace {self.namespace}: {_words(problem)}") from None


def index_of(pod: Any) -> int:
    """Which node it is: 0 has rank 0."""
    return int((pod.metadata.annotations or {}).get(INDEX, 0))


def _matter(problem: Exception) -> str:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    if isinstance(problem, HTTPError):
        return f"Kubernetes' API does not answer ({type(problem).__name__})"
    if isinstance(problem, ApiException) and (problem.status == 429 or problem.status >= 500):
        return f"Kubernetes' API answers with status {problem.status}"
    if isinstance(problem, ApiException) and problem.status == 403 and FULL in _said(problem):
        return f"Kubernetes has no room for it: {_said(problem)}"
    return ""


def _said(problem: Any) -> str:
    """Kubernetes' own words, on one line."""
    try:
        message = json.loads(problem.body or "{}").get("message", "")
    except (ValueError, AttributeError):
        message = ""
    return " ".join((message or problem.reason or f"status {problem.status}").split())[:300]


def _words(problem: Any) -> str:
    """What it says, and what would be right."""
    said = _said(problem)
    if problem.status in (401, 403):
        return f"{said}; {RIGHTS}"
    if problem.status == 404:
        return f"{said}; install Kubeflow Trainer 2.2 or later, for there is none"
    if problem.status in (400, 422):
        return f"{said}; Kubeflow Trainer 2.2 or later is needed, and its TrainingRuntime: {RIGHTS}"
    return said
