"""What every manifest must keep to: functions over a cluster's objects, each of which returns what is wrong, in words."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Policy = Callable[[list[Object]], list[str]]
TASKS = "kubeflow"  # the namespace of KFP and of the tasks of runs, which is not ours
CLUSTER_WIDE = {"Namespace"}
OURS = "/ddpm-"  # in the name of an image
SHORTEST_PASSWORD = 12
SECRET_WORDS = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY$", re.IGNORECASE)
NO_SECRETS = {
    "AWS_ACCESS_KEY_ID",
    "DDPM_S3_ACCESS_KEY_ID",
    "MLFLOW_TRACKING_USERNAME",
    "DDPM_PROMOTER_USERNAME",
}  # names, not passwords
KNOWN = ("password1234", "changeme", "changeit", "minioadmin", "minio123", "postgres", "password")


@dataclass(frozen=True)
class Pods:
    """The pods that an object makes."""

    name: str
    namespace: str
    labels: dict[str, str]
    spec: Object
    replicas: int  # as many as there may be at once, by autoscaling and during a rollout

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for one in self.spec["containers"] for port in one.get("ports", [])}


def named(one: Object) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def namespace(one: Object) -> str:
    return one["metadata"].get("namespace", "")


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[Object]) -> Iterator[Pods]:
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["maxReplicas"]
        for one in of_kind(objects, "HorizontalPodAutoscaler")
    }
    for one in of_kind(objects, "Deployment", "StatefulSet"):
        spec, name = one["spec"], one["metadata"]["name"]
        surge = spec.get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 0)
        replicas = scaled.get(name, spec.get("replicas", 1)) + surge
        yield Pods(
            named(one), namespace(one), spec["template"]["metadata"]["labels"], spec["template"]["spec"], replicas
        )
    for one in of_kind(objects, "InferenceService"):
        spec = one["spec"]["predictor"]
        yield Pods(named(one), namespace(one), spec.get("labels", {}), spec, spec["maxReplicas"])


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a selector of labels takes these; one that is empty takes all."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def selected(objects: list[Object], selector: Object, where: str) -> list[Pods]:
    return [one for one in pods(objects) if one.namespace == where and matches(selector, one.labels)]


def is_restricted(objects: list[Object]) -> list[str]:
    """Pod Security "restricted", and beyond it a read-only root file system, and no token of Kubernetes'."""
    wrong = []
    for one in pods(objects):
        whole = one.spec.get("securityContext", {})
        wanted = {
            "runAsNonRoot": whole.get("runAsNonRoot") is True,
            "runAsUser": whole.get("runAsUser", 0) > 0,
            "seccompProfile": whole.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "automountServiceAccountToken": one.spec.get("automountServiceAccountToken") is False,
            "serviceAccountName": bool(one.spec.get("serviceAccountName")),
            "host": not any(one.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
            "volumes": not any("hostPath" in volume for volume in one.spec.get("volumes", [])),
        }
        wrong += [f"{one.name}: {name}" for name, holds in wanted.items() if not holds]
        for container in one.containers:
            own = container.get("securityContext", {})
            wanted = {
                "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
                "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
                "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
                "privileged": not own.get("privileged"),
                "runAsUser": own.get("runAsUser", 1) > 0 and own.get("runAsNonRoot", True),
                "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
            }
            wrong += [f"{one.name}, {container['name']}: {name}" for name, holds in wanted.items() if not holds]
    return wrong


def is_bounded(objects: list[Object]) -> list[str]:
    """Every container says what it takes of processor and memory, and every scratch volume has an end."""
    wrong = []
    for one in pods(objects):
        for container in one.containers:
            for kind in ("requests", "limits"):
                told = container.get("resources", {}).get(kind, {})
                wrong += [
                    f"{one.name}, {container['name']}: {kind} of {name}"
                    for name in ("cpu", "memory")
                    if name not in told
                ]
        wrong += [
            f"{one.name}: {volume['name']} has no sizeLimit"
            for volume in one.spec.get("volumes", [])
            if volume.get("emptyDir", {"sizeLimit": 1}).get("sizeLimit") is None
        ]
    return wrong


def images_are_pinned(objects: list[Object]) -> list[str]:
    """Others' images have a digest, ours a tag other than latest, or a digest; and all of ours are one release."""
    images = {(one.name, container["image"]) for one in pods(objects) for container in one.containers}
    wrong = []
    for name, image in sorted(images):
        _, _, tag = image.rpartition("/")[2].partition(":")
        if "@sha256:" in image:
            continue
        if OURS not in image:
            wrong.append(f"{name}: {image} is another's, and has no digest")
        elif tag in ("", "latest"):
            wrong.append(f"{name}: {image} has no tag that stays")
    tagged = {image for _, image in images if OURS in image and "@sha256:" not in image}  # a digest tells no release
    ours = {image.rpartition("/")[2].partition(":")[2] for image in tagged}
    return wrong + ([f"more than one release of ours: {', '.join(sorted(ours))}"] if len(ours) > 1 else [])


def secret_values(one: Object) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in one.get("data", {}).items()} | one.get(
        "stringData", {}
    )


def has_no_default_password(objects: list[Object]) -> list[str]:
    """Secrets are filled in, long, and none that everybody knows; nothing else holds one."""
    wrong = []
    for one in of_kind(objects, "Secret"):
        for key, value in secret_values(one).items():
            if key in NO_SECRETS:
                continue
            weak = len(value) < SHORTEST_PASSWORD or value.lower() in KNOWN
            if weak or "${" in value:
                wrong.append(f"{named(one)}: {key} is not filled in, short, or known to all")
    for one in of_kind(objects, "ConfigMap"):
        wrong += [
            f"{named(one)}: {key} holds a password"
            for key, value in one.get("data", {}).items()
            if re.search(r"://[^/\s:@]+:[^/\s@]+@", value) or (SECRET_WORDS.search(key) and key not in NO_SECRETS)
        ]
    for one in pods(objects):
        wrong += [
            f"{one.name}, {container['name']}: {variable['name']} stands in the manifest"
            for container in one.containers
            for variable in container.get("env", [])
            if SECRET_WORDS.search(variable["name"]) and "value" in variable
        ]
    return wrong


