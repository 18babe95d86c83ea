"""What the tasks are given, quotas, and what is tried again."""

import json
import os

import pytest
from kubernetes_stub import KubernetesStub, api_server, config_map, node, quota, secret
from looked_over import EVERYWHERE, KEYS, MENDED, PATCHED, PLACES, SHIPPED, WELL, about

from pipelines.doctor.finding import OK, UNKNOWN, WRONG


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ((secret("ddpm", KEYS),), "there is no ConfigMap ddpm in namespace kubeflow: tasks find no store"),
        ((config_map("ddpm", PLACES),), "there is no Secret ddpm in namespace kubeflow: tasks have no credentials"),
        ((config_map("ddpm", {**PLACES, "DDPM_STORE": ""}),), "ConfigMap ddpm has no DDPM_STORE, and this shell exports none"),
        (
            (config_map("ddpm", {**PLACES, "AWS_ENDPOINT_URL": "http://s3:9000"}),),
            "no task reads its key AWS_ENDPOINT_URL (did you mean DDPM_S3_ENDPOINT_URL?)",
        ),
        ((secret("ddpm", {"DDPM_JUDGE_KEYS": "x"}),), "no task reads its key DDPM_JUDGE_KEYS (did you mean DDPM_JUDGE_KEY?)"),
        ((secret("ddpm", {"DDPM_S3_ACCESS_KEY_ID": "x"}),), "Secret ddpm has one of DDPM_S3_ACCESS_KEY_ID and"),
        ((secret("ddpm-promote", {"DDPM_PROMOTER_USERNAME": "a"}),), "Secret ddpm-promote has no DDPM_PROMOTER_PASSWORD; add it"),
        (
            (config_map("ddpm", {**PLACES, "DDPM_STUDY_STORAGE": "postgresql://o:tr0ub4dor@db/o"}),),
            "ConfigMap ddpm: DDPM_STUDY_STORAGE holds a password; put that into the Secret",
        ),
    ],
)  # fmt: skip
def test_what_the_tasks_are_given(doctor, objects, words):
    status, found = doctor(objects=objects)
    assert status == 3
    (told,) = [told for state, told in found if state == WRONG and words in told]
    assert "tr0ub4dor" not in told


def test_without_a_config_map_the_places_may_be_exported_here(doctor):
    os.environ.update(PLACES)
    status, found = doctor(objects=(secret("ddpm", {}), MENDED, PATCHED, node("gpu-1", 1)))
    assert status == 0
    assert "`make submit` sends the places that are exported here" in about(found, "there is no ConfigMap")[0][1]


@pytest.mark.parametrize(
    ("hard", "controller", "words"),
    [
        ({"requests.cpu": "64", "limits.memory": "512Gi"}, MENDED, ""),
        ({"pods": "10"}, SHIPPED, ""),
        ({"limits.cpu": "64"}, SHIPPED, "Argo's own init and wait containers are refused"),
        (
            {"limits.memory": "24Gi"},
            MENDED,
            "a pod of the gpu steps asks for limits.memory 32Gi, and 24Gi is all there is",
        ),
        ({"requests.nvidia.com/gpu": "0"}, MENDED, "asks for requests.nvidia.com/gpu 1, and 0 is all there is"),
        (
            {"requests.ephemeral-storage": "1Ti"},
            MENDED,
            "it counts requests.ephemeral-storage, which KFP's file cannot",
        ),
    ],
)
def test_a_quota_that_would_refuse_pods(doctor, hard, controller, words):
    _, found = doctor(objects=(*WELL[:2], node("a", 1), quota("team", hard), controller))
    told = about(found, "ResourceQuota team")
    assert [state for state, _ in told] == [WRONG if words else OK]
    assert words in told[0][1]


