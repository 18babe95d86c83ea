"""MLflow's registry: versions, and the promotion log."""

from __future__ import annotations

import argparse

from ddpm.arguments import chosen_settings, read_report
from ddpm.commands.table import (
    A_DATASET,
    GUIDE,
    MODEL_NAME,
    Facts,
    command,
    dataset_of,
    flag,
    number,
    output,
    place,
    places,
    settings,
)
from ddpm.errors import Refused, WrongInput
from ddpm.places import output_file
from ddpm.settings import DrawSettings, EvaluateSettings, RegistrySettings, pick
from ddpm.workplace import Workplace


@command(
    "a checkpoint and its report as a version in MLflow's registry",
    place("--checkpoint", required=True, metavar="URI", help="the checkpoint, or the folder that training wrote to"),
    place("--report", required=True, metavar="FILE", help="what `ddpm evaluate --json` printed"),
    GUIDE,
    places("store", "tracking_uri"),
    settings(RegistrySettings),
)
def register(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.evaluation.evaluate import is_stored
    from ddpm.evaluation.report import is_findable
    from ddpm.registry.version import register, told

    name = pick(RegistrySettings, chosen_settings(arguments)).model_name
    report = read_report(arguments.report)
    if not is_stored(place.store, report, "report") and is_findable(report):
        place.progress.say(
            f"the report is not in {place.store.root}, so nobody knows who wrote it: it is registered as it is, and `ddpm promote` measures the version again"
        )
    facts = register(place.tracking_uri, name, arguments.checkpoint, report, None, {}, arguments.guide)
    if not facts["new"]:
        place.progress.say(told(facts))
    return facts


@command(
    "a version to champion, if it is better than the one there is",
    MODEL_NAME,
    number("--version", "int", None, "the version's number", low=1, high=10**9, required=True),
    place("--dataset", required=True, metavar="DATASET", help=f"where the champion is measured again if it was measured otherwise: {A_DATASET}"),
    flag("--dry-run", action="store_true", help="say what the gate says, with every rule's numbers, and change nothing"),
    places("store", "tracking_uri"),
    settings(DrawSettings, EvaluateSettings),
)  # fmt: skip
def promote(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.promote import promote, try_out

    chosen = chosen_settings(arguments)
    measuring, drawing = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen)
    if arguments.dry_run:
        dataset = dataset_of(arguments, place)
        tried = try_out(place, arguments.model_name, arguments.version, dataset, measuring, drawing)
        if not tried["would_promote"]:
            raise Refused(tried["decision"], tried)
        return tried
    facts = promote(
        place, arguments.model_name, arguments.version, dataset_of(arguments, place), measuring, drawing, again=True
    )  # fmt: skip
    if "champion" not in facts["aliases"]:
        raise Refused(facts["decision"], facts)
    return facts


@command(
    "the previous champion back in its place",
    MODEL_NAME,
    flag("--why", required=True, help="kept in the promotion log"),
    places("store", "tracking_uri"),
)
def rollback(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.registry.promotion import rollback

    return rollback(place.store, place.tracking_uri, arguments.model_name, why=arguments.why)


@command(
    "who was promoted when, and why",
    MODEL_NAME,
    output("--html", metavar="FILE", help="the log as a page that needs nothing else (default: none)"),
    places("store", "tracking_uri"),
)
def history(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.registry.log import read_log
    from ddpm.store import FileStore

    log = read_log(place.store, arguments.model_name)
    if not log.entries and not log.damaged:
        raise WrongInput(
            f"model_name: no version of {arguments.model_name} was ever decided on in {arguments.store}; name a model that was registered and promoted"
        )
    for stray in log.strays:
        place.progress.say(f"{stray} is no entry of the log, and is passed over")
    if arguments.html:
        from ddpm.registry.history import page

        html = output_file("html", arguments.html)
        FileStore(html.parent).write(html.name, page(arguments.model_name, log).encode())
    facts = {"name": arguments.model_name, "entries": log.entries}
    if log.damaged:
        raise Refused(
            f"the promotion log of {arguments.model_name} is damaged: {log.damaged[0]}",
            {**facts, "damaged": log.damaged},
        )
    return facts
