"""`make submit`: the compiled pipeline on a cluster, watched to its end.

    python -m pipelines.submit --endpoint URL --preset flowers102 [--run-name NAME] [--image IMAGE] [NAME=VALUE …]

Checks the settings and the places, checks their names and types against what `pipelines/ddpm.yaml` declares, submits
it through the KFP client and waits. Exit status: 0 only when the run SUCCEEDED; 2 wrong input (nothing submitted), 1
the run failed or was cancelled, or the server did; 130 when the person watching stops watching (the run goes on).

Environment: KFP_ENDPOINT, KFP_TOKEN and KFP_NAMESPACE; DDPM_STORE, MLFLOW_TRACKING_URI and DDPM_STUDY_STORAGE as seen
from the cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import yaml

from ddpm.arguments import Parser
from ddpm.credentials import masked
from ddpm.data import sources
from ddpm.errors import WrongInput
from ddpm.failure import keep_traceback
from ddpm.legible import take_all_characters, tell
from ddpm.places import VARIABLES
from ddpm.plan import Plan
from pipelines import request

PACKAGE = Path(__file__).absolute().parent / "ddpm.yaml"
PLACES = {
    "store": (VARIABLES["store"], ("s3://",), "s3://BUCKET/PREFIX"),
    "tracking_uri": (VARIABLES["tracking_uri"], ("http://", "https://"), "http://mlflow:5000"),
    "study_storage": (
        VARIABLES["study_storage"],
        ("postgresql", "mysql"),
        "postgresql+psycopg://optuna@postgres/optuna",
    ),
}
TYPES: dict[str, Any] = {
    "STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float, "BOOLEAN": bool, "LIST": list, "STRUCT": dict,
}  # fmt: skip
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
UNANSWERED = 30  # looks in a row without an answer, after which watching ends


class Unreachable(RuntimeError):
    """The server gave no answer that can be used. One line."""

    def __init__(self, line: str) -> None:
        super().__init__(masked(line))


def cluster_places(changes: dict[str, str]) -> dict[str, str]:
    """store, tracking_uri and study_storage as the cluster's tasks reach them. Raises WrongInput for one that is missing or local."""
    found = {}
    for name, (variable, schemes, example) in PLACES.items():
        value = changes.get(name) or os.environ.get(variable, "")
        if not value:
            raise WrongInput(f"{name}: missing; export {variable}={example}, or say it in SET")
        if not value.startswith(schemes):
            raise WrongInput(f"{name}: {value} cannot be reached from a cluster; it must be like {example}")
        found[name] = value
    return found


