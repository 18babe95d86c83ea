"""What the doctor's tests look over: a cluster in order, and what its parts are otherwise."""

import json

from kubernetes_stub import api_server, config_map, node, secret

PLACES = {
    "DDPM_STORE": "s3://bucket/ddpm", "DDPM_S3_ENDPOINT_URL": "http://object-store:9000", "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "DDPM_STUDY_STORAGE": "postgresql+psycopg://optuna@postgres/optuna",
}  # fmt: skip
KEYS = {"DDPM_S3_ACCESS_KEY_ID": "an-access-key", "DDPM_S3_SECRET_ACCESS_KEY": "a-very-secret-key"}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
# As KFP 2.17 ships it.
SHIPPED = config_map(
    "workflow-controller-configmap",
    {
        "executor": "imagePullPolicy: IfNotPresent\n",
        "workflowDefaults": "spec:\n  templateDefaults:\n    retryStrategy: {limit: '2', retryPolicy: OnError}\n",
    },
)
MENDED = config_map(
    "workflow-controller-configmap",
    {
        "executor": "resources:\n  requests: {cpu: 10m, memory: 64Mi}\n  limits: {cpu: 500m, memory: 512Mi}\n",
        "workflowDefaults": "spec:\n  templateDefaults:\n    retryStrategy: {limit: '2', retryPolicy: OnError}\n",
    },
)
EVERYWHERE = config_map(
    "workflow-controller-configmap",
    {"workflowDefaults": "spec:\n  templateDefaults:\n    retryStrategy: {limit: '2', retryPolicy: Always}\n"},
)
PATCH = {"templates": [{"name": "retry-system-container-impl", "retryStrategy": {"retryPolicy": "Always"}}]}
PATCHED = api_server([{"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": json.dumps(PATCH)}])
WELL = (config_map("ddpm", PLACES), secret("ddpm", KEYS), MENDED, PATCHED, node("gpu-1", 1), node("cpu-1"))


def about(found, what):
    return [(state, words) for state, words in found if words.startswith(what)]
