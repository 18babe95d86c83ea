"""The manifests agree with the compiled pipeline, with the programs that they start, and with each other."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import networks
import policies
import pytest
import yaml
from processes import held, plain, pods, started

from ddpm.cli import parser
from ddpm.serving import settings
from ddpm.serving.limits import PROBES, Tokens
from ddpm.serving.run import DRAIN_SECONDS
from pipelines.pipeline import COMPILED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def asked():
    """What the compiled pipeline's tasks take: {"Secret" or "ConfigMap": {name: keys}}."""
    _, platform = yaml.safe_load_all(COMPILED.read_text())
    found = {"Secret": {}, "ConfigMap": {}}
    for task in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        for one in task["secretAsEnv"]:
            found["Secret"].setdefault(one["secretName"], set()).update(key["secretKey"] for key in one["keyToEnv"])
        for one in task["configMapAsEnv"]:
            found["ConfigMap"].setdefault(one["configMapName"], set()).update(
                key["configMapKey"] for key in one["keyToEnv"]
            )
    return found


def test_the_tasks_find_their_secret_and_their_places(overlay, asked):
    """By exact names: all keys are optional, so that a misspelt one would be passed over without a word."""
    for kind, names in asked.items():
        for name, keys in names.items():
            given = held(overlay, kind, name, policies.TASKS)
            assert any(one["metadata"]["name"] == name for one in policies.of_kind(overlay, kind))
            assert set(given) <= keys, f"{kind} {name}: no task takes {set(given) - keys}"


@pytest.mark.parametrize("overlay", ["dev", "aws"])
def test_every_key_that_the_tasks_take_is_in_the_examples(asked, overlay):
    folder = ROOT / "deploy" / "overlays" / overlay
    for secret, file in (("ddpm", "ddpm"), ("ddpm-promote", "promote")):
        for name in asked["Secret"][secret]:
            assert re.search(rf"^#?{name}=", (folder / f"secrets/{file}.env.example").read_text(), re.MULTILINE), name
    text = (folder / "kustomization.yaml").read_text()
    for name in asked["ConfigMap"]["ddpm"]:
        assert re.search(rf"^ +#? ?- {name}=", text, re.MULTILINE), name


def test_servers_are_asked_where_they_are(overlay):
    """Addresses in the settings are services', in the right namespace, at their ports, under names that they answer to."""
    services = {one["metadata"]["name"]: one for one in policies.of_kind(overlay, "Service")}
    places = held(overlay, "ConfigMap", "ddpm", policies.TASKS)
    tracking = urlsplit(places["MLFLOW_TRACKING_URI"])
    assert tracking.hostname == "mlflow.ddpm.svc.cluster.local"
    assert tracking.port == services["mlflow"]["spec"]["ports"][0]["port"]
    allowed = held(overlay, "ConfigMap", "mlflow")["ALLOWED_HOSTS"].split(",")
    assert tracking.netloc in allowed
    assert urlsplit(held(overlay, "ConfigMap", "serve")["MLFLOW_TRACKING_URI"]).netloc in allowed
    study = urlsplit(places["DDPM_STUDY_STORAGE"])
    assert (study.username, study.path, study.password) == ("optuna", "/optuna", None)
    host = held(overlay, "ConfigMap", "mlflow")["PGHOST"]
    assert study.hostname in (host, f"{host}.ddpm.svc.cluster.local")
    for url in [study, urlsplit(places.get("DDPM_S3_ENDPOINT_URL", ""))]:
        name, _, rest = (url.hostname or "").partition(".")
        if rest == "ddpm.svc.cluster.local":
            assert (url.port or 5432) == services[name]["spec"]["ports"][0]["port"]


def test_others_images_are_those_of_the_compose_file(rendered):
    """A team's servers and a cluster's are of one release: of one digest."""
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["x-images"]
    images = {one["image"] for pod in policies.pods(rendered["dev"]) for one in pod.containers}
    others = {image.removeprefix("docker.io/").removeprefix("library/") for image in images if "/ddpm-" not in image}
    assert others == set(compose.values())


