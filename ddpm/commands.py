"""The commands of `ddpm`: the flags of each, and what it does, in terms of the steps that the pipeline takes too."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.arguments import (
    chosen_settings,
    group_flags,
    place_flags,
    read_candidates,
    read_json,
    required_flag,
    settings_flags,
)
from ddpm.errors import Refused, WrongInput
from ddpm.plan import PLACES, SEARCHED
from ddpm.serving.settings import VARIABLE, ServeSettings, from_environment
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
from ddpm.workplace import Workplace

Facts = Mapping[str, Any]
Body = Callable[[argparse.Namespace, Workplace], Facts | None]  # None: another process of the same command speaks
Flags = Callable[[argparse.ArgumentParser], Any]

TEXT = "text"  # the one fact of a command that has its own words for a person
SECONDS_TO_OPEN = 120.0  # that a search worker waits for worker 0


@dataclass(frozen=True)
class Command:
    """A command: what it does, its own words for that, and its flags."""

    body: Body
    text: str
    flags: tuple[Flags, ...]


COMMANDS: dict[str, Command] = {}


def command(text: str, *flags: Flags) -> Callable[[Body], Body]:
    """Make a function the command of its name."""

    def added(body: Body) -> Body:
        COMMANDS[body.__name__] = Command(body, text, flags)
        return body

    return added


def flag(*names: str, **options: Any) -> Flags:
    """A flag of the command's own; `--two-words` is understood as `--two_words` too."""
    more = [name.replace("-", "_").replace("__", "--", 1) for name in names if "-" in name.removeprefix("--")]
    return lambda parser: parser.add_argument(*names, *more, **options)


def places(*names: str) -> Flags:
    return lambda parser: place_flags(parser, *names)


def settings(*kinds: type, without: tuple[str, ...] = ()) -> Flags:
    return lambda parser: settings_flags(parser, *kinds, without=without)


def required(kind: type, name: str, *more: str) -> Flags:
    """One field of the settings, which must be given."""
    return lambda parser: required_flag(parser, kind, name, *more)


DATASET = flag("--dataset", required=True, metavar="URI", help="the data set's URI, as `ddpm ingest` printed it")
GENERATED = flag(
    "--generated", required=True, metavar="REF-or-DIR", help="a model, as for `ddpm sample`, or a folder of pictures"
)
MODEL = flag(
    "--model", required=True, metavar="REF",
    help="a checkpoint's URI, models:/NAME@ALIAS, models:/NAME/VERSION, or an exported folder",
)  # fmt: skip
MODEL_NAME = required(RegistrySettings, "model_name")


# -- data ------------------------------------------------------------------------------------------------------------


