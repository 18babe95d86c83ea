"""docker/compose.yaml: valid, pinned, without a default password, and no more rights than a server needs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose_file import FILE, ROOT, Unset, filled, services, settings, variables
from containerfile import stages

EXAMPLE = ROOT / "docker" / ".env.example"
SECRET = re.compile(r"PASSWORD|SECRET|KEY\b|TOKEN")
SET = {**{name: f"a-{name}" for name, kind, _ in variables() if kind == "?"}, "DDPM_TAG": "7"}
SERVICES = services(SET)
ONCE = {"provision", "migrate", "accounts", "backup"}  # they do their work and end


def test_it_is_what_compose_reads():
    """By the schema of the Compose Specification, and by Compose itself where it is at hand."""
    check = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE]
    found = subprocess.run(check, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    if subprocess.run(["sh", "-c", "docker compose version"], capture_output=True, check=False).returncode == 0:
        command = ["docker", "compose", "--file", FILE, "--profile", "*", "config", "--format", "json"]
        found = subprocess.run(command, env={**os.environ, **SET}, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        assert set(json.loads(found.stdout)["services"]) == set(SERVICES)


def test_no_password_has_a_default_and_compose_starts_nothing_without():
    for name, kind, words in variables():
        if SECRET.search(name) and name != "DDPM_SERVE_TOKENS":
            assert (kind, bool(words)) == ("?", True), f"{name} must be asked for, and said to be missing"
    written = settings(EXAMPLE.read_text())
    assert {name for name, value in written.items() if not value} == set(SET) - {"DDPM_TAG"}
    with pytest.raises(Unset, match="see docker/.env.example"):
        services(written)
    for name in SET:
        with pytest.raises(Unset, match=f"^{name}: "):
            services({**SET, name: ""})


def test_no_password_is_written_into_the_file():
    """Each value of a secret's variable is another variable."""
    for name, service in yaml.safe_load(FILE.read_text())["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if SECRET.search(variable) and variable != "DDPM_S3_ACCESS_KEY_ID" and variable != "AWS_ACCESS_KEY_ID":
                assert re.fullmatch(r"\$\{\w+:[?-].*\}", value), f"{name}: {variable}"


def test_the_example_names_every_variable():
    named = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert named == {name for name, _, _ in variables()}


def test_the_page_has_a_line_that_fills_the_example_in(tmp_path):
    shutil.copy(EXAMPLE, tmp_path / ".env")
    (line,) = (
        line.strip().split("      #")[0]
        for line in (ROOT / "docs" / "team.md").read_text().splitlines()
        if "sed -i" in line
    )
    done = subprocess.run(
        ["sh", "-c", line.replace("docker/.env", ".env")], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stderr == b""
    written = settings((tmp_path / ".env").read_text())
    assert services(written)
    secrets = [value for name, value in written.items() if name != "DDPM_TAG"]
    assert len(set(secrets)) == len(secrets) and all(re.fullmatch("[0-9a-f]{48}", secret) for secret in secrets)
    assert (tmp_path / ".env").read_text().count("#") == EXAMPLE.read_text().count("#")


def test_every_image_is_pinned_in_one_place():
    text = FILE.read_text()
    others = filled(yaml.safe_load(text), SET)["x-images"]
    for image in others.values():
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+[a-z0-9.-]*@sha256:[0-9a-f]{64}", image), image
        assert text.count(image) == 1
    ours = {"task", "serve", "mlflow", "tools"}
    for name, service in SERVICES.items():
        assert service["image"] in others.values() or service["image"] in {f"ddpm-{one}:7" for one in ours}, name
    assert {service["image"] for service in services({**SET, "DDPM_IMAGES": "reg.example/t/"}).values()} >= {
        "reg.example/t/ddpm-mlflow:7", "reg.example/t/ddpm-serve:7", "reg.example/t/ddpm-tools:7",
    }  # fmt: skip


def test_what_is_built_has_a_stage():
    for name, service in SERVICES.items():
        if build := service.get("build"):
            assert (FILE.parent / build["context"] / build["dockerfile"]).resolve() == ROOT / "docker" / "Containerfile"
            assert build["target"] in stages(), name
            assert service["image"] == f"ddpm-{build['target']}:7"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "not root"
    assert "privileged" not in service and "network_mode" not in service
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "open to this machine alone"
    for volume in service.get("volumes", ()):
        source, target, *mode = volume.split(":")
        assert not source.startswith(".") or (mode == ["ro"] and (FILE.parent / source).is_file()), volume
        assert target.startswith("/")


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONCE])
def test_a_server_comes_back_and_is_looked_at(name):
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    if "healthcheck" not in service:
        (check,) = (line for line in stages()[service["build"]["target"]] if line.startswith("HEALTHCHECK"))
        (port,) = (port.rpartition(":")[2] for port in service["ports"])
        assert f"127.0.0.1:{port}/" in check