def test_who_asks_whom_is_let_through(overlay):
    """The policies let pass exactly what the settings need."""
    names = {one.labels["app.kubernetes.io/name"] for one in policies.pods(overlay)}
    wanted = {("serve", "mlflow", 5000), ("mlflow", "postgres", 5432), ("mlflow", "object-store", 8333)}
    for caller in names:
        for called in names - {caller}:
            one, other = pods(overlay, caller), pods(overlay, called)
            for port in other.ports.values():
                assert networks.reaches(overlay, one, other, port) == ((caller, called, port) in wanted), (
                    caller,
                    called,
                )
    for name in names:
        for port in pods(overlay, name).ports.values():
            assert networks.tasks_reach(overlay, pods(overlay, name), port) == (name != "serve"), name


def test_passwords_that_belong_together_are_the_same(overlay):
    accounts = held(overlay, "Secret", "mlflow-accounts")
    tasks, server = held(overlay, "Secret", "ddpm", policies.TASKS), held(overlay, "Secret", "serve")
    for one in (tasks, server):
        assert accounts[one["MLFLOW_TRACKING_USERNAME"]] == one["MLFLOW_TRACKING_PASSWORD"]
    assert len(set(accounts.values())) == len(accounts)
    if "object-store" not in {one["metadata"]["name"] for one in policies.of_kind(overlay, "Service")}:
        return
    databases, mlflow = held(overlay, "Secret", "postgres"), held(overlay, "Secret", "mlflow")
    assert tasks["PGPASSWORD"] == databases["OPTUNA_PASSWORD"]
    assert mlflow["PGPASSWORD"] == databases["MLFLOW_PASSWORD"]
    known = {one["name"]: one for one in json.loads(held(overlay, "Secret", "object-store")["s3.json"])["identities"]}
    keys = {name: one["credentials"][0] for name, one in known.items()}
    assert keys["writer"] == {
        "accessKey": tasks["DDPM_S3_ACCESS_KEY_ID"],
        "secretKey": tasks["DDPM_S3_SECRET_ACCESS_KEY"],
    }
    assert keys["mlflow"] == {"accessKey": mlflow["AWS_ACCESS_KEY_ID"], "secretKey": mlflow["AWS_SECRET_ACCESS_KEY"]}
    store = urlsplit(held(overlay, "ConfigMap", "ddpm", policies.TASKS)["DDPM_STORE"]).netloc
    artifacts = urlsplit(held(overlay, "ConfigMap", "mlflow")["ARTIFACTS"]).netloc
    rights = {name: {action.partition(":")[2] for action in one["actions"]} for name, one in known.items()}
    assert rights == {"writer": {store}, "reader": {store}, "mlflow": {artifacts}}
    assert {action.partition(":")[0] for action in known["reader"]["actions"]} == {"Read", "List"}
    assert set(re.search(r"for bucket in (.*);", (ROOT / "deploy/object-store/buckets.sh").read_text())[1].split()) == {
        store,
        artifacts,
    }


def test_no_pod_has_a_password_that_is_another_s(overlay):
    """MLflow's accounts are the migration's to set, not the server's to see; the server of pictures has what reads, no more."""
    given = {}
    for one in policies.pods(overlay):
        for container in one.containers:
            names = {source["secretRef"]["name"] for source in container.get("envFrom", []) if "secretRef" in source}
            names |= {v["valueFrom"]["secretKeyRef"]["name"] for v in container.get("env", []) if "valueFrom" in v}
            mounted = {
                volume["name"]: volume["secret"]["secretName"] for volume in one.spec["volumes"] if "secret" in volume
            }
            names |= {mounted[mount["name"]] for mount in container["volumeMounts"] if mount["name"] in mounted}
            given[container["name"]] = {plain(name) for name in names}
    serving = given.pop("serve", None) or given.pop("kserve-container")
    assert serving == {"serve", "serve-tokens"}
    assert given.pop("migrate") == {"mlflow", "mlflow-accounts"}
    assert given == {name: {name} for name in given}


