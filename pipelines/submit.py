"""`make submit`: the compiled pipeline on a cluster, watched to its end.

    python -m pipelines.submit --endpoint URL --preset flowers102 [--run-name NAME] [--image IMAGE] [--cluster NAME|PATH] [NAME=VALUE …]

Checks the settings and the places, checks their names and types against what `pipelines/ddpm.yaml` declares, submits
it through the KFP client and follows its steps (`pipelines/following.py`). Exit status: 0 only when the run SUCCEEDED; 2
wrong input, found before anything was submitted or by a step; 3 a step's check refused; 1 the run failed or was
terminated, or the server did; 130 when the person watching stops watching (the run goes on).

Environment: KFP_ENDPOINT, KFP_TOKEN (or KFP_TOKEN_FILE, which is read again when it expires) and KFP_NAMESPACE; DDPM_STORE, MLFLOW_TRACKING_URI and DDPM_STUDY_STORAGE as seen
from the cluster.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ddpm import numerals
from ddpm.arguments import Parser
from ddpm.data import sources
from ddpm.errors import Outage, WrongInput
from ddpm.failure import keep_traceback
from ddpm.legible import take_all_characters, tell
from ddpm.places import VARIABLES
from ddpm.plan import Plan
from pipelines import request
from pipelines.following import Followed
from pipelines.registries import images_of, look
from pipelines.server import Unreachable, check_endpoint, open_client, send, token_now

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


def spec_of(package: str) -> dict[str, Any]:
    """KFP's own document of a compiled text."""
    return next(yaml.load_all(package, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # Python's own takes a second


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


def check_source_for_cluster(source: str, setting: str = "source") -> None:
    """Raise WrongInput for a source that only this machine has."""
    # Nothing is looked at: the cluster's tasks have the credentials to read a bucket, this machine may have none.
    if sources.parse(source).local_paths():
        raise WrongInput(
            f"{setting}: {source} is a folder of this machine, which the cluster's tasks cannot see; name a source, as in flowers102"
        )


def count(text: str) -> int:
    """A number of retries, from 0 up."""
    if not numerals.DIGITS.fullmatch(text) or numerals.count(text[:20]) > 100:
        raise argparse.ArgumentTypeError(f"'{text}' will not do; it must be a whole number from 0 to 100")
    return numerals.count(text)


def pause(text: str) -> float:
    """Seconds between two looks, above 0 and at most an hour."""
    try:
        seconds = numerals.number(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"'{text}' will not do; it must be above 0 and at most 3600 seconds")
    return seconds


def server_flags(parser: argparse.ArgumentParser, namespace: str) -> None:
    """Where Kubeflow Pipelines is; `namespace` says what it is for, besides its default."""
    parser.add_argument(
        "--endpoint",
        default=os.environ.get("KFP_ENDPOINT", ""),
        help="the Kubeflow Pipelines API (default $KFP_ENDPOINT)",
    )
    parser.add_argument(
        "--namespace",
        default=os.environ.get("KFP_NAMESPACE", ""),
        help=f"{namespace} (default $KFP_NAMESPACE)",
    )


def look_flags(parser: argparse.ArgumentParser) -> None:
    """How often the server is looked at."""
    parser.add_argument("--poll-seconds", type=pause, default=10.0, help="between two looks (default 10)")


def cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Where the cluster is, and how a run there is followed."""
    server_flags(parser, "where Kubeflow has several users")
    look_flags(parser)
    parser.add_argument(
        "--retries",
        type=count,
        default=0,
        help="how often a failed run is tried again, where that may help (default 0)",
    )


def ended(work: Callable[[], int]) -> int:
    """The exit status of what talks to a cluster; why it ended otherwise than well, in one line."""
    take_all_characters()
    try:
        return work()
    except WrongInput as problem:
        tell(problem)
        return 2
    except (Unreachable, Outage) as problem:
        tell(problem)
        return 1
    except KeyboardInterrupt:
        tell()
        tell("no longer watching; a run that was submitted goes on, and `make resume RUN=NAME` watches it again")
        return 130
    except Exception as problem:  # a bug: in one line, with its traceback kept
        tell(keep_traceback(problem))
        return 1


class Checked(NamedTuple):
    """What is asked of a cluster, once all is checked that can be checked from here."""

    plan: Plan
    workers: list[int]
    package: str  # the compiled text
    parameters: dict[str, Any]


def checked(options: argparse.Namespace, run_name: str) -> Checked:
    """What the flags of `request_flags` ask for. Raises WrongInput, before anybody is asked anything."""
    changes = request.parse_changes(options.set, options.changes)
    plan, workers = request.gather(options.preset, options.data, run_name, changes, cluster_places(changes))
    for setting, source in plan.sets().items():
        check_source_for_cluster(source, setting)
    for setting, example in request.FILES.items():
        if request.is_here(place := str(plan.parameters()[setting])):
            raise WrongInput(f"{setting}: {place} is a file of this machine; give a URI, as in {example}")
    package = PACKAGE.read_text()
    if options.cluster:
        from pipelines.pipeline import compiled  # it imports KFP's compiler, for seconds

        package = compiled(cluster=options.cluster)
    parameters = {**plan.parameters(), request.WORKERS: workers}
    check_against(spec_of(package), parameters)
    if options.image:
        from pipelines.pipeline import set_image

        package = set_image(package, options.image)
    return Checked(plan, workers, package, parameters)


def look_at_images(package: str) -> None:
    """Say what is not known of its images. Raises WrongInput for one that is not there."""
    for image in images_of(spec_of(package)):
        if words := look(image):
            tell(words)


def submit(options: argparse.Namespace) -> int:
    """Check, send, wait; the exit status."""
    name = options.run_name or f"{options.preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    plan, workers, package, parameters = checked(options, name)
    token = token_now()
    check_endpoint(options.endpoint, token)
    look_at_images(package)
    client = open_client(options.endpoint, token, options.namespace)
    run_id = send(client, package, plan, parameters, options.experiment or plan.ingest.dataset_name, options.namespace)
    tell(f"run {plan.run_name} is {options.endpoint.rstrip('/')}/#/runs/details/{run_id}")
    if options.no_wait:
        return 0
    where = (options.endpoint, options.namespace)
    run = Followed(client, *where, run_id, plan.run_name, plan.store, workers, plan.tracking_uri)
    return run.see_through(options.retries, options.poll_seconds)


def request_flags(parser: argparse.ArgumentParser) -> None:
    """What is to be run, and in which pods."""
    parser.add_argument(
        "--preset", default="flowers102", help="a file of ddpm/presets/, without .yaml (default flowers102)"
    )
    parser.add_argument("--data", default="", help="a named source (default: the preset's)")
    parser.add_argument("--experiment", default="", help="the KFP experiment (default: the data set's name)")
    parser.add_argument("--image", default="", help="the image of every task (default: the compiled file's)")
    parser.add_argument(
        "--cluster",
        default="",
        help="what the tasks ask of its nodes, a file of pipelines/clusters/ by name, or another by path (default: the compiled file's)",
    )
    parser.add_argument("--set", default="", metavar="NAME=VALUE …", help="the same as one text")
    parser.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="settings other than the preset's")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipelines.submit", description="Run the compiled pipeline on a cluster.")
    request_flags(parser)
    parser.add_argument(
        "--run-name", default="", help="a name; given again, the run carries on (default: PRESET-date-time)"
    )
    cluster_flags(parser)
    parser.add_argument("--no-wait", action="store_true", help="leave once the run is submitted")
    return ended(lambda: submit(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
