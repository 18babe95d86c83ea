"""A cluster looked over before a run.

    python -m pipelines.doctor --endpoint URL [--namespace kubeflow] [--cluster NAME|PATH] [--probe]

One line a finding: `ok`, `wrong` with what to do, `not looked at` with why. Exit status: 0 where nothing is wrong, 3
where something is, 2 for flags that will not do.

Environment: as of `pipelines/submit.py`; KUBECONFIG. What the ConfigMap and the Secret `ddpm` give the tasks, this process
takes too unless it is exported here: the places are tried with the tasks' own credentials, which are never shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from ddpm import outages
from ddpm.arguments import Parser
from ddpm.legible import tell
from ddpm.places import VARIABLES
from ddpm.steps.trainjob.api import connect
from pipelines.cluster import load_cluster
from pipelines.doctor import images, nodes, places, probe, retries, server, trainjob
from pipelines.doctor import namespace as in_namespace
from pipelines.doctor.finding import UNKNOWN, WRONG, Finding, unknown
from pipelines.doctor.namespace import Namespace
from pipelines.registries import check_image, images_of
from pipelines.submit import PACKAGE, ended, look_flags, server_flags, spec_of

NAMESPACE = "kubeflow"  # where Kubeflow Pipelines for one user runs its tasks, and where it is itself


def findings(options: Any) -> Iterator[Finding]:
    cluster = load_cluster(options.cluster)
    task = [check_image(options.image)] if options.image else images_of(spec_of(PACKAGE.read_text()))
    servers = images.servers_images(options.overlay) if options.overlay else []
    yield from server.look(options.endpoint)
    yield from images.look([*task, *servers])
    if problem := connect():
        for what in ("ConfigMap and Secret", "ResourceQuota", "retries", "nodes"):
            yield unknown(f"{what}: no Kubernetes API is known here ({problem}); KUBECONFIG names one")
    else:
        space = Namespace(options.namespace or NAMESPACE, options.system_namespace)
        yield from in_namespace.look(space, cluster)
        yield from in_namespace.asked("retries", lambda: retries.look(space, cluster))
        yield from in_namespace.asked("nodes", lambda: nodes.look(space.nodes(), cluster))
        yield from in_namespace.asked("TrainJob", lambda: trainjob.look(space.name, cluster))
        in_namespace.take_over(space)
    yield from places.look()
    if options.probe:
        store = os.environ.get(VARIABLES["store"], "")
        yield from probe.look(
            options.endpoint, options.namespace, task[0], options.cluster, store, options.poll_seconds
        )


def look_over(options: Any) -> int:
    """Tell each finding; the exit status."""
    os.environ[outages.VARIABLE] = "0"  # what does not answer now is what is asked for
    told: list[Finding] = []
    for finding in findings(options):
        tell(finding, sys.stdout)
        told.append(finding)
    wrong = sum(finding.state == WRONG for finding in told)
    left = sum(finding.state == UNKNOWN for finding in told)
    tell(f"{wrong} wrong, {left} not looked at, {len(told) - wrong - left} ok", sys.stdout)
    return 3 if wrong else 0


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipelines.doctor", description="Look a cluster over before a run.")
    server_flags(parser, f"where tasks run; {NAMESPACE} where none is given")
    look_flags(parser)
    parser.add_argument(
        "--system-namespace", default=NAMESPACE, help=f"where Kubeflow Pipelines is (default {NAMESPACE})"
    )
    parser.add_argument("--cluster", default="", help="what the tasks will ask of its nodes, as with `make submit`")
    parser.add_argument("--image", default="", help="the tasks' image, and the probe's (default: the compiled file's)")
    parser.add_argument("--overlay", default="", help="an overlay of deploy/, whose images are looked for too")
    parser.add_argument(
        "--probe", action="store_true", help="have a tiny run fail once, to see whether it is tried again"
    )
    return ended(lambda: look_over(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