def test_mlflow_starts_after_its_tables_are_brought_up_to_date():
    def waits(name):
        return {of: how["condition"] for of, how in SERVICES[name].get("depends_on", {}).items()}

    assert waits("mlflow") == {"migrate": "service_completed_successfully"}
    assert waits("migrate") == {"provision": "service_completed_successfully"}
    assert waits("provision") == {"postgres": "service_healthy", "objects": "service_healthy"}
    assert waits("serve") == {"accounts": "service_completed_successfully"}
    assert waits("backup") == {"provision": "service_completed_successfully"}, "a restore comes before MLflow's tables"
    for name in ONCE - {"backup"}:
        assert SERVICES[name].get("restart", "no") == "no"


def test_only_who_needs_them_reaches_databases_and_objects():
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert networks["serve"] == {"front"} and networks["accounts"] == {"front"}
    assert {name for name, on in networks.items() if "objects" in on} == {"objects", "provision", "mlflow", "backup"}


def test_nothing_is_unpickled():
    for name in ("mlflow", "migrate", "serve"):
        assert SERVICES[name]["environment"]["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_mlflow_is_asked_by_names_that_it_knows():
    allowed = services({**SET, "DDPM_HOST": "ml.example"})["mlflow"]["command"]
    (hosts,) = (word.partition("=")[2].split(",") for word in allowed if word.startswith("--allowed-hosts"))
    assert {"mlflow:5000", "localhost:5000", "127.0.0.1:5000", "ml.example", "ml.example:5000"} == set(hosts)


WEED = """#!/bin/sh
for word; do case $word in -s3.config=*) file=${word#*=} ;; esac; done
stat -c %a "$file" >&2
cat "$file"
echo "$*" >&2
"""


def run_objects(tmp_path, **secrets):
    """What docker/objects.sh starts, with a program in SeaweedFS's place that shows its accounts."""
    (tmp_path / "weed").write_text(WEED)
    (tmp_path / "weed").chmod(0o755)
    script = (ROOT / "docker" / "objects.sh").read_text().replace("/tmp/accounts.json", f"{tmp_path}/accounts.json")
    return subprocess.run(
        ["sh", "-c", script], env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **secrets}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_object_store_knows_who_may_do_what(tmp_path):
    environment = SERVICES["objects"]["environment"]
    found = run_objects(tmp_path, **environment)
    assert found.returncode == 0, found.stderr
    known = {one["name"]: one for one in json.loads(found.stdout)["identities"]}
    assert {name: one["credentials"] for name, one in known.items()} == {
        name: [{"accessKey": name, "secretKey": environment[f"{name.upper()}_SECRET"]}]
        for name in ("admin", "mlflow", "team")
    }
    for name, bucket in (("mlflow", "mlflow"), ("team", "ddpm")):
        assert all(action.endswith(f":{bucket}") for action in known[name]["actions"])
    mode, flags = found.stderr.splitlines()
    assert mode == "600"
    assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-s3", "-dir=/data"} <= set(flags.split())
    assert SERVICES["mlflow"]["environment"]["AWS_ACCESS_KEY_ID"] == "mlflow"
    assert SERVICES["provision"]["environment"]["DDPM_S3_ACCESS_KEY_ID"] == "admin"


@pytest.mark.parametrize("secret", ["", 'quo"ted', "two words", "$(id)"])
def test_the_object_store_does_not_start_with_a_secret_that_it_cannot_write_down(tmp_path, secret):
    found = run_objects(tmp_path, ADMIN_SECRET="good", MLFLOW_SECRET=secret, TEAM_SECRET="good")
    assert found.returncode == 2
    assert "openssl rand -hex 24" in found.stderr and found.stdout == ""
