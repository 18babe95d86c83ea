"""MLflow as the manifest runs it: databases, migration and accounts by their scripts, and the server with its own words."""

import runpy
import subprocess

import psycopg
import pytest
import requests
from mlflow.exceptions import MlflowException
from processes import environment, free_ports, held, pods, running, started

import mlflow

INSIDE = "mlflow.ddpm.svc.cluster.local:5000"  # by which name tasks ask


class Deployed:
    """The database server with our users, and what MLflow's pod mounts."""

    def __init__(self, folder, objects, postgres, seaweed):
        self.folder, self.objects = folder, objects
        self.log = folder / "log"
        self.passwords = held(objects, "Secret", "mlflow-accounts")
        for name, text in held(objects, "ConfigMap", "mlflow-settings").items():
            (folder / name).write_text(text)
        self.root = folder / "root"  # of the container's file system, in place of one that cannot be written
        self.root.mkdir()
        (folder / "accounts").mkdir()
        (folder / "accounts" / "..data").mkdir()  # as Kubernetes mounts a Secret
        for name, password in self.passwords.items():
            (folder / "accounts" / name).write_text(password)
        self.words, told = started(objects, "mlflow")
        secret = held(objects, "Secret", "mlflow")
        self.environment = environment(**told, **secret) | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
            "MLFLOW_S3_ENDPOINT_URL": seaweed.endpoint,
            "HOME": str(folder),
            "PYTHONPATH": str(folder),
        }
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"

    def make_accounts(self):
        """As at the next start of the pod, without the processes of the migration."""
        runpy.run_path(str(self.folder / "accounts.py"))["main"](str(self.folder / "accounts"))

    def migrate(self):
        (script,) = pods(self.objects, "mlflow").spec["initContainers"][0]["args"]
        script = script.replace("/etc/mlflow/accounts.py", f"{self.folder}/accounts.py {self.folder}/accounts")
        return subprocess.run(
            ["sh", "-ec", script], env=self.environment, cwd=self.root, capture_output=True, text=True, check=False
        )

    def up(self):
        told = {"--host": "127.0.0.1", "--port": self.port, "--workers": 1}
        words = []
        for word in self.words:
            flag, equals, value = word.partition("=")
            value = f"{value},127.0.0.1:{self.port}" if flag == "--allowed-hosts" else told.get(flag, value)
            words.append(f"{flag}{equals}{value}")
        return running(words, self.log, f"{self.url}/health", env=self.environment, cwd=self.root)


def make_databases(objects, port, **other):
    secret = held(objects, "Secret", "postgres") | other
    told = environment(**secret, PGHOST="127.0.0.1", PGPORT=str(port), PGUSER="tests")
    script = held(objects, "ConfigMap", "postgres-databases")["databases.sh"]
    subprocess.run(["sh", "-c", script], env=told, check=True, capture_output=True, text=True, timeout=120)


def drop(port):
    with psycopg.connect(f"postgresql://tests@127.0.0.1:{port}/postgres", autocommit=True) as server:
        for name in ("mlflow", "optuna"):
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            server.execute(f"DROP ROLE IF EXISTS {name}")


@pytest.fixture(scope="module")
def databases(_postgres, _rendered):
    drop(_postgres.port)
    make_databases(_rendered["dev"], _postgres.port)
    yield _postgres
    drop(_postgres.port)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory, _rendered, databases, seaweed):
    one = Deployed(tmp_path_factory.mktemp("mlflow"), _rendered["dev"], databases, seaweed)
    migrated = one.migrate()
    assert migrated.returncode == 0, migrated.stderr
    with one.up():
        yield one


def ask(deployed, path, who="", password="", host=INSIDE, **more):
    auth = (who, password or deployed.passwords[who]) if who else None
    method = "POST" if "json" in more else "GET"
    return requests.request(
        method, f"{deployed.url}{path}", auth=auth, headers={"Host": host}, timeout=60, **more
    ).status_code


@pytest.fixture
def client(deployed, monkeypatch):
    def as_who(name):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", deployed.passwords[name])
        return mlflow.MlflowClient(deployed.url, deployed.url)

    return as_who


def test_databases_are_made_once_each_of_its_own_user(dev, databases):
    make_databases(dev, databases.port)  # the next start of the pod
    passwords = held(dev, "Secret", "postgres")
    for name, other in (("mlflow", "optuna"), ("optuna", "mlflow")):
        place = f"host=127.0.0.1 port={databases.port} user={name} password={passwords[f'{name.upper()}_PASSWORD']}"
        with psycopg.connect(f"{place} dbname={name}") as mine:
            mine.execute("CREATE TABLE mine (x int)")
            mine.rollback()
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(f"{place} dbname={other}")


def test_passwords_of_databases_follow_the_secret(dev, databases):
    def hashed():
        asked = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ('mlflow', 'optuna')"
        with psycopg.connect(databases.url.replace("+psycopg", "")) as server:
            return dict(server.execute(asked).fetchall())

    before = hashed()
    assert all(word.startswith("SCRAM-SHA-256$") for word in before.values())
    make_databases(dev, databases.port, OPTUNA_PASSWORD="another-password'12")
    changed = hashed()
    make_databases(dev, databases.port)
    assert changed["optuna"] != before["optuna"]
    place = f"host=127.0.0.1 port={databases.port} user=optuna dbname=optuna"
    psycopg.connect(place, password=held(dev, "Secret", "postgres")["OPTUNA_PASSWORD"]).close()


