"""Every object fits the schemas: Kubernetes' own, strictly, and a short one of ours for KServe's."""

import functools
import json

import jsonschema
import kubernetes_validate
import pytest
from kubernetes_validate import utils
from processes import kustomize

VERSIONS = ["1.30", "1.34"]  # an old one that is about, and that of the cluster where the pipeline was run
INFERENCE_SERVICE = "serving.kserve.io/v1beta1"
# KServe's own fields, by its CRD of 0.20; what is a pod's is held to Kubernetes' PodSpec. kubernetes-validate has no CRDs.
PREDICTOR = {
    "minReplicas": {"type": "integer", "minimum": 0},
    "maxReplicas": {"type": "integer", "minimum": 1},
    "scaleMetric": {"enum": ["cpu", "memory", "concurrency", "rps"]},
    "scaleTarget": {"type": "integer", "minimum": 1},
    "timeout": {"type": "integer", "minimum": 1},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
}
SCHEMA = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": INFERENCE_SERVICE},
        "kind": {"const": "InferenceService"},
        "metadata": {"type": "object", "required": ["name", "namespace"]},
        "spec": {
            "type": "object",
            "required": ["predictor"],
            "additionalProperties": False,
            "properties": {"predictor": {"type": "object", "required": ["containers"]}},
        },
    },
}


@pytest.fixture(scope="module", autouse=True)
def _read_once():
    """kubernetes-validate reads two megabytes of schemas anew for each object."""
    kept, utils.schema_contents = utils.schema_contents, functools.cache(utils.schema_contents)
    yield
    utils.schema_contents = kept


def check(one, version):
    if one["apiVersion"] != INFERENCE_SERVICE:
        kubernetes_validate.validate(one, version, strict=True)
        return
    jsonschema.validate(one, SCHEMA)
    predictor = one["spec"]["predictor"]
    jsonschema.validate({name: predictor[name] for name in PREDICTOR if name in predictor}, {"properties": PREDICTOR})
    assert [container["name"] for container in predictor["containers"]] == ["kserve-container"]
    pod = {name: value for name, value in predictor.items() if name not in PREDICTOR}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod}
    kubernetes_validate.validate(whole, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_of_the_base_and_of_every_overlay_fits_its_schema(rendered, deploy, version):
    made = [*rendered.values(), kustomize(deploy / "base")]
    different = {json.dumps(one, sort_keys=True) for objects in made for one in objects}
    for text in sorted(different):
        check(json.loads(text), version)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "NetworkPolicy", "HorizontalPodAutoscaler", "Role"])
def test_a_field_that_there_is_not_is_refused(dev, kind):
    one = next(one for one in dev if one["kind"] == kind)
    one["spec" if "spec" in one else "rules"] = {"repliccas": 2}
    with pytest.raises(kubernetes_validate.ValidationError):
        check(one, VERSIONS[-1])


@pytest.mark.parametrize("field", [("minReplicas", "two"), ("scaleMetric", "moon"), ("volume", []), ("containers", [])])
def test_an_inference_service_that_kserve_would_not_take_is_refused(rendered, field):
    one = next(one for one in rendered["kserve"] if one["kind"] == "InferenceService")
    check(one, VERSIONS[-1])
    one["spec"]["predictor"][field[0]] = field[1]
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError, AssertionError)):
        check(one, VERSIONS[-1])