def check_against(spec: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Raise WrongInput unless the names and types are those that the compiled file declares."""
    declared = spec["root"]["inputDefinitions"]["parameters"]
    for name, value in parameters.items():
        if name not in declared:
            raise WrongInput(f"{name}: {PACKAGE.name} knows no such parameter; run `make compile`")
        kind = TYPES[declared[name]["parameterType"]]
        if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
            raise WrongInput(
                f"{name}: {value!r} is not what {PACKAGE.name} declares, {declared[name]['parameterType']}"
            )
    for name, facts in declared.items():
        if name not in parameters and "defaultValue" not in facts and not facts.get("isOptional"):
            raise WrongInput(f"{name}: missing; {PACKAGE.name} has no default for it")


def check_source_for_cluster(source: str) -> None:
    """Raise WrongInput for a source that only this machine has."""
    # Nothing is looked at: the cluster's tasks have the credentials to read a bucket, this machine may have none.
    if sources.parse(source).local_paths():
        raise WrongInput(
            f"source: {source} is a folder of this machine, which the cluster's tasks cannot see; name a source, as in flowers102"
        )


def check_endpoint(endpoint: str, token: str) -> None:
    """One short look whether a Kubeflow Pipelines API answers: the client's own takes half a minute to give up."""
    if not endpoint.startswith(("http://", "https://")):
        raise WrongInput(f"endpoint: '{endpoint}' will not do; write ENDPOINT=http://HOST:PORT, or export KFP_ENDPOINT")
    url = f"{endpoint.rstrip('/')}/apis/v2beta1/healthz"
    try:
        ask = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(ask, timeout=20) as answer:
            json.loads(answer.read())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise Unreachable(f"{url} answers, but not as a Kubeflow Pipelines API does") from None
    except urllib.error.HTTPError as problem:
        if problem.code in (401, 403):
            said = "refused KFP_TOKEN" if token else "asks for a token; export KFP_TOKEN"
            raise Unreachable(f"{endpoint} {said} (status {problem.code})") from None
        raise Unreachable(f"{url} answers with status {problem.code}; is it a Kubeflow Pipelines API?") from None
    except (http.client.InvalidURL, ValueError) as problem:
        raise WrongInput(f"endpoint: '{endpoint}' will not do ({problem}); write ENDPOINT=http://HOST:PORT") from None
    except http.client.HTTPException:
        raise Unreachable(f"{endpoint} does not speak HTTP; is it the port of the API's gRPC, not of HTTP?") from None
    except (urllib.error.URLError, OSError) as problem:
        raise Unreachable(f"no server answers at {endpoint}: {getattr(problem, 'reason', problem)}") from None


def open_client(endpoint: str, token: str, namespace: str) -> Any:
    import kfp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "only works with v2", at each start
        return kfp.Client(
            host=endpoint, existing_token=token or None, **({"namespace": namespace} if namespace else {})
        )


def send(client: Any, package: str, plan: Plan, parameters: dict[str, Any], experiment: str, namespace: str) -> str:
    """Submit the compiled text; the run's id. Raises WrongInput where the server refuses what was sent, else Unreachable."""
    import kfp_server_api
    import urllib3

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ddpm.yaml")
        path.write_text(package)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the client's links; the run's own is told below
                result = client.create_run_from_pipeline_package(
                    str(path), arguments=parameters, run_name=plan.run_name, experiment_name=experiment,
                    namespace=namespace or None, enable_caching=False,
                )  # fmt: skip
        except kfp_server_api.ApiException as problem:
            words = _server_words(problem)
            raise (WrongInput if problem.status == 400 else Unreachable)(
                f"the server refused the run: {words}"
            ) from None
        except urllib3.exceptions.HTTPError as problem:
            raise Unreachable(f"the server stopped answering: {problem}") from None
    return result.run_id


def _server_words(problem: Any) -> str:
    """The server's own message, without the stack that may come along."""
    try:
        body = json.loads(problem.body or "")
    except json.JSONDecodeError:
        body = {}
    words = str(body.get("message") or body.get("error") or problem.reason).strip()
    return f"{words.splitlines()[0] if words else 'no reason given'} (status {problem.status})"


def wait(client: Any, run_id: str, seconds: float) -> str:
    """Watch the run to its end, telling each change of state; the last state."""
    import kfp_server_api
    import urllib3

    states: dict[str, str] = {}
    unanswered = 0
    while True:
        try:
            run = client.get_run(run_id)
            unanswered = 0
        except (kfp_server_api.ApiException, urllib3.exceptions.HTTPError) as problem:
            status = getattr(problem, "status", None)
            unanswered += 1
            if (status is not None and 400 <= status < 500) or unanswered >= UNANSWERED:
                reason = _server_words(problem) if hasattr(problem, "body") else str(problem)
                raise Unreachable(f"run {run_id} can no longer be watched: {reason}") from None
        else:
            now = {"run": run.state or "PENDING"}
            for task in (run.run_details.task_details if run.run_details else None) or []:
                if task.display_name and task.state:
                    now[task.display_name] = task.state
            for name, state in now.items():
                if states.get(name) != state:
                    tell(f"{time.strftime('%H:%M:%S')}  {name}  {state.lower()}")
            states = now
            if states["run"] in ENDED:
                if run.error and run.error.message:
                    tell(run.error.message.splitlines()[0])
                return states["run"]
        time.sleep(seconds)


def submit(options: argparse.Namespace) -> int:
    """Check, send, wait; the exit status."""
    changes = request.parse_changes(options.changes)
    name = options.run_name or f"{options.preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    plan, workers = request.gather(options.preset, options.data, name, changes, cluster_places(changes))
    check_source_for_cluster(plan.ingest.source)
    if plan.evaluate.weights and "://" not in plan.evaluate.weights:
        raise WrongInput(
            f"weights: {plan.evaluate.weights} is a file of this machine; give a URI, as in s3://bucket/weights.pth"
        )
    package = PACKAGE.read_text()
    parameters = {**plan.parameters(), request.WORKERS: workers}
    check_against(next(yaml.safe_load_all(package)), parameters)
    if options.image:
        from pipelines.pipeline import set_image

        package = set_image(package, options.image)
    token = os.environ.get("KFP_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise WrongInput("KFP_TOKEN: it holds characters that no token has; export it anew")
    check_endpoint(options.endpoint, token)
    client = open_client(options.endpoint, token, options.namespace)
    run_id = send(client, package, plan, parameters, options.experiment or plan.ingest.dataset_name, options.namespace)
    tell(f"run {plan.run_name} is {options.endpoint.rstrip('/')}/#/runs/details/{run_id}")
    if options.no_wait:
        return 0
    state = wait(client, run_id, options.poll_seconds)
    tell(f"run {plan.run_name} ended: {state}")
    return 0 if state == "SUCCEEDED" else 1


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipelines.submit", description="Run the compiled pipeline on a cluster.")
    parser.add_argument(
        "--preset", default="flowers102", help="a file of ddpm/presets/, without .yaml (default flowers102)"
    )
    parser.add_argument("--data", default="", help="a named source (default: the preset's)")
    parser.add_argument(
        "--run-name", default="", help="a name; given again, the run carries on (default: PRESET-date-time)"
    )
    parser.add_argument(
        "--endpoint",
        default=os.environ.get("KFP_ENDPOINT", ""),
        help="the Kubeflow Pipelines API (default $KFP_ENDPOINT)",
    )
    parser.add_argument(
        "--namespace",
        default=os.environ.get("KFP_NAMESPACE", ""),
        help="where Kubeflow has several users (default $KFP_NAMESPACE)",
    )
    parser.add_argument("--experiment", default="", help="the KFP experiment (default: the data set's name)")
    parser.add_argument("--image", default="", help="the image of every task (default: the compiled file's)")
    parser.add_argument("--no-wait", action="store_true", help="leave once the run is submitted")
    parser.add_argument("--poll-seconds", type=float, default=10.0, help="between two looks (default 10)")
    parser.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="settings other than the preset's")
    take_all_characters()
    try:
        return submit(parser.parse_args(arguments))
    except WrongInput as problem:
        tell(problem)
        return 2
    except Unreachable as problem:
        tell(problem)
        return 1
    except KeyboardInterrupt:
        tell()
        tell("no longer watching; a run that was submitted goes on")
        return 130
    except Exception as problem:  # a bug: in one line, with its traceback kept
        tell(keep_traceback(problem))
        return 1


if __name__ == "__main__":
    sys.exit(main())