def test_the_server_of_pictures_takes_its_flags_and_settings(overlay, monkeypatch, tmp_path):
    words, environment = started(overlay, "serve")
    given = vars(parser().parse_args(words[1:]))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
        assert not name.startswith(settings.VARIABLE) or name.removeprefix(settings.VARIABLE).lower() in given, name
    taken = settings.from_environment(
        {name: value for name, value in given.items() if name in settings.ServeSettings.__dataclass_fields__}
    )
    pod = pods(overlay, "serve")
    assert taken.port in pod.ports.values()
    assert taken.host == "0.0.0.0" and not taken.anyone and taken.follow > 0
    assert given["model"] == environment["MODEL"] and given["model"].endswith("@champion")
    names = set(taken.hosts)
    assert any(name.endswith("ddpm.svc.cluster.local") for name in names)
    drained = 5 + taken.most_seconds + DRAIN_SECONDS  # preStop, a request's whole time, the rest
    assert pod.spec["terminationGracePeriodSeconds"] > drained
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod.spec["containers"][0][probe]["httpGet"]["path"] in PROBES, "others ask for a token, or a name"
    tokens = tmp_path / "tokens"
    tokens.write_text(held(overlay, "Secret", "serve-tokens")["tokens"])
    monkeypatch.setenv("DDPM_SERVE_TOKENS_FILE", str(tokens))
    assert Tokens.read(settings.from_environment({"host": taken.host}))._names
    mounts = {mount["name"]: mount["mountPath"] for mount in pod.spec["containers"][0]["volumeMounts"]}
    assert taken.tokens_file == f"{mounts['tokens']}/tokens"


def test_the_account_that_promotes_is_one_and_another_than_the_tasks_(overlay):
    accounts = held(overlay, "Secret", "mlflow-accounts")
    tasks, promoter = (held(overlay, "Secret", name, policies.TASKS) for name in ("ddpm", "ddpm-promote"))
    assert accounts[promoter["DDPM_PROMOTER_USERNAME"]] == promoter["DDPM_PROMOTER_PASSWORD"]
    assert promoter["DDPM_PROMOTER_USERNAME"] != tasks["MLFLOW_TRACKING_USERNAME"]
    script = held(overlay, "ConfigMap", "mlflow-settings")["promoters.py"]
    assert f'PROMOTER = "{promoter["DDPM_PROMOTER_USERNAME"]}"' in script


def test_mlflow_takes_its_flags(overlay):
    from mlflow.cli import cli
    from mlflow.server.auth.cli import commands as accounts

    words, environment = started(overlay, "mlflow")
    assert words[:2] == ["mlflow", "server"]
    given = cli.commands["server"].make_context("server", words[2:]).params
    assert given["app_name"] == "basic-auth" and given["serve_artifacts"]
    assert given["artifacts_destination"].startswith("s3://")
    assert given["port"] in pods(overlay, "mlflow").ports.values()
    steps = pods(overlay, "mlflow").spec["initContainers"][0]["args"][0].splitlines()
    assert steps[2] == f"python {_mounted(overlay, 'accounts.py')}"
    assert steps[0].split()[:3] == ["mlflow", "db", "upgrade"]
    assert (
        cli.commands["db"].commands["upgrade"].make_context("upgrade", steps[0].split()[3:]).params["url"]
        == given["backend_store_uri"]
    )
    assert steps[1].split()[:5] == ["python", "-m", "mlflow.server.auth", "db", "upgrade"]
    upgrade = accounts.commands["db"].commands["upgrade"]
    assert upgrade.make_context("upgrade", steps[1].split()[5:]).params["url"] == given["backend_store_uri"]
    assert environment["MLFLOW_AUTH_CONFIG_PATH"] == _mounted(overlay, "basic_auth.ini")


def _mounted(objects, file):
    assert file in held(objects, "ConfigMap", "mlflow-settings")
    mounts = pods(objects, "mlflow").spec["containers"][0]["volumeMounts"]
    return f"{next(mount['mountPath'] for mount in mounts if mount['name'] == 'settings')}/{file}"


def test_every_setting_of_mlflow_s_by_environment_is_one(overlay):
    from mlflow import environment_variables

    _, environment = started(overlay, "mlflow")
    known = {variable.name for variable in vars(environment_variables).values() if hasattr(variable, "name")}
    assert {name for name in environment if name.startswith("MLFLOW_")} <= known | {"MLFLOW_S3_ENDPOINT_URL"}
