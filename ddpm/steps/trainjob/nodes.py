"""The nodes of a training on more than one: how many there are, and what the pod on each asks for.

$DDPM_TRAINJOB says it, which the compiled pipeline sets where a cluster's file has `train.nodes` above 1.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddpm.errors import WrongInput

VARIABLE = "DDPM_TRAINJOB"


@dataclass(frozen=True)
class Nodes:
    """What is asked for. What is a pod's is in Kubernetes' own words."""

    count: int
    processes: int  # on each: one an accelerator
    threads: int  # of each process, on its share of the processors
    runtime: str  # the TrainingRuntime by which the pods are made
    seconds: int  # after which Kubeflow Trainer ends it
    resources: Mapping[str, Mapping[str, str]]  # of each pod's one container
    pod: Mapping[str, Any]  # of the pod's spec: nodeSelector, tolerations, imagePullSecrets, volumes
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def told() -> Nodes | None:
    """What this task is told of nodes; None where it trains by itself. Raises WrongInput for what is no such thing."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    try:
        return Nodes(**json.loads(text))
    except (ValueError, TypeError) as problem:
        raise WrongInput(
            f"{VARIABLE}: it is not what the pipeline's compiler writes ({problem}); compile it again"
        ) from None
