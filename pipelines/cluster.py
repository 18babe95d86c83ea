"""What the tasks ask of a cluster's nodes: `pipelines/clusters/NAME.yaml`, or a file of one's own of the same form.

KFP cannot take these as a run's parameters (or, inside a loop, only for some), so that they are compiled in:
`make compile CLUSTER=NAME|PATH`, `make submit CLUSTER=…`. A file holds what is different from `default.yaml`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from ddpm.errors import WrongInput, did_you_mean
from ddpm.fields import shown
from ddpm.plain_files import read_plain

FOLDER = Path(__file__).parent / "clusters"
DEFAULT = "default"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
OPERATORS = ("Equal", "Exists")
_CPU = re.compile(r"[0-9]+m|[0-9]+(\.[0-9]+)?")
_MEMORY = re.compile(r"[0-9]+(Ki|Mi|Gi|Ti|K|M|G|T)?")
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
# What people look for here, and KFP's file has no place for.
ELSEWHERE = {
    "priority_class": "KFP 2.17's file has no place for it; where Kueue admits the pods, write labels: {kueue.x-k8s.io/priority-class: NAME}, else set podPriorityClassName for all of KFP's workflows (docs/cluster.md)",
}


@dataclass(frozen=True)
class Toleration:
    """A taint that a pod may be scheduled in spite of; empty: any."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None  # how long it stays, once a NoExecute taint has come


@dataclass(frozen=True)
class Pods:
    """What the pods of one kind of steps ask for. Quantities are Kubernetes' own words."""

    accelerator: str  # the resource's name
    accelerators: int
    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    shared_memory: str  # empty: the container's own
    cache: str
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()

    def one_accelerator(self) -> Pods:
        """The same with one accelerator at most, for steps that run as a single process."""
        return dataclasses.replace(self, accelerators=min(1, self.accelerators))


@dataclass(frozen=True)
class Cluster:
    """The pods of the steps that compute (search, evaluate, promote), of the others, and of the final training."""

    cpu: Pods
    gpu: Pods
    train: Pods  # of each node
    nodes: int = 1  # of the final training; more than one: a TrainJob
    runtime: str = "ddpm"  # the TrainingRuntime that it is made by

    @property
    def train_processes(self) -> int:
        """The processes of the final training, on all its nodes: one an accelerator."""
        return self.nodes * max(1, self.train.accelerators)

    def kinds(self) -> dict[str, Pods]:
        """What differs: train only where it asks for something else than gpu."""
        several = {"train": self.train} if self.nodes > 1 or self.train != self.gpu else {}
        return {"gpu": self.gpu, "cpu": self.cpu, **several}