def _references(spec: Object) -> Iterator[tuple[str, str, str | None, bool]]:
    """(kind, name, key or None, optional) of every Secret and ConfigMap that a pod names."""
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for source in container.get("envFrom", []):
            for kind, told in (("Secret", source.get("secretRef")), ("ConfigMap", source.get("configMapRef"))):
                if told:
                    yield kind, told["name"], None, told.get("optional", False)
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for kind, told in (("Secret", source.get("secretKeyRef")), ("ConfigMap", source.get("configMapKeyRef"))):
                if told:
                    yield kind, told["name"], told["key"], told.get("optional", False)
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None, False
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None, False


def references_exist(objects: list[Object]) -> list[str]:
    """What a pod names is there: secrets, settings, their keys, the service account, the volumes, the port of a probe."""
    held = {(one["kind"], namespace(one), one["metadata"]["name"]): one for one in objects}
    wrong = []
    for one in pods(objects):
        for kind, name, key, optional in _references(one.spec):
            there = held.get((kind, one.namespace, name))
            if not optional and (there is None or (key and key not in there.get("data", {}))):
                wrong.append(f"{one.name}: there is no {kind} {name}{f' with {key}' if key else ''}")
        if ("ServiceAccount", one.namespace, one.spec.get("serviceAccountName")) not in held:
            wrong.append(f"{one.name}: there is no ServiceAccount {one.spec.get('serviceAccountName')}")
        claims = held.get(("StatefulSet", one.namespace, one.name.removeprefix("StatefulSet ")), {})
        volumes = {volume["name"] for volume in one.spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in claims.get("spec", {}).get("volumeClaimTemplates", [])}
        for container in one.containers:
            wrong += [
                f"{one.name}: there is no volume {mount['name']}"
                for mount in container.get("volumeMounts", [])
                if mount["name"] not in volumes
            ]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                if port is not None and port not in one.ports and port not in one.ports.values():
                    wrong.append(f"{one.name}: {probe} asks port {port}, which it has not")
    return wrong


def is_probed(objects: list[Object]) -> list[str]:
    """Everything that listens says when it is ready and whether it lives."""
    return [
        f"{one.name}, {container['name']}: no {probe}"
        for one in pods(objects)
        for container in one.spec["containers"]
        for probe in ("readinessProbe", "livenessProbe")
        if container.get("ports") and probe not in container
    ]


def services_find_pods(objects: list[Object]) -> list[str]:
    wrong = []
    for one in of_kind(objects, "Service"):
        found = selected(objects, {"matchLabels": one["spec"]["selector"]}, namespace(one))
        if not found:
            wrong.append(f"{named(one)} selects no pod")
        wrong += [
            f"{named(one)}: {pod.name} has no port {port['targetPort']}"
            for pod in found
            for port in one["spec"]["ports"]
            if port["targetPort"] not in pod.ports
        ]
    return wrong


def budgets_and_scalers_have_targets(objects: list[Object]) -> list[str]:
    """A disruption budget selects pods and lets one go; an autoscaler scales what is there, and nobody else numbers it."""
    wrong = []
    for one in of_kind(objects, "PodDisruptionBudget"):
        if not selected(objects, one["spec"]["selector"], namespace(one)):
            wrong.append(f"{named(one)} selects no pod")
        if not one["spec"].get("maxUnavailable"):
            wrong.append(f"{named(one)} lets no pod go, so that no node can be emptied")
    for one in of_kind(objects, "HorizontalPodAutoscaler"):
        told = one["spec"]["scaleTargetRef"]
        target = [
            other
            for other in of_kind(objects, told["kind"])
            if other["metadata"]["name"] == told["name"] and namespace(other) == namespace(one)
        ]
        if not target:
            wrong.append(f"{named(one)} scales {told['kind']} {told['name']}, which is not there")
        wrong += [
            f"{named(other)} sets replicas, which are {named(one)}'s" for other in target if "replicas" in other["spec"]
        ]
    return wrong


def rights_are_least(objects: list[Object]) -> list[str]:
    """No right to read secrets, to run something in a pod, to give rights, or to everything; none for what runs here."""
    wrong = []
    for one in of_kind(objects, "Role", "ClusterRole"):
        for rule in one["rules"]:
            told = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            denied = {
                "*",
                "secrets",
                "pods/exec",
                "pods/attach",
                "roles",
                "rolebindings",
                "escalate",
                "bind",
                "impersonate",
            }
            if named(one).startswith("ClusterRole") or told & denied:
                wrong.append(f"{named(one)}: {', '.join(sorted(told & denied)) or 'it is cluster-wide'}")
    for one in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        role = one["roleRef"]
        if not [other for other in of_kind(objects, role["kind"]) if other["metadata"]["name"] == role["name"]]:
            wrong.append(f"{named(one)}: there is no {role['kind']} {role['name']}")
        wrong += [
            f"{named(one)}: {subject['name']} needs no right"
            for subject in one["subjects"]
            if subject["kind"] == "ServiceAccount"
        ]
    wrong += [
        f"{named(one)} mounts its token"
        for one in of_kind(objects, "ServiceAccount")
        if one.get("automountServiceAccountToken") is not False
    ]
    return wrong
