"""`make doctor`'s program, against stubs of both APIs and real servers of the places: each finding, and what to do."""

import base64
import json
import os
import shutil
import threading

import boto3
import pytest
import yaml
from kfp_stub import KubeflowStub
from kubernetes_stub import KubernetesStub, api_server, config_map, node, quota, secret
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from pipelines.doctor.__main__ import main
from pipelines.doctor.finding import OK, UNKNOWN, WRONG
from pipelines.doctor.probe import package

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


@pytest.fixture(autouse=True)
def environment(tmp_path):
    """Nothing of this shell's, and what the program takes over is gone with the test."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("KFP_", "DDPM_", "MLFLOW_TRACKING", "AWS_", "PG")):
            del os.environ[name]
    os.environ.update(KUBECONFIG=str(tmp_path / "none"), HOME=str(tmp_path), DDPM_CACHE=str(tmp_path / "cache"))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def doctor(tmp_path, capsys):
    """Runs it with a Kubernetes of these objects, and gives its exit status and its findings."""
    made = []

    def run(*words, objects=None, **stub):
        if objects is not None:
            made.append(KubernetesStub(*objects, **stub))
            os.environ["KUBECONFIG"] = str(made[-1].kubeconfig(tmp_path / "config"))
        status = main(["--poll-seconds", "0.05", *words])
        told = capsys.readouterr()
        *lines, last = told.out.splitlines()
        found = [(line[: len(UNKNOWN)].strip(), line[len(UNKNOWN) + 2 :]) for line in lines]
        counts = [sum(state == one for state, _ in found) for one in (WRONG, UNKNOWN, OK)]
        assert last == "{} wrong, {} not looked at, {} ok".format(*counts)
        assert status == (3 if counts[0] else 0)
        assert KEYS["DDPM_S3_SECRET_ACCESS_KEY"] not in told.out + told.err
        return status, found

    yield run
    for one in made:
        one.close()


@pytest.fixture
def kubeflow():
    made = []

    def make(*states, **options):
        made.append(KubeflowStub(states or ("SUCCEEDED",), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def about(found, what):
    return [(state, words) for state, words in found if words.startswith(what)]


def test_a_cluster_in_order(doctor, kubeflow):
    """The places' names are the cluster's own, and are not tried from here."""
    server = kubeflow(version="2.17.0")
    status, found = doctor("--endpoint", server.url, objects=WELL)
    assert status == 0
    assert (OK, f"Kubeflow Pipelines 2.17.0 at {server.url}") in found
    assert (OK, "gpu steps: 1 of 2 nodes would take 1 × nvidia.com/gpu") in found
    assert (OK, "retries: Argo's retryPolicy is Always") in found
    assert about(found, "ConfigMap ddpm") == [
        (OK, f"ConfigMap ddpm in namespace kubeflow: {', '.join(sorted(PLACES))}")
    ]
    assert about(found, "Secret ddpm")[0][0] == OK
    assert [state for state, words in found if words.startswith(("object store", "MLflow", "study"))] == [UNKNOWN] * 3


def test_what_is_not_there_is_not_looked_at_and_said_why(doctor):
    status, found = doctor()
    assert status == 0
    assert {state for state, _ in found} == {UNKNOWN}
    assert about(found, "Kubeflow Pipelines")[0][1].endswith("no ENDPOINT=http://HOST:PORT is given, nor KFP_ENDPOINT")
    for what in ("ConfigMap and Secret", "ResourceQuota", "retries", "nodes"):
        ((_, words),) = about(found, what)
        assert "no Kubernetes API is known here" in words and "KUBECONFIG" in words
    for what in ("object store", "MLflow", "study"):
        assert "neither this shell nor the ConfigMap says where it is" in about(found, what)[0][1]


@pytest.mark.parametrize(
    ("version", "state", "words"),
    [
        ("2.17.0", OK, "Kubeflow Pipelines 2.17.0"),
        ("2.16.1", OK, "Kubeflow Pipelines 2.16.1"),
        ("2.15.0", WRONG, "it ignores the security context, and tasks run as root or are refused. Upgrade it to 2.16"),
        ("2.14.4", WRONG, "optional Secrets and ConfigMaps are not optional to it"),
        ("unknown", UNKNOWN, "does not say its version; 2.16 or later is needed"),
        (None, UNKNOWN, "does not say its version"),
    ],
)
def test_the_server_s_version(doctor, kubeflow, version, state, words):
    _, found = doctor("--endpoint", kubeflow(version=version).url)
    ((is_state, is_words),) = about(found, "Kubeflow Pipelines")
    assert is_state == state
    assert words in is_words


def test_a_server_that_is_away_or_asks_for_a_token(doctor, kubeflow):
    assert (WRONG, "no server answers") in [
        (state, words[20:37]) for state, words in about(doctor("--endpoint", "http://127.0.0.1:9")[1], "Kubeflow")
    ]
    _, found = doctor("--endpoint", kubeflow(token="t").url)
    assert "asks for a token; export KFP_TOKEN" in about(found, "Kubeflow")[0][1]


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
    ("nodes", "words"),
    [
        ([node("a")], "gpu steps: no node has 1 × nvidia.com/gpu; add one"),
        ([node("a", 1, taints=[TAINT])], "have taints that no toleration is for: nvidia.com/gpu=present:NoSchedule"),
        ([node("a", 1, cordoned=True)], "gpu steps: the nodes for 1 × nvidia.com/gpu are cordoned"),
        ([node("a", 1, memory="8Gi")], "gpu steps: no node for 1 × nvidia.com/gpu has 4 CPUs and 16Gi of memory"),
    ],
)
def test_nodes_that_would_not_take_the_pods(doctor, nodes, words):
    status, found = doctor(objects=(*WELL[:3], node("cpu-1"), *nodes))
    assert status == 3
    assert [state for state, told in about(found, "gpu steps") if words in told] == [WRONG]
    assert about(found, "cpu steps")[0][0] == OK


def test_nodes_are_looked_at_with_what_the_tasks_will_ask_for(doctor, tmp_path):
    """Four GPUs, a label and a toleration, as CLUSTER=… names them."""
    large = {"cpu": "63", "memory": "500Gi"}
    nodes = [node("a", 1), node("b", 4, {"disk": "fast"}, [TAINT], **large), node("c", 4, **large)]
    status, found = doctor("--cluster", "gpu-4", objects=(*WELL[:4], *nodes))
    assert (status, about(found, "gpu steps")) == (0, [(OK, "gpu steps: 2 of 3 nodes would take 4 × nvidia.com/gpu")])
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"gpu": {"node_selector": {"disk": "fast"}, "image_pull_secrets": ["registry"]}}))
    status, found = doctor("--cluster", str(file), objects=(*WELL[:4], *nodes))
    assert "have taints that no toleration is for" in about(found, "gpu steps")[0][1]
    assert (WRONG, "image pull secrets: there is no Secret registry in namespace kubeflow; create it") in found
    file.write_text(yaml.safe_dump({"gpu": {"node_selector": {"disk": "slow"}}}))
    _, found = doctor("--cluster", str(file), objects=(*WELL[:4], *nodes))
    assert "has the labels of node_selector, disk=slow" in about(found, "gpu steps")[0][1]


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


@pytest.fixture
def bucket(moto):
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    client.create_bucket(Bucket="doctor")
    return client


def test_places_are_tried_with_what_the_tasks_are_given(doctor, bucket, moto, postgres):
    """By the Secret and the ConfigMap, which this process takes over; what it writes to the store is gone."""
    given = {
        "DDPM_STORE": "s3://doctor/ddpm", "DDPM_S3_ENDPOINT_URL": moto, "DDPM_S3_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "DDPM_STUDY_STORAGE": postgres.url,
    }  # fmt: skip
    objects = (config_map("ddpm", given), secret("ddpm", {**KEYS, "PGPASSWORD": "any"}), *WELL[2:])
    status, found = doctor(objects=objects)
    assert (OK, "object store: s3://doctor/ddpm is written and read, and keeps to conditions") in found
    assert "Contents" not in bucket.list_objects_v2(Bucket="doctor")
    ((state, words),) = about(found, "study")
    assert state == OK and words.startswith(f"study: {postgres.url} answers; ")
    ((state, words),) = about(found, "MLflow")
    assert (status, state) == (3, WRONG) and "cannot be used (connection refused)" in words


@pytest.fixture
def mlflow_server(tmp_path, empty_database, monkeypatch):
    """MLflow's own server; `login` is what it asks for, as its basic-auth app does, and `version` what it says it is."""
    from mlflow.server import app, handlers

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setattr(handlers, "_tracking_store", None)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)  # which the app sets, for all
    made = []

    def start(login="", version=""):
        def guarded(environ, begin):
            told = base64.b64decode(environ.get("HTTP_AUTHORIZATION", "").removeprefix("Basic ")).decode()
            if environ["PATH_INFO"] == "/version" and version:
                return Response(version)(environ, begin)
            if login and told != login and environ["PATH_INFO"] not in ("/health", "/version"):
                return Response("You are not authenticated.", 401)(environ, begin)
            return app(environ, begin)

        made.append(make_server("127.0.0.1", 0, guarded, threaded=True))
        threading.Thread(target=made[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made[-1].server_port}"

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


def test_an_mlflow_server(doctor, mlflow_server):
    import mlflow

    os.environ["MLFLOW_TRACKING_URI"] = url = mlflow_server()
    said = (
        f"MLflow {mlflow.__version__} at {url}; it asks nobody for a password, so that whoever reaches it may change it"
    )
    assert about(doctor()[1], "MLflow") == [(OK, said)]
    os.environ["MLFLOW_TRACKING_URI"] = url = mlflow_server(version="2.22.1")
    assert about(doctor()[1], "MLflow") == [(WRONG, f"MLflow: {url} is version 2.22.1; 3 or later is needed")]


def test_an_mlflow_server_that_asks_for_a_password(doctor, mlflow_server):
    url = mlflow_server(login="ddpm:a-very-secret-key")
    given = config_map("ddpm", {**PLACES, "MLFLOW_TRACKING_URI": url})
    status, found = doctor(objects=(given, secret("ddpm", KEYS), *WELL[2:]))
    ((state, words),) = about(found, "MLflow")
    assert (status, state) == (3, WRONG) and "401" in words and "not authenticated" in words
    login = {"MLFLOW_TRACKING_USERNAME": "ddpm", "MLFLOW_TRACKING_PASSWORD": "a-very-secret-key"}
    status, found = doctor(objects=(given, secret("ddpm", {**KEYS, **login}), *WELL[2:]))
    ((state, words),) = about(found, "MLflow")
    assert (status, state) == (0, OK) and words.endswith(f" at {url}")


@pytest.mark.parametrize(
    ("variable", "place", "words"),
    [
        ("DDPM_STORE", "s3://no-such-bucket/x", "NoSuchBucket: there is no such bucket; create it, or name another one"),
        ("DDPM_STORE", "gs://bucket/x", "there is no store for gs://"),
        ("MLFLOW_TRACKING_URI", "sqlite:///m.db", "MLflow: sqlite:///m.db is no server's address"),
        ("DDPM_STUDY_STORAGE", "postgresql+psycopg://o@127.0.0.1:9/o", "study: postgresql+psycopg://o@127.0.0.1:9/o cannot be used (connection"),
        ("DDPM_STUDY_STORAGE", "nonsense://127.0.0.1/x", "study: nonsense://127.0.0.1/x cannot be used"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_used(doctor, bucket, moto, variable, place, words):
    os.environ.update(AWS_ENDPOINT_URL=moto, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    os.environ[variable] = place
    _, found = doctor()
    assert [words in told for state, told in found if state == WRONG] == [True], found


@pytest.mark.parametrize(
    ("states", "left", "state", "words"),
    [
        (("RUNNING", "SUCCEEDED"), False, OK, "a step that failed was tried again, and tasks reach the store"),
        (("FAILED",), True, WRONG, "a step that failed was not tried again; let Argo's retryPolicy be Always"),
        (("FAILED",), False, WRONG, "its step did not get as far as the store; its log says why"),
        (("EXPIRED",), False, WRONG, "probe run: who are you?"),
    ],
)
def test_a_probe_run(doctor, kubeflow, tmp_path, states, left, state, words):
    os.environ["DDPM_STORE"] = str(tmp_path / "store")
    server = kubeflow(*states, version="2.17.0")
    server.on_run = lambda given: leave(given) if left else None
    _, found = doctor("--endpoint", server.url, "--probe", "--image", "registry.example/ddpm:1")
    ((is_state, is_words),) = about(found, "probe run")
    assert is_state == state and words in is_words
    (sent,) = server.runs
    assert "registry.example/ddpm:1" in json.dumps(sent["pipeline_spec"])
    assert not [path for path in tmp_path.rglob("doctor/*") if path.is_file()], "nothing is left in the store"


def leave(given):
    """What the step's first attempt does."""
    from ddpm.store import open_store

    assert open_store(given["store"]).create(given["key"], b"")


def test_a_probe_whose_store_cannot_be_seen_from_here_says_both(doctor, kubeflow):
    server = kubeflow("FAILED", version="2.17.0")
    _, found = doctor("--endpoint", server.url, "--probe")
    assert "which cannot be told from this machine; its log says which" in about(found, "probe run")[0][1]


def test_the_probe_s_step_fails_once(tmp_path):
    """Its own code, twice, as two attempts at a task do."""
    from pipelines.doctor.probe import fail_once

    with pytest.raises(SystemExit) as ended:
        fail_once.python_func(store=str(tmp_path), key="doctor/a")
    assert ended.value.code == 1
    fail_once.python_func(store=str(tmp_path), key="doctor/a")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_probe_s_pod_is_as_the_small_steps_pods_are():
    spec, platform = yaml.safe_load_all(package("", ""))
    (executor,) = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["resources"]["resourceMemoryLimit"] == "16Gi"
    (placed,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert placed["securityContext"]["runAsNonRoot"] and placed["secretAsEnv"] and placed["configMapAsEnv"]
    (task,) = spec["root"]["dag"]["tasks"].values()
    assert task["retryPolicy"]["maxRetryCount"] == 1


def test_a_cluster_file_that_will_not_do_is_wrong_input(capsys):
    assert main(["--cluster", "nowhere"]) == 2
    assert "CLUSTER: there is neither a file 'nowhere' nor a cluster of that name" in capsys.readouterr().err
