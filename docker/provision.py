"""What a team's servers need before they are of use: databases with a user each, buckets, and an account to read by.

    python docker/provision.py places      # databases and buckets
    python docker/provision.py accounts    # MLflow's, that of the inference server
    python docker/provision.py account NAME    # a member of the team's: made, or given the password that is asked for

`docker/compose.yaml` runs the first two at every start. What is there stays; passwords become what the environment says, so that a
changed docker/.env and another `up` rotate them. PostgreSQL is reached as PGHOST, PGUSER and PGPASSWORD say, the object
store as DDPM_S3_… do, MLflow as MLFLOW_TRACKING_… do. Exit status: 0 done, 2 wrong input, 1 failed.
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

from ddpm.arguments import Parser
from ddpm.errors import Outage, Refused, WrongInput
from ddpm.legible import tell
from ddpm.store import S3Store
from ddpm.store.bucket import Bucket

DATABASES = {
    "mlflow": "MLFLOW_DATABASE_PASSWORD",
    "optuna": "OPTUNA_DATABASE_PASSWORD",
}  # and their owners, of that name
BUCKETS = ("mlflow", "ddpm")  # MLflow's artifacts; the team's store
READER = "reader"  # by whom the inference server asks MLflow
READER_PASSWORD = "MLFLOW_READER_PASSWORD"


def required(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise WrongInput(f"{variable} is empty; set it in docker/.env")
    return value


def make_databases() -> None:
    """Each database with a user of its own, whom no other database lets in. The passwords are sent as hashes."""
    import psycopg
    from psycopg import sql

    passwords = {name: required(variable) for name, variable in DATABASES.items()}
    with psycopg.connect(dbname="postgres", autocommit=True) as server:
        for name, password in passwords.items():
            there = server.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone()
            hashed = server.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
            role = sql.SQL("{} ROLE {} LOGIN PASSWORD {}")
            verb = sql.SQL("CREATE" if there is None else "ALTER")
            server.execute(role.format(verb, sql.Identifier(name), sql.Literal(hashed)))
            if server.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                make = sql.SQL("CREATE DATABASE {0} OWNER {0} ENCODING 'UTF8' TEMPLATE template0")
                server.execute(make.format(sql.Identifier(name)))
            server.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
            tell(f"database {name}: ready")


def make_buckets() -> None:
    """Each bucket, and a word where the store does not keep to conditional writes, which the promotion log lives by."""
    for name in BUCKETS:
        store = S3Store(f"s3://{name}")
        _make(store.bucket)
        tell(f"bucket {name}: ready{'; ' + words if (words := store.probe()) else ''}")


def _make(bucket: Bucket) -> None:
    there = bucket.tried("list", "", lambda _: bucket.client.list_buckets())["Buckets"]
    if bucket.name not in {found["Name"] for found in there}:
        bucket.tried("make", "", lambda _: bucket.client.create_bucket(Bucket=bucket.name))


def make_accounts() -> None:
    """The account `reader`, who changes nothing."""
    make_account(READER, required(READER_PASSWORD))


def make_account(name: str, password: str) -> None:
    """An account of MLflow's, with this password, whether it was there or not."""
    account = {"username": name, "password": password}
    if _asked("PATCH", "update-password", account) == 404:
        _asked("POST", "create", account)
    tell(f"account {name}: ready")


def told_password(name: str) -> str:
    """What a person types, unseen, or what comes in at standard input."""
    return getpass.getpass(f"password of {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _asked(method: str, what: str, account: dict[str, str]) -> int:
    """The status of MLflow's answer to its administrator. Raises WrongInput where it is neither 200 nor 404.

    MLflow's own client takes seconds to import.
    """
    place = required("MLFLOW_TRACKING_URI")
    user = f"{required('MLFLOW_TRACKING_USERNAME')}:{required('MLFLOW_TRACKING_PASSWORD')}"
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
    address, body = f"{place}/api/2.0/mlflow/users/{what}", json.dumps(account).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, body, headers, method=method), timeout=60
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        with problem:
            if problem.code == 404:
                return problem.code
            if problem.code == 401:
                raise WrongInput(
                    "MLFLOW_ADMIN_PASSWORD is not the administrator's: that of the first start counts until it is changed in MLflow"
                ) from None
            words = problem.read(200).decode(errors="replace")
            raise WrongInput(
                f"MLflow at {place} makes no account {account['username']} ({problem.code}: {words})"
            ) from None
    except OSError as problem:
        raise Outage(f"MLflow at {place} does not answer ({problem})") from None


WORK = {"places": (make_databases, make_buckets), "accounts": (make_accounts,)}


def ended(program: str, work: Callable[[], None]) -> int:
    """The exit status of a program here; why it ended otherwise than well, in one line."""
    import psycopg

    try:
        work()
    except WrongInput as problem:
        tell(f"{program}: {problem}")
        return 2
    except Refused as problem:
        tell(f"{program}: {problem}")
        return 3
    except Outage as problem:
        tell(f"{program}: {problem}; the same command carries on")
        return 1
    except psycopg.Error as problem:
        tell(f"{program}: PostgreSQL: {' '.join(str(problem).split())}")
        return 1
    return 0


def main() -> int:
    parser = Parser(prog="provision.py", description="Set up a team's servers.")
    commands = parser.add_subparsers(dest="what", required=True, metavar="places|accounts|account")
    for what in WORK:
        commands.add_parser(what)
    commands.add_parser("account").add_argument("name")

    def work() -> None:
        asked = parser.parse_args()
        if asked.what == "account":
            make_account(asked.name, told_password(asked.name))
        for make in WORK.get(asked.what, ()):
            make()

    return ended("provision.py", work)


if __name__ == "__main__":
    sys.exit(main())
