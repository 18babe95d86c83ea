"""A stub of Kubernetes' API with Kubeflow Trainer in it: TrainJobs and the pods that come of them.

A TrainJob is checked as the installed version would: by the fields it knows (trainer-2.3.yaml), its webhook's rules, and, in
the pods that its TrainingRuntime and its patches make together, by Kubernetes' own schemas. `Pods` says what the pods do.
"""

import copy
import re
import threading
import uuid
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_stub import TOKEN, VERSION, KubernetesStub

SCHEMAS = yaml.safe_load((Path(__file__).parent / "trainer-2.3.yaml").read_text())
ROOT = Path(__file__).parents[2]
JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/kubeflow/trainjobs"
PODS = "/api/v1/namespaces/kubeflow/pods"
RESERVED = ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")
OWN_POD = "ddpm-abc-system-container-impl-123"


def check(one):
    """Raise jsonschema's ValidationError for an object of Trainer's that it would not take."""
    jsonschema.validate(one, {**SCHEMAS, **SCHEMAS[one["kind"]]})


def runtime(folder=ROOT / "deploy" / "trainer"):
    """The TrainingRuntime of deploy/, as it lies there."""
    return yaml.safe_load((folder / "runtime.yaml").read_text())


def own_pod(name=OWN_POD, image="registry.example/ddpm@sha256:0", env=()):
    """A task's pod as Kubeflow Pipelines makes it, the parts that count here."""
    secret = {"secretKeyRef": {"name": "ddpm", "key": "DDPM_S3_SECRET_ACCESS_KEY", "optional": True}}
    place = {"configMapKeyRef": {"name": "ddpm", "key": "DDPM_STORE", "optional": True}}
    main = {
        "name": "main", "image": image,
        "env": [
            {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "METADATA_GRPC_SERVICE_PORT", "value": "8080"},
            {"name": "DDPM_TRAINJOB", "value": "{}"},
            {"name": "DDPM_S3_SECRET_ACCESS_KEY", "valueFrom": secret},
            {"name": "DDPM_STORE", "valueFrom": place},
            *({"name": key, "value": value} for key, value in env),
        ],
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "kubeflow", "uid": f"uid-of-{name}"},
        "spec": {"serviceAccountName": "pipeline-runner", "containers": [{"name": "wait", "image": "argoexec"}, main]},
        "status": {"phase": "Running"},
    }  # fmt: skip