@command(
    "publish pictures as a data set",
    flag("source", help="a named source (digits, flowers102, dalle-dogs, celeba, cifar10; NAME:PATH from disk), a folder of pictures, archive:FILE, parquet:GLOB, s3://BUCKET/PREFIX, or a published data set's URI"),
    required(IngestSettings, "dataset_name", "--name"),
    flag("--workers", type=int, default=0, help="processes that decode; 0 (the default): one a core"),
    places("store"),
    settings(IngestSettings, without=("source", "dataset_name")),
)  # fmt: skip
def ingest(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.ingest import ingest

    return ingest(place, pick(IngestSettings, chosen_settings(arguments)), arguments.workers)


@command(
    "read every byte of a data set again and check it against its manifest",
    flag("uri", help="the data set's manifest"),
)
def verify(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.data.verify import verify

    facts = verify(arguments.uri, place.progress)
    if not facts["ok"]:
        first = facts["bad"][0]
        raise Refused(f"{len(facts['bad'])} bad objects, the first {first['object']}: {first['reason']}", facts)
    return facts


@command(
    "list what lies in a store and nothing names, and remove it if asked",
    places("store"),
    flag("--delete", action="store_true", help="remove it"),
    flag("--older-than", type=float, default=24.0, metavar="HOURS", help="spare what is younger (default: 24)"),
)
def gc(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.gc import gc

    return gc(place, arguments.delete, arguments.older_than)


# -- models ----------------------------------------------------------------------------------------------------------


@command(
    "train a model; the same --out again resumes; under torchrun, on several GPUs",
    DATASET,
    flag("--out", required=True, metavar="URI", help="where checkpoints go"),
    flag("--start", metavar="URI", help="a checkpoint to go on from"),
    settings(ModelSettings, TrainSettings),
)
def train(arguments: argparse.Namespace, place: Workplace) -> Facts | None:
    from ddpm.data.dataset import open_dataset
    from ddpm.steps.train import train
    from ddpm.training.world import join_world

    chosen = chosen_settings(arguments)
    model, training = pick(ModelSettings, chosen), pick(TrainSettings, chosen)
    with join_world() as world:
        data = open_dataset(arguments.dataset)
        facts = train(place, model, training, data, arguments.out, arguments.start, world=world)
        return facts if world.leads else None


@command(
    "one worker of a study over learning rate and multipliers; under torchrun, it trains each trial on several GPUs",
    DATASET,
    flag("--worker", type=int, default=0, help="this worker's number, of its own: 0 (the default) opens the run, and others may be started beside it"),
    places(*PLACES),
    settings(ModelSettings, TrainSettings, SearchSettings, DrawSettings, EvaluateSettings, without=tuple(SEARCHED)),
)  # fmt: skip
def search(arguments: argparse.Namespace, place: Workplace) -> Facts | None:
    from ddpm.data.dataset import open_dataset
    from ddpm.search.choice import choose
    from ddpm.search.worker import follow, search
    from ddpm.steps.configure import configure, join
    from ddpm.training.world import join_world

    if arguments.worker < 0:
        raise WrongInput(f"worker: {arguments.worker} will not do; workers are numbered from 0")
    data = open_dataset(arguments.dataset)
    where = {name: getattr(arguments, name) for name in PLACES}
    of_data = {"source": arguments.dataset, "dataset_name": data.name, "image_size": data.image_size}
    parameters = {**chosen_settings(arguments), **of_data, **where}
    with join_world() as world:
        if not world.leads:
            follow(data, world)
            return None
        # One process opens the run: several at once would each queue all trials.
        opens = arguments.worker == 0
        run = configure(parameters, place.progress) if opens else join(parameters, place.progress, SECONDS_TO_OPEN)
        ran = search(run, arguments.dataset, arguments.worker, place.progress, world)
    try:
        return choose(run)
    except Refused as unfinished:
        place.progress.say(str(unfinished))
        return ran


@command(
    "draw pictures from a model",
    MODEL,
    flag("--n", type=int, default=16, help="how many pictures; at least 1 (default: 16)"),
    flag("--seed", type=int, default=0, help="pictures SEED to SEED+N-1; 0 or more (default: 0)"),
    flag("--out", required=True, metavar="DIR", help="the folder that they are written to"),
    flag("--label", type=int, help="the class of all pictures; default: each seed's own"),
    places("tracking_uri"),
    lambda parser: group_flags(parser, DrawSettings, default="the model's own"),
)
def sample(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.sample import sample

    drawing = {spec.name: getattr(arguments, spec.name) for spec in dataclasses.fields(DrawSettings)}
    return sample(place, arguments.model, arguments.n, arguments.seed, arguments.out, arguments.label, **drawing)


@command(
    "a model as a folder for other programs: diffusers, a Hugging Face Space",
    MODEL,
    flag(
        "--format",
        default="safetensors",
        help="safetensors (the default), diffusers, or space, a Hugging Face Space that serves it",
    ),
    flag("--out", required=True, metavar="DIR", help="a new folder, or an empty one"),
    flag("--weights", default="ema", help="ema, the averaged ones (the default), or, of a checkpoint, raw"),
    places("tracking_uri"),
)
def export(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.registry.export import export

    return export(arguments.model, arguments.format, arguments.out, place.tracking_uri, arguments.weights)


@command(
    "serve pictures: a page, and an API (docs/serving.md)",
    MODEL,
    places("tracking_uri"),
    lambda parser: group_flags(parser, ServeSettings, variable=VARIABLE),
)
def serve(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.serving.run import serve

    return serve(arguments.model, place.tracking_uri, from_environment(vars(arguments)), place.progress)


# -- figures ---------------------------------------------------------------------------------------------------------


@command(
    "FID, KID, precision, recall and copying of a folder of pictures, a checkpoint or a registered model",
    GENERATED,
    DATASET,
    flag("--html", metavar="FILE", help="the report as a page, here too"),
    places("store", "tracking_uri"),
    settings(DrawSettings, EvaluateSettings, JudgeSettings),
)
def evaluate(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.evaluation.page.render import publish
    from ddpm.steps.evaluate import evaluate

    if arguments.html and not Path(arguments.html).absolute().parent.is_dir():
        raise WrongInput(f"html: there is no folder for {arguments.html}; make it, or name another")
    if arguments.html and Path(arguments.html).is_dir():
        raise WrongInput(f"html: {arguments.html} is a folder; name a file")
    chosen = chosen_settings(arguments)
    measuring, drawing, asked = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen), pick(JudgeSettings, chosen)
    report = evaluate(place, arguments.generated, arguments.dataset, measuring, drawing)
    if asked.judge_url:
        from ddpm.steps.judge import judge

        report["judge"] = judge(place, arguments.generated, arguments.dataset, measuring, drawing, asked)
    page, report["page"] = publish(report, place.store)
    if arguments.html:
        Path(arguments.html).write_text(page)
    return report


@command(
    "ask a vision model how much pictures resemble the subject, with controls among them",
    GENERATED,
    DATASET,
    places("store", "tracking_uri"),
    settings(DrawSettings, EvaluateSettings, JudgeSettings),
)
def judge(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.judge import judge

    chosen = chosen_settings(arguments)
    measuring, drawing, asked = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen), pick(JudgeSettings, chosen)
    verdict = judge(place, arguments.generated, arguments.dataset, measuring, drawing, asked)
    if not verdict["reported"]:
        raise Refused(f"no score: {verdict['why']}", verdict)
    return verdict


@command(
    "two evaluations side by side",
    flag("a", metavar="A.json", help="what `ddpm evaluate --json` printed of the one"),
    flag("b", metavar="B.json", help="and of the other"),
)
def compare(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.evaluation.protocol import compare, table

    found = compare(read_json(arguments.a), read_json(arguments.b))
    return found if arguments.json else {TEXT: table(found)}


@command(
    "the best of several models by the mean of their ranks by FID and KID",
    flag("file", metavar="FILE.csv", help="columns model, fid, kid and, if you like, parameters"),
)
def rank(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.search.ranking import explain, rank

    ranked = rank(read_candidates(Path(arguments.file)))
    rows = [
        {"model": r.candidate.model, "fid_rank": r.fid_rank, "kid_rank": r.kid_rank, "mean_rank": r.mean_rank}
        for r in ranked
    ]
    return {"best": ranked[0].candidate.model, "why": explain(ranked), "ranking": rows}


# -- the registry ----------------------------------------------------------------------------------------------------


@command(
    "a checkpoint and its report as a version in MLflow's registry",
    flag("--checkpoint", required=True, metavar="URI", help="the checkpoint, or the folder that training wrote to"),
    flag("--report", required=True, metavar="FILE", help="what `ddpm evaluate --json` printed"),
    places("tracking_uri"),
    settings(RegistrySettings),
)
def register(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.registry.version import register

    name = pick(RegistrySettings, chosen_settings(arguments)).model_name
    report = read_json(arguments.report)
    facts = register(place.tracking_uri, name, arguments.checkpoint, report, None, {})
    if not facts["new"]:
        place.progress.say(
            f"the same weights are version {facts['version']} already; it stays as it is, with its own report"
        )
    return facts


@command(
    "a version to champion, if it is better than the one there is",
    MODEL_NAME,
    flag("--version", type=int, required=True, help="the version's number"),
    flag("--dataset", required=True, metavar="URI", help="where the champion is measured again if it was measured otherwise"),
    places("store", "tracking_uri"),
    settings(DrawSettings, EvaluateSettings),
)  # fmt: skip
def promote(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.promote import promote

    chosen = chosen_settings(arguments)
    measuring, drawing = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen)
    facts = promote(
        place, arguments.model_name, arguments.version, arguments.dataset, measuring, drawing, again=True
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


@command("who was promoted when, and why", MODEL_NAME, places("store", "tracking_uri"))
def history(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.registry.log import read_log

    log = read_log(place.store, arguments.model_name)
    if not log.entries and not log.damaged:
        raise WrongInput(
            f"model_name: no version of {arguments.model_name} was ever decided on in {arguments.store}; name a model that was registered and promoted"
        )
    for stray in log.strays:
        place.progress.say(f"{stray} is no entry of the log, and is passed over")
    facts = {"name": arguments.model_name, "entries": log.entries}
    if log.damaged:
        raise Refused(
            f"the promotion log of {arguments.model_name} is damaged: {log.damaged[0]}",
            {**facts, "damaged": log.damaged},
        )
    return facts