@pytest.mark.parametrize(
    ("objects", "state", "words"),
    [
        ((SHIPPED,), WRONG, "Argo's retryPolicy is OnError: deleted pods are tried again, and no exit status"),
        ((config_map("workflow-controller-configmap", {}),), WRONG, "retryPolicy is OnFailure: exit statuses and kills"),
        ((config_map("workflow-controller-configmap", {"config": EVERYWHERE["data"]["workflowDefaults"].replace("spec:", "workflowDefaults:\n spec:", 1).replace("\n  ", "\n   ")}),), WRONG, "of every template"),
        ((SHIPPED, PATCHED), OK, "Always"),
        ((EVERYWHERE,), WRONG, "one failed step begins its run again"),
        ((SHIPPED, api_server([{"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": "{"}])), WRONG, "is no JSON object"),
        ((SHIPPED, api_server([{"name": "OTHER", "value": "x"}])), WRONG, "OnError"),
        ((), UNKNOWN, "there is no ConfigMap workflow-controller-configmap in namespace kubeflow; PROBE=1 tries it out"),
    ],
)  # fmt: skip
def test_what_argo_does_with_a_failed_pod(doctor, objects, state, words):
    _, found = doctor(objects=(*WELL[:2], node("a", 1), *objects))
    ((is_state, is_words),) = about(found, "retries")
    assert is_state == state
    assert words in is_words


def test_a_pod_with_labels_has_a_policy_of_its_own(doctor, tmp_path):
    """Argo's template is another, by the numbers of annotations and labels, and the patch names one."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("gpu: {labels: {kueue.x-k8s.io/queue-name: team}}")
    _, found = doctor("--cluster", str(mine), objects=(*WELL[:2], node("a", 1), SHIPPED, PATCHED))
    ((state, words),) = about(found, "retries")
    assert state == WRONG
    assert "template metadata-0-1-retry-system-container-impl, whose retryPolicy is OnError" in words
    entries = [
        {"name": f"{of}retry-system-container-impl", "retryStrategy": {"retryPolicy": "Always"}}
        for of in ("", "metadata-0-1-")
    ]
    both = api_server([{"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": json.dumps({"templates": entries})}])
    _, found = doctor("--cluster", str(mine), objects=(*WELL[:2], node("a", 1), SHIPPED, both))
    assert about(found, "retries") == [(OK, "retries: Argo's retryPolicy is Always")]


@pytest.mark.parametrize(
    ("data", "state", "words"),
    [
        ({".dockerconfigjson": json.dumps({"auths": {"https://r.example/v1/": {"auth": "YTpiLXNlY3JldA=="}, "b.example": {"auth": "YTpi"}}})}, OK, "registry has a login for b.example, r.example"),
        ({".dockerconfigjson": json.dumps({"auths": {"r.example": {}}, "credsStore": "desktop"})}, WRONG, "Secret registry holds no login that nodes read (.dockerconfigjson)"),
        ({".dockerconfigjson": "{"}, WRONG, "holds no login that nodes read"),
        ({"username": "ann", "password": "a-very-secret-key"}, WRONG, "make it anew by kubectl create secret docker-registry registry --namespace kubeflow"),
    ],
)  # fmt: skip
def test_a_pull_secret_holds_a_login(doctor, tmp_path, data, state, words):
    mine = tmp_path / "mine.yaml"
    mine.write_text("gpu: {image_pull_secrets: [registry]}")
    _, found = doctor("--cluster", str(mine), objects=(*WELL, secret("registry", data)))
    ((is_state, is_words),) = about(found, "image pull secrets")
    assert is_state == state and words in is_words and "c2VjcmV0" not in is_words


def test_what_one_may_not_read_is_said(doctor, tmp_path):
    status, found = doctor(objects=WELL, forbidden=("Secret", "Node"))
    assert status == 0
    assert [state for state, words in found if "you may not read it" in words] == [UNKNOWN, UNKNOWN]
    assert [words.partition(":")[0] for _, words in found if "you may not read it" in words] == ["Secret", "nodes"]


def test_a_kubernetes_that_does_not_answer(doctor, tmp_path, monkeypatch):
    gone = KubernetesStub()
    os.environ["KUBECONFIG"] = str(gone.kubeconfig(tmp_path / "config"))
    gone.close()
    status, found = doctor()
    assert status == 0
    assert about(found, "nodes")[0][1].startswith("nodes: Kubernetes' API does not answer")
