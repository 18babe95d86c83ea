"""What Kubeflow Pipelines is told, over stand-ins of the objects that it installs itself."""

import json
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from policies import of_kind

from pipelines.pipeline import COMPILED

# As KFP 2.17.0 ships them, without what does not matter here.
API_SERVER = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "ml-pipeline", "namespace": "kubeflow"},
    "spec": {
        "selector": {"matchLabels": {"app": "ml-pipeline"}},
        "template": {
            "metadata": {"labels": {"app": "ml-pipeline"}},
            "spec": {
                "containers": [
                    {
                        "name": "ml-pipeline-api-server",
                        "image": "ghcr.io/kubeflow/kfp-api-server:2.17.0",
                        "env": [
                            {"name": "V2_DRIVER_IMAGE", "value": "ghcr.io/kubeflow/kfp-driver:2.17.0"},
                            {"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": "{}"},
                        ],
                    }
                ]
            },
        },
    },
}
DEFAULTS = {"spec": {"templateDefaults": {"retryStrategy": {"limit": "2", "retryPolicy": "OnError"}}}}
EXECUTOR = {
    "imagePullPolicy": "IfNotPresent",
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
CONTROLLER = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "workflow-controller-configmap", "namespace": "kubeflow"},
    "data": {
        "executor": yaml.safe_dump(EXECUTOR),
        "workflowDefaults": yaml.safe_dump(DEFAULTS),
        "artifactRepository": "s3: {}\n",
    },
}


@pytest.fixture(params=["component", "kubectl patch"])
def patched(request, deploy, tmp_path):
    """The API server and the controller's settings, patched in either way that docs/deploy.md names."""
    installed = {"ml-pipeline.yaml": API_SERVER, "controller.yaml": CONTROLLER}
    for name, one in installed.items():
        (tmp_path / name).write_text(yaml.safe_dump(one))
    if request.param == "component":
        shutil.copytree(deploy / "kubeflow", tmp_path / "kubeflow")
        (tmp_path / "kustomization.yaml").write_text(
            yaml.safe_dump({"resources": [*installed], "components": ["kubeflow"]})
        )
        made = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
        return list(yaml.safe_load_all(made))
    found = []
    for name, patch in (("ml-pipeline.yaml", "retries.yaml"), ("controller.yaml", "executor.yaml")):
        words = [
            "kubectl",
            "patch",
            "--local",
            "--output=yaml",
            "-f",
            tmp_path / name,
            "--patch-file",
            deploy / "kubeflow" / patch,
        ]
        found.append(yaml.safe_load(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    return found


def test_steps_that_ask_for_retries_get_them_for_every_death(patched):
    (server,) = of_kind(patched, "Deployment")
    kubernetes_validate.validate(server, "1.34", strict=True)
    (container,) = server["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert told.keys() == {"V2_DRIVER_IMAGE", "COMPILED_PIPELINE_SPEC_PATCH"}, "what was there stays"
    (template,) = json.loads(told["COMPILED_PIPELINE_SPEC_PATCH"])["templates"]
    assert template["name"] == "retry-system-container-impl"
    assert template["retryStrategy"] == {"retryPolicy": "Always"}, (
        "how often, and with which pauses, is the task's to say"
    )
    # Argo refuses a workflow with a template of no type, which the patch would add where no step asks for retries.
    assert template["container"]["image"]


def test_the_tasks_are_of_the_template_that_is_patched():
    """KFP names the template of a task by what it asks for: retries, and labels or annotations of its pod."""
    pipeline, platform = yaml.safe_load_all(COMPILED.read_text())
    tasks = [
        task
        for dag in [pipeline["root"], *pipeline["components"].values()]
        for task in dag.get("dag", {}).get("tasks", {}).values()
        if "dag" not in pipeline["components"][task["componentRef"]["name"]]
    ]
    assert len(tasks) == 8 + 5, "a second set goes through five of them once more"
    assert all(task["retryPolicy"]["maxRetryCount"] for task in tasks)
    assert not [
        name
        for name, one in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items()
        if "podMetadata" in one
    ]


def test_argo_s_own_containers_say_what_they_take_and_the_rest_stays(patched):
    (controller,) = of_kind(patched, "ConfigMap")
    told = {key: yaml.safe_load(text) for key, text in controller["data"].items()}
    resources = told["executor"].pop("resources")
    assert {kind: set(amounts) for kind, amounts in resources.items()} == {
        name: {"cpu", "memory"} for name in ("requests", "limits")
    }
    assert told == {"executor": EXECUTOR, "workflowDefaults": DEFAULTS, "artifactRepository": {"s3": {}}}
