"""The TrainJob of a training, as Kubernetes is given it: trainer.kubeflow.org/v1alpha1, Kubeflow Trainer 2.2 or later.

Of a pod the TrainingRuntime says what is always so (deploy/trainer). The TrainJob adds what the cluster's file says, and
what the step's own pod has: its image, its service account, and the Secret and ConfigMap that its variables come from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddpm.errors import WrongInput
from ddpm.steps.trainjob.nodes import VARIABLE, Nodes

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
JOB = CONTAINER = "node"  # as Kubeflow Trainer wants the job and the container called that train
MANAGER = "free-midjourney/train"  # whose patches of the runtime they are
QUEUE = "kueue.x-k8s.io/"  # labels by which Kueue admits a TrainJob as a whole, and not each of its pods
OUTCOME, WANTED = (
    "free-midjourney/outcome",
    "free-midjourney/wanted",
)  # annotations: where it is left; what was asked for
MAIN = "main"  # the container of a task's pod that runs the task
OURS = ("DDPM_", "MLFLOW_", "PGPASSWORD")  # how variables begin that are the tasks'; the others are the launcher's
NOT_PASSED_ON = (VARIABLE, "DDPM_PROCESSES", "DDPM_CACHE")
RANK = "ddpm.steps.trainjob"  # each process on the nodes (rank.py)

Object = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """The step's own pod, and what of it a training's pods have too."""

    name: str
    uid: str
    image: str
    service_account: str
    env: tuple[Object, ...]

    @classmethod
    def of_pod(cls, pod: Mapping[str, Any]) -> Owner:
        """Out of the pod as Kubernetes has it. Raises WrongInput where it is none of Kubeflow Pipelines'."""
        main = next((one for one in pod["spec"]["containers"] if one["name"] == MAIN), None)
        if main is None:
            raise WrongInput(
                f"pod {pod['metadata']['name']} has no container {MAIN}: it is no task of Kubeflow Pipelines"
            )
        env = [one for one in main.get("env", []) if one["name"].startswith(OURS) and one["name"] not in NOT_PASSED_ON]
        return cls(
            pod["metadata"]["name"], pod["metadata"]["uid"], main["image"], pod["spec"].get("serviceAccountName", ""), tuple(env)
        )  # fmt: skip

    def reference(self) -> Object:
        """By which Kubernetes deletes what it owns when it is gone itself."""
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}


def name_of(run: str, folder: str) -> str:
    """The TrainJob's name: one for each folder of checkpoints; of 63 characters at most with what its pods' names add."""
    words = re.sub(r"[^a-z0-9]+", "-", run.lower())[:24].strip("-")
    return f"ddpm-{words}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}".replace("--", "-")


def train_job(name: str, nodes: Nodes, owner: Owner, call: Mapping[str, Any], outcome: str) -> Object:
    """The TrainJob.

    Args:
        call: what `rank.py` is to call.
        outcome: the name under which rank 0 leaves what came of it; each TrainJob has another.
    """
    env = [
        *owner.env,
        {"name": "OMP_NUM_THREADS", "value": str(nodes.threads)},
        # The first node waits for the last, which may have to be made first; torchrun alone gives up after ten minutes.
        {"name": "PET_RDZV_CONF", "value": f"timeout={nodes.seconds}"},
    ]
    account = {"serviceAccountName": owner.service_account} if owner.service_account else {}
    metadata = {
        "labels": {key: value for key, value in nodes.labels.items() if not key.startswith(QUEUE)},
        "annotations": dict(nodes.annotations),
    }
    pod = {"metadata": metadata, "spec": {**nodes.pod, **account}}
    patch = {"replicatedJobs": [{"name": JOB, "template": {"spec": {"template": pod}}}]}
    spec = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": nodes.runtime},
        "activeDeadlineSeconds": nodes.seconds,
        "trainer": {
            "image": owner.image,
            "command": ["python", "-m", "torch.distributed.run", "-m", RANK],  # the runtime's PET_* say the rest
            "args": [json.dumps(call, sort_keys=True)],
            "env": env,
            "numNodes": nodes.count,
            "numProcPerNode": nodes.processes,
            "resourcesPerNode": {kind: dict(many) for kind, many in nodes.resources.items()},
        },
        "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": patch}}}],
    }
    wanted = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    spec["trainer"]["args"].append(outcome)  # type: ignore[index]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/part-of": "free-midjourney",
                **{key: value for key, value in nodes.labels.items() if key.startswith(QUEUE)},
            },
            "annotations": {OUTCOME: outcome, WANTED: wanted},
            "ownerReferences": [owner.reference()],
        },
        "spec": spec,
    }
