"""The Kubeflow Pipelines API, through its client: whether it answers, and the few things that are asked of it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ddpm.credentials import masked, masked_url
from ddpm.errors import WrongInput
from ddpm.plain_files import read_plain, why
from ddpm.plan import Plan
from ddpm.tls import mistaken

T = TypeVar("T")
TOKEN_BYTES = 2**16  # that a token's file has at most


class Unreachable(RuntimeError):
    """The server gave no answer that can be used. One line. `status` is HTTP's, 0 where there was none."""

    def __init__(self, line: str, status: int = 0) -> None:
        super().__init__(masked(line))
        self.status = status


def token_now() -> str:
    """$KFP_TOKEN, or what the file $KFP_TOKEN_FILE holds at this moment. Raises WrongInput for what no token is."""
    token, file = os.environ.get("KFP_TOKEN", "").strip(), os.environ.get("KFP_TOKEN_FILE", "")
    if file:
        try:
            token = read_plain(file, TOKEN_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise WrongInput(f"KFP_TOKEN_FILE: {file} cannot be read: {why(problem)}; name another") from None
    if not (token.isascii() and (token.isprintable() or not token)):
        raise WrongInput(
            f"{'KFP_TOKEN_FILE' if file else 'KFP_TOKEN'}: it holds characters that no token has; export it anew"
        )
    return token


def _require_scheme(told: str, endpoint: str, words: str) -> None:
    """Raise WrongInput where a connection failed with these words since http:// should be https://, or the other way round."""
    if words and "refused" not in words and (wrong := mistaken(endpoint, words)):
        raise WrongInput(f"endpoint: {told}: {wrong}") from None


def check_endpoint(endpoint: str, token: str) -> dict[str, Any]:
    """One short look whether a Kubeflow Pipelines API answers: the client's own takes half a minute to give up.

    Returns what it says of itself. Raises Unreachable, or WrongInput for what is no address.
    """
    told = masked_url(endpoint)
    if not endpoint.startswith(("http://", "https://")):
        raise WrongInput(f"endpoint: '{told}' will not do; write ENDPOINT=http://HOST:PORT, or export KFP_ENDPOINT")
    url = f"{endpoint.rstrip('/')}/apis/v2beta1/healthz"
    try:
        ask = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(ask, timeout=20) as answer:
            return dict(json.loads(answer.read()))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
        raise Unreachable(f"{url} answers, but not as a Kubeflow Pipelines API does") from None
    except urllib.error.HTTPError as problem:
        if problem.code in (401, 403):
            said = "refused KFP_TOKEN" if token else "asks for a token; export KFP_TOKEN"
            raise Unreachable(f"{told} {said} (status {problem.code})") from None
        _require_scheme(told, endpoint, str(problem.code) if problem.code == 400 else "")
        raise Unreachable(f"{url} answers with status {problem.code}; is it a Kubeflow Pipelines API?") from None
    except (http.client.InvalidURL, ValueError) as problem:
        raise WrongInput(f"endpoint: '{told}' will not do ({problem}); write ENDPOINT=http://HOST:PORT") from None
    except http.client.HTTPException:
        _require_scheme(told, endpoint, "no HTTP")
        raise Unreachable(f"{told} does not speak HTTP; is it the port of the API's gRPC, not of HTTP?") from None
    except (urllib.error.URLError, OSError) as problem:
        _require_scheme(told, endpoint, str(problem))
        raise Unreachable(f"no server answers at {told}: {getattr(problem, 'reason', problem)}") from None


def open_client(endpoint: str, token: str, namespace: str) -> Any:
    import kfp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "only works with v2", at each start
        return kfp.Client(
            host=endpoint, existing_token=token or None, **({"namespace": namespace} if namespace else {})
        )


def send(client: Any, package: str, plan: Plan, parameters: dict[str, Any], experiment: str, namespace: str) -> str:
    """Submit the compiled text; the run's id. Raises WrongInput where the server refuses what was sent, else Unreachable."""
    with _sent("run", package) as path:
        result = client.create_run_from_pipeline_package(
            path, arguments=parameters, run_name=plan.run_name, experiment_name=experiment,
            namespace=namespace or None, enable_caching=False,
        )  # fmt: skip
    return result.run_id


def schedule(
    client: Any, name: str, cron: str, package: str, parameters: dict[str, Any], experiment: str, namespace: str
) -> str:  # fmt: skip
    """Have the compiled text run again and again, one run at a time; the schedule's id. Raises as `send` does.

    A schedule of this name in the experiment is WrongInput too: each of both would start its runs.
    """
    with _sent("schedule", package) as path:
        where = client.create_experiment(experiment, namespace=namespace or None).experiment_id
        known = client.list_recurring_runs(experiment_id=where, filter=_named(name), page_size=1).recurring_runs
        if known:
            raise WrongInput(
                f"schedule: there is one named {name!r} already, whose runs would go on beside; take it away (kfp recurring-run delete {known[0].recurring_run_id}), or give another SCHEDULE_NAME"
            )
        made = client.create_recurring_run(
            where, name, cron_expression=cron, max_concurrency=1, no_catchup=True, params=parameters,
            pipeline_package_path=path, enable_caching=False,
        )  # fmt: skip
    return made.recurring_run_id


@contextlib.contextmanager
def _sent(what: str, package: str) -> Iterator[str]:
    """The path of the compiled text, and how the client's calls with it fail: WrongInput, or Unreachable."""
    import kfp_server_api
    import urllib3

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ddpm.yaml")
        path.write_text(package)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the client's links; our own is told later
                yield str(path)
        except kfp_server_api.ApiException as problem:
            words = server_words(problem)
            raise (WrongInput if problem.status == 400 else Unreachable)(
                f"the server refused the {what}: {words}"
            ) from None
        except urllib3.exceptions.HTTPError as problem:
            raise Unreachable(f"the server stopped answering: {problem}") from None


def _named(name: str) -> str:
    """A filter of the server's, by the name that is shown."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def asked(call: Callable[[], T]) -> T:
    """What a call of the client returns. Raises Unreachable, with the server's own words, where it fails."""
    import kfp_server_api
    import urllib3

    try:
        return call()
    except kfp_server_api.ApiException as problem:
        raise Unreachable(server_words(problem), problem.status or 0) from None
    except urllib3.exceptions.HTTPError as problem:
        raise Unreachable(f"no answer ({type(problem).__name__})") from None


def retry(client: Any, run_id: str) -> None:
    """Have a failed run tried again from where it failed, as the Retry button of KFP's pages does."""
    asked(lambda: client._run_api.run_service_retry_run(run_id=run_id))  # kfp's own client has no name for it


def find_run(client: Any, run: str, namespace: str) -> Any:
    """The run of this id, or the newest of this name. Raises WrongInput where there is none."""
    try:
        return asked(lambda: client.get_run(run))
    except Unreachable as problem:
        if problem.status not in (400, 404):
            raise
    found = asked(
        lambda: client.list_runs(
            page_size=1, sort_by="created_at desc", filter=_named(run), namespace=namespace or None
        )
    )
    if not found.runs:
        raise WrongInput(f"RUN: the server knows no run of the id or the name '{run}'")
    return asked(lambda: client.get_run(found.runs[0].run_id))


def server_words(problem: Any) -> str:
    """The server's own message, without the stack that may come along."""
    try:
        body = json.loads(problem.body or "")
    except json.JSONDecodeError:
        body = {}
    words = str(body.get("message") or body.get("error") or problem.reason).strip()
    return f"{words.splitlines()[0] if words else 'no reason given'} (status {problem.status})"