def cluster_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_cluster(which: str = "") -> Cluster:
    """The cluster of this name, or of this file; empty: the default. Raises WrongInput for what will not do, naming it."""
    whole = _read(FOLDER / f"{DEFAULT}.yaml")
    if which and which != DEFAULT:
        named = which in cluster_names()
        path = FOLDER / f"{which}.yaml" if named else Path(which)
        if not named and not path.exists():
            raise WrongInput(
                f"CLUSTER: there is neither a file {shown(which)} nor a cluster of that name; there are {', '.join(cluster_names())}{did_you_mean(which, cluster_names())}"
            )
        for kind, changes in _read(path).items():
            _require(kind in whole, f"{kind}: there is no such kind of steps; there are {', '.join(whole)}")
            _require(isinstance(changes, dict), f"{kind}: {shown(changes)} will not do; write what its pods ask for")
            whole[kind] = {**whole[kind], **changes}
    nodes, runtime = _nodes("train.nodes", whole["train"].pop("nodes")), whole["train"].pop("runtime")
    whole["train"] = {**whole["gpu"], **whole["train"]}
    pods = {kind: _pods(kind, facts) for kind, facts in whole.items()}
    return Cluster(**pods, nodes=nodes, runtime=_object("train.runtime", runtime))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(read_plain(path).decode("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        words = " ".join(str(problem).split())
        raise WrongInput(f"CLUSTER: {path} cannot be read as YAML ({words[:160]})") from None
    _require(isinstance(found, dict), f"{path} will not do; write it as {FOLDER / DEFAULT}.yaml is")
    return found


def _pods(kind: str, facts: Mapping[str, Any]) -> Pods:
    known = [spec.name for spec in dataclasses.fields(Pods)]
    found = {}
    for name, value in facts.items():
        _require(name not in ELSEWHERE, f"{kind}.{name}: {ELSEWHERE.get(name)}")
        _require(name in known, f"{kind}.{name}: there is no such field{did_you_mean(str(name), known)}")
        found[name] = CHECKS[name](f"{kind}.{name}", value)
    pods = Pods(**found)
    for what, size in (("cpu", cpus), ("memory", bytes_of)):
        request, limit = getattr(pods, f"{what}_request"), getattr(pods, f"{what}_limit")
        _require(
            size(request) <= size(limit),
            f"{kind}.{what}_request: {request} is more than {what}_limit, which is {limit}",
        )
    if pods.shared_memory:
        _require(
            bytes_of(pods.shared_memory) < bytes_of(pods.memory_limit),
            f"{kind}.shared_memory: {pods.shared_memory} counts into memory_limit, {pods.memory_limit}, and must be less",
        )
    return pods


def cpus(quantity: str) -> Decimal:
    """A quantity of processors as a number of them."""
    return Decimal(quantity[:-1]) / 1000 if quantity.endswith("m") else Decimal(quantity)


def bytes_of(quantity: str) -> int:
    """A quantity of memory or disk in bytes."""
    number = quantity.rstrip("KMGTi")
    return int(number) * _UNITS.get(quantity[len(number) :], 1)


# -- the fields --------------------------------------------------------------------------------------------------------


def _quantity(pattern: re.Pattern[str], example: str, empty: bool = False) -> Callable[[str, Any], str]:
    def checked(name: str, value: Any) -> str:
        text = str(value) if type(value) in (int, float) else value
        fits = isinstance(text, str) and bool(pattern.fullmatch(text)) and text.strip("0.mKMGTi") != ""
        _require(fits or (empty and text == ""), f"{name}: {shown(value)} will not do; write {example}")
        return text

    return checked


def _words(name: str, value: Any) -> str:
    _require(
        isinstance(value, str) and bool(_LABEL.fullmatch(value)), f"{name}: {shown(value)} is no name of a resource"
    )
    return value


def _count(name: str, value: Any) -> int:
    _require(
        type(value) is int and 0 <= value <= 64, f"{name}: {shown(value)} will not do; write how many, from 0 to 64"
    )
    return value


def _nodes(name: str, value: Any) -> int:
    _require(
        type(value) is int and 1 <= value <= 64, f"{name}: {shown(value)} will not do; write how many, from 1 to 64"
    )
    return value


def _object(name: str, value: Any) -> str:
    fits = isinstance(value, str) and bool(_OBJECT.fullmatch(value))
    _require(fits, f"{name}: {shown(value)} is no name of an object of Kubernetes'")
    return value


def _mapping(name: str, value: Any) -> dict[str, str]:
    _require(
        isinstance(value, dict), f"{name}: {shown(value)} will not do; write names and values, as in {{disk: fast}}"
    )
    for key, words in value.items():
        _require(isinstance(key, str) and bool(_LABEL.fullmatch(key)), f"{name}: {shown(key)} is no name of a label")
        _require(isinstance(words, str), f'{name}.{key}: {shown(words)} is no text; put it in quotes, as in "{words}"')
    return dict(value)


def _labels(name: str, value: Any) -> dict[str, str]:
    """As above; Kubernetes takes fewer values of a label than of an annotation."""
    found = _mapping(name, value)
    for key, words in found.items():
        _label_value(f"{name}.{key}", words)
    return found


def _label_value(name: str, value: str) -> None:
    _require(
        bool(_LABEL_VALUE.fullmatch(value)),
        f"{name}: {shown(value)} is no value of a label; write at most 63 letters, digits, '-', '_' and '.', the first and the last a letter or a digit",
    )


def _names(name: str, value: Any) -> tuple[str, ...]:
    fits = isinstance(value, list) and all(isinstance(one, str) and _OBJECT.fullmatch(one) for one in value)
    _require(fits, f"{name}: {shown(value)} will not do; write the Secrets' names, as in [registry]")
    return tuple(value)


def _tolerations(name: str, value: Any) -> tuple[Toleration, ...]:
    _require(isinstance(value, list), f"{name}: {shown(value)} will not do; write a list, as in a pod's own")
    return tuple(_toleration(f"{name}[{place}]", one) for place, one in enumerate(value))


def _toleration(name: str, value: Any) -> Toleration:
    known = ("key", "operator", "value", "effect", "tolerationSeconds")
    _require(isinstance(value, dict), f"{name}: {shown(value)} will not do; write key, operator, value and effect")
    for part, words in value.items():
        _require(part in known, f"{name}.{part}: there is no such field; there are {', '.join(known)}")
        if part == "tolerationSeconds":
            _require(type(words) is int, f"{name}.{part}: {shown(words)} is no number of seconds")
        else:
            _require(
                isinstance(words, str), f'{name}.{part}: {shown(words)} is no text; put it in quotes, as in "{words}"'
            )
    found = Toleration(
        value.get("key", ""), value.get("operator", "Equal"), value.get("value", ""), value.get("effect", ""), value.get("tolerationSeconds"),
    )  # fmt: skip
    _require(found.operator in OPERATORS, f"{name}.operator: {shown(found.operator)} is neither Equal nor Exists")
    _require(
        not found.effect or found.effect in EFFECTS,
        f"{name}.effect: {shown(found.effect)} is none of {', '.join(EFFECTS)}",
    )
    _require(bool(found.key) or found.operator == "Exists", f"{name}: without a key its operator must be Exists")
    _label_value(f"{name}.value", found.value)
    _require(
        not found.key or bool(_LABEL.fullmatch(found.key)), f"{name}.key: {shown(found.key)} is no name of a taint"
    )
    _require(found.operator == "Equal" or not found.value, f"{name}.value: with Exists there is none")
    return found


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "accelerator": _words,
    "accelerators": _count,
    "cpu_request": _quantity(_CPU, 'processors, as in "4" or 500m'),
    "cpu_limit": _quantity(_CPU, 'processors, as in "4" or 500m'),
    "memory_request": _quantity(_MEMORY, "memory, as in 16Gi"),
    "memory_limit": _quantity(_MEMORY, "memory, as in 16Gi"),
    "shared_memory": _quantity(_MEMORY, 'memory, as in 8Gi, or ""', empty=True),
    "cache": _quantity(_MEMORY, "a size, as in 32Gi"),
    "node_selector": _labels,
    "tolerations": _tolerations,
    "labels": _labels,
    "annotations": _mapping,
    "image_pull_secrets": _names,
}


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise WrongInput(f"CLUSTER: {words}")
