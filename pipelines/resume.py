"""`make resume RUN=NAME|ID`: a run on a cluster is followed again and, where it has failed, first tried again.

    python -m pipelines.resume --endpoint URL --run NAME [--retries 3]

The server tries what failed, and what comes after it, as its pages' Retry button does; every step carries on where it
was. What was wrong input is not asked for again. Exit status and environment: as of `pipelines/submit.py`.
"""

from __future__ import annotations

import argparse
import os
import sys

from ddpm.arguments import Parser
from ddpm.errors import WrongInput
from ddpm.legible import tell
from ddpm.places import VARIABLES
from pipelines.following import ENDED, Followed
from pipelines.pipeline import WORKERS
from pipelines.server import check_endpoint, find_run, open_client, token_now
from pipelines.submit import cluster_flags, ended


def resume(options: argparse.Namespace) -> int:
    if not options.run:
        raise WrongInput("RUN: missing; write RUN=NAME, or the id that the run's address ends with")
    token = token_now()
    check_endpoint(options.endpoint, token)
    client = open_client(options.endpoint, token, options.namespace)
    found = find_run(client, options.run, options.namespace)
    given = (found.runtime_config.parameters if found.runtime_config else None) or {}
    name = given.get("run_name") or found.run_id
    store, tracking_uri = (
        given.get(place) or os.environ.get(VARIABLES[place], "") for place in ("store", "tracking_uri")
    )
    workers = [int(number) for number in given.get("search_workers") or WORKERS]
    where = (options.endpoint, options.namespace)
    run = Followed(client, *where, found.run_id, name, store, workers, tracking_uri)
    tell(f"run {name} is {options.endpoint.rstrip('/')}/#/runs/details/{found.run_id}")
    if found.state in ENDED and found.state != "SUCCEEDED":
        status = run.say_why(found)
        if status != 1:
            return status
        tell("asking for another try of what failed")
        run.retry(found)
    return run.see_through(options.retries, options.poll_seconds)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m pipelines.resume", description="Follow a run on a cluster, trying again what failed."
    )
    parser.add_argument("--run", default="", help="its name, or its id")
    cluster_flags(parser)
    return ended(lambda: resume(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