def pods_of(job, runtime):
    """The pods that Trainer, JobSet and Job make of a TrainJob together, as manifests; checked."""
    spec, trainer = runtime["spec"]["template"]["spec"], job["spec"]["trainer"]
    (replicated,) = spec["replicatedJobs"]
    template = copy.deepcopy(replicated["template"]["spec"]["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})
    for patch in job["spec"].get("runtimePatches", []):
        for one in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            assert one["name"] == replicated["name"], "must not have replicated job that doesn't exist in the runtime"
            _patch(template, one["template"]["spec"]["template"])
    (container,) = template["spec"]["containers"]
    container |= {"image": trainer["image"], "command": trainer["command"], "args": trainer["args"]}
    container["resources"] = trainer["resourcesPerNode"]
    count = trainer["numNodes"]
    found = []
    for index in range(count):
        pod = copy.deepcopy(template)
        pod["metadata"] |= {
            "name": f"{job['metadata']['name']}-node-0-{index}-{uuid.uuid4().hex[:5]}",
            "namespace": "kubeflow",
        }
        pod["metadata"]["labels"] |= {"jobset.sigs.k8s.io/jobset-name": job["metadata"]["name"]}
        pod["metadata"].setdefault("annotations", {})["batch.kubernetes.io/job-completion-index"] = str(index)
        pod["spec"]["containers"][0]["env"] = [
            *trainer["env"],
            {"name": "PET_NNODES", "value": str(count)}, {"name": "PET_NPROC_PER_NODE", "value": str(trainer["numProcPerNode"])},
            {"name": "PET_NODE_RANK", "value": str(index)},
        ]  # fmt: skip
        whole = {"apiVersion": "v1", "kind": "Pod", **pod}
        kubernetes_validate.validate(whole, VERSION, strict=True)
        found.append(whole)
    return found


def _patch(template, patch):
    """Kubernetes' strategic merge, for the fields that there are: lists of what has a name are merged by it."""
    for kind, values in patch.get("metadata", {}).items():
        template["metadata"].setdefault(kind, {}).update(values)
    for field, value in patch.get("spec", {}).items():
        if field == "volumes":
            known = {one["name"]: one for one in template["spec"].get("volumes", [])}
            template["spec"]["volumes"] = [*(known | {one["name"]: one for one in value}).values()]
        elif isinstance(value, dict):
            template["spec"][field] = template["spec"].get(field, {}) | value
        else:
            template["spec"][field] = value


class Pods:
    """What becomes of a TrainJob's pods: here nothing, until a test says so."""

    def begin(self, stub, job, pods): ...

    def end(self, job):
        """End them; True once they are gone."""
        return True

    def log(self, pod):
        return ""


class TrainerStub(KubernetesStub):
    """With a Kubeflow Trainer; `without` fields of a TrainJob's spec, as older ones are.

    `on_read(stub, job)` is called at each look at a TrainJob: so a test lets time pass.
    """

    def __init__(self, *objects, pods=None, without=(), on_read=None, may=lambda attributes: True, **options):
        self.jobs, self.pods, self.logs = {}, {}, {}
        self.doing, self.without, self.on_read, self.may = pods or Pods(), without, on_read, may
        self.away = 0  # so many requests are answered with 503
        self.full = 0  # so many TrainJobs are refused by a quota
        self.lock = threading.RLock()
        self.runtimes = {}
        super().__init__(*objects, **options)

    def add(self, one):
        if one["kind"] == "TrainingRuntime":
            check(one)
            self.runtimes[one["metadata"]["name"]] = one
        elif one["kind"] == "Pod":
            self.pods[one["metadata"]["name"]] = one
        else:
            super().add(one)

    # -- what time and others do ---------------------------------------------------------------------------------------

    def job(self):
        """The one TrainJob that there is."""
        (found,) = self.jobs.values()
        return found

    def say(self, job, kind, reason="", message=""):
        """Give it a condition."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        job.setdefault("status", {}).setdefault("conditions", []).append(condition)

    def phase(self, job, *phases, ended=None, **status):
        """The phases of its pods, in the order of the nodes; `ended`: how the container of those that failed did."""
        mine = [pod for pod in self.pods.values() if _job_of(pod) == job["metadata"]["name"]]
        for pod, phase in zip(mine, phases, strict=True):
            pod["status"] = {"phase": phase, **(status if phase in ("Pending", "Failed") else {})}
            if phase == "Failed" and ended:
                state = {"terminated": {"reason": ended[0], "exitCode": ended[1]}}
                pod["status"]["containerStatuses"] = [
                    {"name": "node", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
                ]

    def gone(self, name):
        """The last of a TrainJob's pods is gone, and with it what was deleted."""
        self.jobs.pop(name, None)
        for pod in [pod for pod, facts in self.pods.items() if _job_of(facts) == name]:
            del self.pods[pod]

    def lose_pod(self, name):
        """A pod is deleted, and Kubernetes deletes what it owned."""
        uid = self.pods.pop(name)["metadata"]["uid"]
        for job in [*self.jobs.values()]:
            if [one["uid"] for one in job["metadata"].get("ownerReferences", [])] == [uid]:
                self.gone(job["metadata"]["name"])

    # -- requests ------------------------------------------------------------------------------------------------------

    def asked(self, method, path, query, body, authorization):
        with self.lock:
            if authorization != f"Bearer {TOKEN}":
                return self.status(401, "Unauthorized")
            if self.away:
                self.away -= 1
                return self.status(503, "ServiceUnavailable")
            for part in self.forbidden:
                if part in path:
                    return self.status(403, "Forbidden", f"{part} is forbidden: User cannot {method.lower()} it")
            if path.endswith("/localsubjectaccessreviews"):
                allowed = self.may(body["spec"]["resourceAttributes"])
                return 201, {**body, "status": {"allowed": allowed}}
            if path.startswith(JOBS):
                return self._of_jobs(method, path.removeprefix(JOBS).strip("/"), query, body)
            if path.startswith(PODS):
                return self._of_pods(path.removeprefix(PODS).strip("/"), query)
            return super().asked(method, path, query, body, authorization)

    def _of_jobs(self, method, name, query, body):
        if not self.runtimes and self.without == "all":
            return 404, "404 page not found"
        if method == "POST":
            return self._create(query, body)
        job = self.jobs.get(name)
        if job is None:
            return self.status(404, "NotFound", f'trainjobs "{name}" not found')
        if method == "GET":
            if self.on_read:
                self.on_read(self, job)
            return (200, copy.deepcopy(job)) if name in self.jobs else self.status(404, "NotFound", "gone")
        if method == "PATCH":
            if body["metadata"]["resourceVersion"] != job["metadata"]["resourceVersion"]:
                return self.status(409, "Conflict")
            job["metadata"] |= {**body["metadata"], "resourceVersion": str(int(job["metadata"]["resourceVersion"]) + 1)}
            return 200, copy.deepcopy(job)
        assert method == "DELETE" and body["propagationPolicy"] == "Foreground"
        if body["preconditions"]["uid"] != job["metadata"]["uid"]:
            return self.status(409, "Conflict")
        job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if self.doing.end(job):
            self.gone(name)
        return 200, copy.deepcopy(job)

    def _create(self, query, body):
        name = body["metadata"]["name"]
        for field in self.without:
            if field in body["spec"]:
                return self.status(400, "BadRequest", f'strict decoding error: unknown field "spec.{field}"')
        assert query["fieldValidation"] == "Strict", "else an unknown field is passed over without a word"
        named = body["spec"]["runtimeRef"]["name"]
        try:
            check(body)
        except jsonschema.ValidationError as problem:
            return self.status(400, "BadRequest", f"strict decoding error: {problem.message}")
        if named not in self.runtimes:
            return self.status(
                422, "Invalid", f"spec.runtimeRef: specified trainingRuntime {named} must be created before"
            )
        if {one["name"] for one in body["spec"]["trainer"]["env"]} & set(RESERVED):
            return self.status(422, "Invalid", "spec.trainer.env: must not have reserved envs")
        pods = pods_of(body, self.runtimes[named])
        assert all(re.fullmatch(r"[a-z0-9-]{1,63}", pod["metadata"]["name"]) for pod in pods)
        if name in self.jobs:
            return self.status(409, "AlreadyExists")
        job = copy.deepcopy(body)
        job["metadata"] |= {"uid": uuid.uuid4().hex, "resourceVersion": "1"}
        if self.full:
            self.full -= 1
            used = "requested: count/trainjobs.trainer.kubeflow.org=1, used: count/trainjobs.trainer.kubeflow.org=2, limited: count/trainjobs.trainer.kubeflow.org=2"
            return self.status(
                403,
                "Forbidden",
                f'trainjobs.trainer.kubeflow.org "{name}" is forbidden: exceeded quota: ddpm, {used}',
            )
        if query.get("dryRun") != "All":
            self.jobs[name] = job
            for pod in pods:
                pod["metadata"]["uid"], pod["status"] = uuid.uuid4().hex, {"phase": "Pending"}
                self.pods[pod["metadata"]["name"]] = pod
            self.doing.begin(self, job, pods)
        return 201, copy.deepcopy(job)

    def _of_pods(self, name, query):
        if name.endswith("/log"):
            assert query["container"] == "node" and query["timestamps"] == "True"
            return 200, self.logs.get(name.removesuffix("/log")) or self.doing.log(name.removesuffix("/log"))
        if name:
            return (200, self.pods[name]) if name in self.pods else self.status(404, "NotFound")
        key, _, value = query["labelSelector"].partition("=")
        found = [pod for pod in self.pods.values() if pod["metadata"].get("labels", {}).get(key) == value]
        return 200, {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": found}


def _job_of(pod):
    return pod["metadata"].get("labels", {}).get("jobset.sigs.k8s.io/jobset-name")
