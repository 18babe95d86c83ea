"""`ddpm STEP`: every step by hand, on the same functions as the pipeline's components.

`--json` prints one JSON object on standard output; progress goes to standard error. Exit status: 0 done, 2 wrong input,
3 refused by a gate or a check, 1 failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm.arguments import chosen_settings, place_flags, read_candidates, read_json, settings_flags
from ddpm.errors import Refused, WrongInput
from ddpm.plan import PLACES, SEARCHED
from ddpm.progress import Bars, Progress, open_progress
from ddpm.settings import (
    DrawSettings,
    EvaluateSettings,
    IngestSettings,
    JudgeSettings,
    ModelSettings,
    RegistrySettings,
    SearchSettings,
    TrainSettings,
    pick,
)

Facts = dict[str, Any]
TEXT = "text"  # the one fact of a step that has its own words for a person
SECONDS_TO_OPEN = 120.0  # that a search worker waits for worker 0


def ingest(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.steps.ingest import ingest
    from ddpm.store import open_store

    settings = pick(IngestSettings, chosen_settings(arguments))
    return dict(ingest(settings, open_store(arguments.store), progress, arguments.workers))


def verify(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.data.verify import verify

    facts = verify(arguments.uri, progress)
    if not facts["ok"]:
        _print(dict(facts), arguments.json)
        first = facts["bad"][0]
        raise Refused(f"{len(facts['bad'])} bad objects, the first {first['object']}: {first['reason']}")
    return dict(facts)


def gc(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.data.garbage import collect_garbage
    from ddpm.store import open_store

    return collect_garbage(open_store(arguments.store), progress, arguments.delete, arguments.older_than)


def train(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.steps.train import train
    from ddpm.training.distributed import join_world

    chosen = chosen_settings(arguments)
    model, settings = pick(ModelSettings, chosen), pick(TrainSettings, chosen)
    with join_world() as world:
        facts = train(model, settings, arguments.dataset, arguments.out, progress, arguments.start, world=world)
        arguments.silent = not world.leads
    return facts


def search(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.data.dataset import open_dataset
    from ddpm.run import Run
    from ddpm.search.choice import choose
    from ddpm.search.worker import follow, search
    from ddpm.steps.configure import configure, join
    from ddpm.training.distributed import join_world

    data = open_dataset(arguments.dataset)
    places = {place: getattr(arguments, place) for place in PLACES}
    of_data = {"source": arguments.dataset, "dataset_name": data.name, "image_size": data.image_size}
    parameters = {**chosen_settings(arguments), **of_data, **places}
    with join_world() as world:
        arguments.silent = not world.leads
        if not world.leads:
            follow(data, world)
            return {}
        # One process opens the run: several at once would each queue all trials.
        plan = configure(parameters, progress) if arguments.worker == 0 else join(parameters, progress, SECONDS_TO_OPEN)
        ran = search(Run(plan), arguments.dataset, arguments.worker, progress, world)
    try:
        return dict(choose(Run(plan)))
    except Refused as unfinished:
        progress.say(str(unfinished))
        return dict(ran)


def sample(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.steps.sample import sample

    given = {name: getattr(arguments, name) for name in (spec.name for spec in dataclasses.fields(DrawSettings))}
    return sample(
        arguments.model, arguments.n, arguments.seed, arguments.out, arguments.tracking_uri, progress, arguments.label, **given,
    )  # fmt: skip


def export(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.registry.export import export

    return export(arguments.model, arguments.format, arguments.out, arguments.tracking_uri, arguments.weights)


def evaluate(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.steps.evaluate import evaluate
    from ddpm.steps.page import publish
    from ddpm.store import open_store

    if arguments.html and not Path(arguments.html).absolute().parent.is_dir():
        raise WrongInput(f"html: there is no folder for {arguments.html}; make it, or name another")
    if arguments.html and Path(arguments.html).is_dir():
        raise WrongInput(f"html: {arguments.html} is a folder; name a file")
    chosen, store = chosen_settings(arguments), open_store(arguments.store)
    settings, drawing = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen)
    asked = pick(JudgeSettings, chosen)
    report = evaluate(
        arguments.generated, arguments.dataset, settings, drawing, store, arguments.tracking_uri, progress
    )
    if asked.judge_url:
        from ddpm.steps.judge import judge as ask

        report["judge"] = ask(
            arguments.generated, arguments.dataset, settings, drawing, asked, store, arguments.tracking_uri, progress
        )
    page, report["page"] = publish(report, store)
    if arguments.html:
        Path(arguments.html).write_text(page)
    return report


def judge(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.steps.judge import judge
    from ddpm.store import open_store

    chosen = chosen_settings(arguments)
    verdict = judge(
        arguments.generated, arguments.dataset, pick(EvaluateSettings, chosen), pick(DrawSettings, chosen),
        pick(JudgeSettings, chosen),        open_store(arguments.store), arguments.tracking_uri, progress,
    )  # fmt: skip
    if not verdict["reported"]:
        _print(verdict, arguments.json)
        raise Refused(f"no score: {verdict['why']}")
    return verdict


def compare(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.evaluation.protocol import compare, table

    found = compare(read_json(arguments.a), read_json(arguments.b))
    return found if arguments.json else {TEXT: table(found)}


def rank(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.search.ranking import explain, rank

    ranked = rank(read_candidates(Path(arguments.file)))
    rows = [
        {"model": r.candidate.model, "fid_rank": r.fid_rank, "kid_rank": r.kid_rank, "mean_rank": r.mean_rank}
        for r in ranked
    ]
    return {"best": ranked[0].candidate.model, "why": explain(ranked), "ranking": rows}


def register(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.registry.version import register

    name = pick(RegistrySettings, chosen_settings(arguments)).model_name
    report = read_json(arguments.report)
    facts = register(arguments.tracking_uri, name, arguments.checkpoint, report, None, {})
    if not facts["new"]:
        progress.say(f"the same weights are version {facts['version']} already; it stays as it is, with its own report")
    return facts


def promote(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.steps.promote import promote
    from ddpm.store import open_store

    chosen = chosen_settings(arguments)
    facts = promote(
        open_store(arguments.store), arguments.tracking_uri, arguments.model_name, arguments.version, arguments.dataset,
        pick(EvaluateSettings, chosen), pick(DrawSettings, chosen), progress, again=True,
    )  # fmt: skip
    if "champion" not in facts["aliases"]:
        _print(facts, arguments.json)
        raise Refused(facts["decision"])
    return facts


def rollback(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.registry.promotion import rollback
    from ddpm.store import open_store

    return rollback(open_store(arguments.store), arguments.tracking_uri, arguments.model_name, why=arguments.why)


def history(arguments: argparse.Namespace, progress: Progress) -> Facts:
    from ddpm.registry.promotion import entries
    from ddpm.store import open_store

    found = entries(open_store(arguments.store), arguments.model_name)
    if not found:
        raise WrongInput(
            f"model_name: no version of {arguments.model_name} was ever decided on in {arguments.store}; name a model that was registered and promoted"
        )
    return {"name": arguments.model_name, "entries": found}


# -- the command line ----------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ddpm", description=__doc__.split("\n")[0])
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True)

    def step(work: Callable[[argparse.Namespace, Progress], Facts], text: str) -> argparse.ArgumentParser:
        added = steps.add_parser(work.__name__, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        added.set_defaults(work=work)
        return added

    p = step(ingest, "publish pictures as a data set")
    p.add_argument(
        "source",
        help="a named source (digits, flowers102, dalle-dogs, celeba, cifar10; NAME:PATH from disk), a folder of pictures, archive:FILE, parquet:GLOB, s3://BUCKET/PREFIX, or a published data set's URI",
    )
    p.add_argument("--name", "--dataset-name", dest="dataset_name", required=True)
    p.add_argument("--workers", type=int, default=0, help="processes that decode; 0: one a core")
    place_flags(p, "store")
    settings_flags(p, IngestSettings, without=("source", "dataset_name"))

    p = step(verify, "read every byte of a data set again and check it against its manifest")
    p.add_argument("uri", help="the data set's manifest")

    p = step(gc, "list what lies in a store and nothing names, and remove it if asked")
    place_flags(p, "store")
    p.add_argument("--delete", action="store_true", help="remove it")
    p.add_argument(
        "--older-than",
        "--older_than",
        type=float,
        default=24.0,
        metavar="HOURS",
        help="spare what is younger (default: 24)",
    )

    p = step(train, "train a model; the same --out again resumes; under torchrun, on several GPUs")
    p.add_argument("--dataset", required=True, metavar="URI")
    p.add_argument("--out", required=True, metavar="URI", help="where checkpoints go")
    p.add_argument("--start", metavar="URI", help="a checkpoint to go on from")
    settings_flags(p, ModelSettings, TrainSettings)

    p = step(
        search,
        "one worker of a study over learning rate and multipliers; under torchrun, it trains each trial on several GPUs",
    )
    p.add_argument("--dataset", required=True, metavar="URI")
    p.add_argument(
        "--worker",
        type=int,
        default=0,
        help="this worker's number, of its own: 0 opens the run, and others may be started beside it",
    )
    place_flags(p, *PLACES)
    settings_flags(
        p, ModelSettings, TrainSettings, SearchSettings, DrawSettings, EvaluateSettings, without=tuple(SEARCHED)
    )

    p = step(sample, "draw pictures from a model")
    p.add_argument(
        "--model", required=True, metavar="REF", help="a checkpoint's URI, models:/NAME@ALIAS or models:/NAME/VERSION"
    )
    p.add_argument("--n", type=int, default=16)
    p.add_argument("--seed", type=int, default=0, help="pictures SEED to SEED+N-1")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--sampler", help="default: the registered version's own")
    p.add_argument("--sampling-steps", "--sampling_steps", type=int, help="default: the registered version's own")
    p.add_argument("--sample-batch", "--sample_batch", type=int, help="default: 16")
    p.add_argument("--churn", type=float, help="of the sampler heun; default: the registered version's own")
    p.add_argument("--guidance", type=float, help="of models with classes; default: the registered version's own")
    p.add_argument("--label", type=int, help="the class of all pictures; default: each seed's own")
    place_flags(p, "tracking_uri")

    p = step(export, "a model as a folder for other programs, diffusers among them")
    p.add_argument(
        "--model", required=True, metavar="REF", help="a checkpoint's URI, models:/NAME@ALIAS or models:/NAME/VERSION"
    )
    p.add_argument("--format", default="safetensors", help="safetensors (the default) or diffusers")
    p.add_argument("--out", required=True, metavar="DIR", help="a new folder, or an empty one")
    p.add_argument("--weights", default="ema", help="ema, the averaged ones (the default), or, of a checkpoint, raw")
    place_flags(p, "tracking_uri")

    p = step(
        evaluate, "FID, KID, precision, recall and copying of a folder of pictures, a checkpoint or a registered model"
    )
    p.add_argument("--generated", required=True, metavar="REF-or-DIR")
    p.add_argument("--dataset", required=True, metavar="URI")
    p.add_argument("--html", metavar="FILE", help="the report as a page, here too")
    place_flags(p, "store", "tracking_uri")
    settings_flags(p, DrawSettings, EvaluateSettings, JudgeSettings)

    p = step(judge, "ask a vision model how much pictures resemble the subject, with controls among them")
    p.add_argument("--generated", required=True, metavar="REF-or-DIR")
    p.add_argument("--dataset", required=True, metavar="URI")
    place_flags(p, "store", "tracking_uri")
    settings_flags(p, DrawSettings, EvaluateSettings, JudgeSettings)

    p = step(compare, "two evaluations side by side")
    p.add_argument("a", metavar="A.json")
    p.add_argument("b", metavar="B.json")

    p = step(rank, "the best of several models by the mean of their ranks by FID and KID")
    p.add_argument("file", metavar="FILE.csv", help="columns model, fid, kid and, if you like, parameters")

    p = step(register, "a checkpoint and its report as a version in MLflow's registry")
    p.add_argument("--checkpoint", required=True, metavar="URI")
    p.add_argument("--report", required=True, metavar="FILE", help="what `ddpm evaluate --json` printed")
    place_flags(p, "tracking_uri")
    settings_flags(p, RegistrySettings)

    p = step(promote, "a version to champion, if it is better than the one there is")
    p.add_argument("--model-name", "--model_name", required=True)
    p.add_argument("--version", type=int, required=True)
    p.add_argument(
        "--dataset",
        required=True,
        metavar="URI",
        help="where the champion is measured again if it was measured otherwise",
    )
    place_flags(p, "store", "tracking_uri")
    settings_flags(p, DrawSettings, EvaluateSettings)

    for work, text in (
        (rollback, "the previous champion back in its place"),
        (history, "who was promoted when, and why"),
    ):
        p = step(work, text)
        p.add_argument("--model-name", "--model_name", required=True)
        place_flags(p, "store", "tracking_uri")
        if work is rollback:
            p.add_argument("--why", required=True, help="kept in the promotion log")
    return parser


def _print(facts: Facts, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    if list(facts) == [TEXT]:
        print(facts[TEXT])
        return
    for name, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{name}:")
            for row in value:
                print("   " + "  ".join(f"{key} {cell}" for key, cell in row.items()))
        else:
            print(f"{name}: {json.dumps(value) if isinstance(value, (dict, list)) else value}")


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    progress = open_progress()
    try:
        facts = arguments.work(arguments, progress)
    except WrongInput as problem:
        status, problem_line = 2, str(problem)
    except Refused as problem:
        status, problem_line = 3, str(problem)
    except KeyboardInterrupt:
        status, problem_line = 130, "stopped; the same command carries on"
    else:
        status, problem_line = 0, ""
    finally:
        if isinstance(progress, Bars):
            progress.close()
    if status:
        print(f"ddpm: {problem_line}", file=sys.stderr)
    elif not getattr(arguments, "silent", False):  # of several processes, one speaks
        _print(facts, arguments.json)
    return status


if __name__ == "__main__":
    sys.exit(main())
