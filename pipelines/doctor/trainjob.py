"""A final training on several nodes: whether Kubeflow Trainer would take its TrainJob, and whether a task may make one."""

from __future__ import annotations

from ddpm.errors import Outage, WrongInput
from ddpm.steps.trainjob.api import RIGHTS, SECONDS, TrainJobs
from ddpm.steps.trainjob.manifest import GROUP, PLURAL, Owner, name_of, train_job
from ddpm.steps.trainjob.rank import call
from pipelines.cluster import Cluster
from pipelines.doctor.finding import Findings, ok, wrong
from pipelines.trainjob import nodes_of

# The service account that tasks have, by whether Kubeflow Pipelines has one user or several.
ALONE, OF_PROFILE = "pipeline-runner", "default-editor"
KUBEFLOW = "kubeflow"
# What a task asks of Kubernetes (ddpm/steps/trainjob/api.py), and what deploy/trainer allows: nothing else.
NEEDED = {
    (GROUP, PLURAL, ""): ("create", "get", "patch", "delete"),
    ("", "pods", ""): ("get", "list"),
    ("", "pods", "log"): ("get",),
}


def look(namespace: str, cluster: Cluster) -> Findings:
    """Nothing where the training has one node. Raises Kubernetes' ApiException, and urllib3's HTTPError."""
    if cluster.nodes == 1:
        return
    yield from _taken(namespace, cluster)
    yield from _rights(namespace)


def _taken(namespace: str, cluster: Cluster) -> Findings:
    """A TrainJob as a task would make it, in a dry run: the installed version's schema and checks, and its runtime."""
    stranger = Owner("doctor", "00000000-0000-0000-0000-000000000000", "image", "", ())
    job = train_job(
        name_of("doctor", namespace), nodes_of(cluster, 3600), stranger, call("doctor", {}, [], {}), "doctor"
    )
    del job["metadata"]["ownerReferences"]
    try:
        TrainJobs(namespace).create(job, dry_run=True)
    except (WrongInput, Outage) as problem:
        yield wrong(f"TrainJob: {problem}")
    else:
        yield ok(
            f"TrainJob: Kubeflow Trainer would take one of {cluster.nodes} nodes, by TrainingRuntime {cluster.runtime}"
        )


def _rights(namespace: str) -> Findings:
    account = ALONE if namespace == KUBEFLOW else OF_PROFILE
    missing = [
        f"{verb} {'/'.join(filter(None, [resource, part]))}"
        for (group, resource, part), verbs in NEEDED.items()
        for verb in verbs
        if not _may(namespace, account, group, resource, part, verb)
    ]
    if missing:
        yield wrong(f"TrainJob: service account {account}, which tasks have, may not {', '.join(missing)}; {RIGHTS}")
    else:
        yield ok(f"TrainJob: service account {account}, which tasks have, may make, follow and end one")


def _may(namespace: str, account: str, group: str, resource: str, part: str, verb: str) -> bool:
    from kubernetes import client

    asked = client.V1ResourceAttributes(
        namespace=namespace, group=group, resource=resource, subresource=part or None, verb=verb
    )
    whose = f"system:serviceaccount:{namespace}:{account}"
    review = client.V1LocalSubjectAccessReview(
        metadata=client.V1ObjectMeta(namespace=namespace),
        spec=client.V1SubjectAccessReviewSpec(
            user=whose, groups=["system:serviceaccounts", f"system:serviceaccounts:{namespace}"], resource_attributes=asked
        ),
    )  # fmt: skip
    answer = client.AuthorizationV1Api().create_namespaced_local_subject_access_review(
        namespace, review, _request_timeout=SECONDS
    )
    return bool(answer.status.allowed)
