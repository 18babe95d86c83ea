"""Makes MLflow's accounts what the mounted Secret says, before the server starts: a file is an account, `admin` may all.
`promote` may change every registered model, and its aliases, which no other account may (`promoters.py`).

An account that is there gets the password of its file; one whose file is gone is left alone, for people have accounts
too. Every replica may run this, at every start.
"""

import sys
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

FOLDER, ADMIN, PROMOTER, SHORTEST = "/etc/mlflow-accounts", "admin", "promote", 12


def passwords(folder: Path) -> dict[str, str]:
    """The accounts and their passwords. Kubernetes keeps what it mounts behind links that begin with two dots."""
    found = {file.name: file.read_text().strip() for file in sorted(folder.iterdir()) if not file.name.startswith(".")}
    short = [name for name, password in found.items() if len(password) < SHORTEST or "${" in password]
    if short or ADMIN not in found:
        sys.exit(
            f"the Secret mlflow-accounts needs a password of {SHORTEST} characters or more for {', '.join(short) or ADMIN}"
        )
    return found


def main(folder: str = FOLDER) -> None:
    store = SqlAlchemyStore()
    accounts = passwords(Path(folder))
    store.init_db(read_auth_config().database_uri)
    for name, password in accounts.items():
        if not store.has_user(name):
            try:
                store.create_user(name, password, is_admin=name == ADMIN)
                continue
            except MlflowException:
                if not store.has_user(name):  # not somebody else who was faster
                    raise
        store.update_user(name, password=password)
    if PROMOTER in accounts:
        store.grant_user_permission(PROMOTER, "registered_model", "*", "MANAGE")  # less lets nobody take an alias away
    print("accounts:", ", ".join(accounts))  # noqa: T201 — a container's log


if __name__ == "__main__":
    main(*sys.argv[1:])
