"""Who may change a model's aliases, which is what the servers of pictures follow: administrators, and the account `promote`.

To MLflow's own rights an alias is a change of the model like any other, so that whoever registers versions could make one
champion. All else is left to them.
"""

from flask import Response, request
from mlflow.server.auth import authenticate_request_basic_auth, make_forbidden_response, store

PROMOTER = "promote"


def authenticate():
    """As MLflow's own function of basic_auth.ini."""
    who = authenticate_request_basic_auth()
    if isinstance(who, Response) or request.method not in ("POST", "PATCH", "DELETE"):
        return who
    if not request.path.rstrip("/").endswith("/registered-models/alias"):
        return who
    may = who.username == PROMOTER or store.get_user(who.username).is_admin
    return who if may else make_forbidden_response()
