"""`make schedule`: the compiled pipeline on a cluster, again and again by the clock.

    python -m pipelines.schedule --endpoint URL --cron '0 0 3 * * 1' [--name NAME] [--preset flowers102] [NAME=VALUE …]

Checks what `pipelines/submit.py` checks, and has Kubeflow Pipelines start such a run at each time. The runs have no name
in common, which would make the second one carry the first one on: each goes by Kubeflow's id of it. What they have in
common is the names of the data set and of the model, by which they find what is ingested already, and meet the champion.

Exit status: 0 once the schedule is there; 2 wrong input, 1 the server did not answer. Environment: as of `submit.py`.
"""

from __future__ import annotations

import argparse
import re
import sys

from ddpm.arguments import Parser
from ddpm.errors import WrongInput
from ddpm.fields import shown
from ddpm.legible import tell
from pipelines.server import check_endpoint, open_client, schedule, token_now
from pipelines.submit import checked, ended, look_at_images, request_flags, server_flags

EXAMPLE = "0 0 3 * * 1"
FIELDS = ("second", "minute", "hour", "day", "month", "weekday")
DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_FIELD = re.compile(r"[0-9A-Za-z*/,?-]+")


def check_cron(cron: str) -> str:
    """A schedule in Kubeflow's six fields. Raises WrongInput for five, which it would take for others than were meant."""
    fields = cron.split()
    if cron in DESCRIPTORS or (len(fields) == len(FIELDS) and all(map(_FIELD.fullmatch, fields))):
        return " ".join(fields)
    if len(fields) == len(FIELDS) - 1:
        raise WrongInput(
            f"CRON: {shown(cron)} has five fields, and Kubeflow takes the first of them for the seconds; write CRON='0 {' '.join(fields)}'"
        )
    raise WrongInput(
        f"CRON: {shown(cron)} will not do; write {', '.join(FIELDS)}, as in CRON='{EXAMPLE}' (Mondays at 3), or one of {', '.join(DESCRIPTORS)}"
    )


def set_up(options: argparse.Namespace) -> int:
    """Check, and send; the exit status."""
    cron = check_cron(options.cron)
    if options.run_name:
        raise WrongInput("RUN_NAME: the second run of that name would carry the first one on; leave it out")
    plan, _, package, parameters = checked(options, "scheduled")
    del parameters["run_name"]
    token = token_now()
    check_endpoint(options.endpoint, token)
    look_at_images(package)
    client = open_client(options.endpoint, token, options.namespace)
    experiment = options.experiment or plan.ingest.dataset_name
    name = options.name or experiment
    made = schedule(client, name, cron, package, parameters, experiment, options.namespace)
    tell(f"schedule {name} is {options.endpoint.rstrip('/')}/#/recurringrun/details/{made}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipelines.schedule", description="Run the compiled pipeline again and again.")
    request_flags(parser)
    server_flags(parser, "where Kubeflow has several users")
    parser.add_argument("--cron", default="", help=f"when: {' '.join(FIELDS)}, by the server's clock, as in {EXAMPLE}")
    parser.add_argument("--name", default="", help="what the schedule is called (default: the experiment's name)")
    parser.add_argument("--run-name", default="", help="refused: each run has a name of its own")
    return ended(lambda: set_up(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