def test_nobody_is_let_in_without_an_account_or_by_another_name(deployed):
    listed = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert ask(deployed, listed, "pipeline") == 200
    assert ask(deployed, listed) == 401
    assert ask(deployed, listed, "pipeline", "another-password-12") == 401
    assert ask(deployed, listed, "admin", "password1234") == 401
    assert ask(deployed, listed, "pipeline", host="elsewhere.example") == 403
    assert ask(deployed, "/health", host="10.1.2.3:5000") == 200, "as a probe asks"


def test_the_pipeline_writes_and_the_server_of_pictures_only_reads(deployed, client, tmp_path):
    """Artifacts go through MLflow into the object store, and nobody but MLflow has a key of that bucket."""
    pipeline = client("pipeline")
    run = pipeline.create_run(pipeline.create_experiment("digits")).info.run_id
    pipeline.log_text(run, "weights", "model/weights.txt")
    pipeline.create_registered_model("ddpm-digits")
    version = pipeline.create_model_version("ddpm-digits", f"runs:/{run}/model", run)
    client("promote").set_registered_model_alias("ddpm-digits", "champion", version.version)

    serve = client("serve")
    assert serve.get_model_version_by_alias("ddpm-digits", "champion").run_id == run
    local = serve.download_artifacts(run, "model/weights.txt", str(tmp_path))
    with open(local) as file:
        assert file.read() == "weights"
    for act in (
        lambda: serve.set_registered_model_alias("ddpm-digits", "champion", version.version),
        lambda: serve.delete_model_version("ddpm-digits", version.version),
        lambda: serve.log_metric(run, "fid", 0.0),
        lambda: serve.log_text(run, "others", "model/weights.txt"),
    ):
        with pytest.raises((MlflowException, requests.HTTPError), match=r"PERMISSION_DENIED|Permission denied|403"):
            act()


def test_who_registers_a_version_cannot_make_it_champion(deployed, client, monkeypatch):
    """The promote step alone has the account that can; with it the same call that promotes sets and takes away."""
    from ddpm.registry.promoter import as_promoter

    pipeline = client("pipeline")
    experiment = pipeline.create_experiment("kept apart")
    run = pipeline.create_run(experiment).info.run_id
    pipeline.create_registered_model("ddpm-kept-apart")
    for number in (1, 2):
        version = pipeline.create_model_version("ddpm-kept-apart", f"runs:/{run}/model", run).version
        assert int(version) == number
    with pytest.raises(MlflowException, match="PERMISSION_DENIED|Permission denied|403"):
        pipeline.set_registered_model_alias("ddpm-kept-apart", "champion", "2")
    monkeypatch.setenv("DDPM_PROMOTER_USERNAME", "promote")
    monkeypatch.setenv("DDPM_PROMOTER_PASSWORD", deployed.passwords["promote"])
    with as_promoter():
        pipeline.set_registered_model_alias("ddpm-kept-apart", "champion", "2")
        pipeline.set_registered_model_alias("ddpm-kept-apart", "challenger", "1")
        pipeline.delete_registered_model_alias("ddpm-kept-apart", "challenger")
    assert client("serve").get_registered_model("ddpm-kept-apart").aliases == {"champion": "2"}
    client("pipeline").set_model_version_tag("ddpm-kept-apart", "1", "seen", "yes")
    with pytest.raises(MlflowException, match="PERMISSION_DENIED|Permission denied|403"):
        client("pipeline").delete_registered_model_alias("ddpm-kept-apart", "champion")
    with pytest.raises(MlflowException, match="PERMISSION_DENIED|Permission denied|403"):
        client("promote").create_run(experiment)
    client("admin").set_registered_model_alias("ddpm-kept-apart", "champion", "1")


def test_nothing_is_written_beside_the_scratch_folder(deployed):
    assert list(deployed.root.iterdir()) == []


@pytest.fixture
def starting(deployed, monkeypatch):
    """The pod's environment, and the files of its accounts, put back at the end."""
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "MLFLOW_AUTH_CONFIG_PATH"):
        monkeypatch.setenv(name, deployed.environment[name])
    yield deployed
    for name, password in deployed.passwords.items():
        (deployed.folder / "accounts" / name).write_text(password)


def test_accounts_follow_the_secret(starting):
    """At the next start an account has the password that the Secret says; people's own accounts stay as they are."""
    listed = "/api/2.0/mlflow/experiments/search?max_results=1"
    person = {"username": "ann", "password": "a-password-of-anns"}
    assert ask(starting, "/api/2.0/mlflow/users/create", "admin", json=person) == 200
    (starting.folder / "accounts" / "serve").write_text("another-password-12\n")
    starting.make_accounts()
    assert ask(starting, listed, "serve", starting.passwords["serve"]) == 401
    assert ask(starting, listed, "serve", "another-password-12") == 200
    assert ask(starting, listed, "ann", person["password"]) == 200
    (starting.folder / "accounts" / "serve").write_text(starting.passwords["serve"])
    starting.make_accounts()
    assert ask(starting, listed, "serve") == 200


@pytest.mark.parametrize(("file", "password"), [("serve", "short"), ("serve", "${MLFLOW_SERVE}"), ("admin", "")])
def test_an_account_without_a_password_worth_the_name_stops_the_start(starting, file, password):
    (starting.folder / "accounts" / file).write_text(password)
    with pytest.raises(SystemExit, match=f"characters or more for {file}"):
        starting.make_accounts()


def test_there_is_an_administrator(starting):
    (starting.folder / "accounts" / "admin").unlink()
    with pytest.raises(SystemExit, match="characters or more for admin"):
        starting.make_accounts()
