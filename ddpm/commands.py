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
    number_type,
    place_flags,
    place_type,
    read_json,
    required_flag,
    settings_flags,
    tracking_flag,
)
from ddpm.errors import Refused, WrongInput
from ddpm.fields import About, plain
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


def place(name: str, **options: Any) -> Flags:
    """A flag that takes a path or a URL, which must not be empty."""
    return flag(name, type=place_type(name.removeprefix("--")), **options)


def number(
    name: str, kind: str, default: float | None, meaning: str, metavar: str | None = None, *, required: bool = False,
    otherwise: str = "", **bounds: Any,
) -> Flags:  # fmt: skip
    """A flag that takes an int or a float; the bounds are those of a setting (`ddpm.fields.About`).

    Args:
        otherwise: what stands for it where there is no default.
    """
    about, plain_name = About(meaning, **bounds), name.removeprefix("--").replace("-", "_")
    says = "required" if required else f"default: {otherwise or plain(default)}"
    return flag(
        name, type=number_type(plain_name, kind, about), default=default, required=required, metavar=metavar,
        help=f"{meaning} [{about.range}; {says}]",
    )  # fmt: skip


def places(*names: str) -> Flags:
    return lambda parser: place_flags(parser, *names)


def settings(*kinds: type, without: tuple[str, ...] = ()) -> Flags:
    return lambda parser: settings_flags(parser, *kinds, without=without)


def required(kind: type, name: str, *more: str) -> Flags:
    """One field of the settings, which must be given."""
    return lambda parser: required_flag(parser, kind, name, *more)


A_DATASET = "its name (the one ingested last), NAME@DIGEST (the digest's beginning), or its manifest's URI"
SEED = 2**62 - 1  # the largest
DATASET = place("--dataset", required=True, metavar="DATASET", help=f"the data set: {A_DATASET}")
GENERATED = place(
    "--generated", required=True, metavar="REF-or-DIR", help="a model, as for `ddpm sample`, or a folder of pictures"
)
MODEL = place(
    "--model", required=True, metavar="REF",
    help="a checkpoint's URI, models:/NAME@ALIAS, models:/NAME/VERSION, or an exported folder",
)  # fmt: skip
MODEL_NAME = required(RegistrySettings, "model_name")


def dataset_of(arguments: argparse.Namespace, place: Workplace) -> str:
    """The URI of the data set that is meant. Raises WrongInput where there is none such."""
    return find_dataset(arguments.dataset, place)


def judging(chosen: dict[str, Any], place: Workplace) -> JudgeSettings:
    """Who is asked, with the URI of the other data set, which may be said by its name."""
    asked = pick(JudgeSettings, chosen)
    return dataclasses.replace(asked, judge_other=find_dataset(asked.judge_other, place) if asked.judge_other else "")


def find_dataset(said: str, place: Workplace) -> str:
    from ddpm.data.catalogue import find_dataset

    return find_dataset(said, place.store, place.progress)


# -- data ------------------------------------------------------------------------------------------------------------


@command(
    "publish pictures as a data set",
    place("source", help="a named source (digits, flowers102, dalle-dogs, celeba, cifar10; NAME:PATH from disk), a folder of pictures, archive:FILE, parquet:GLOB, s3://BUCKET/PREFIX, or a data set that is published (NAME@latest, NAME@DIGEST, or its URI)"),
    required(IngestSettings, "dataset_name", "--name"),
    number("--workers", "int", 0, "processes that decode", low=0, high=1024, zero="one a core"),
    places("store"),
    settings(IngestSettings, without=("source", "dataset_name")),
)  # fmt: skip
def ingest(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.data.catalogue import source_or_dataset
    from ddpm.steps.ingest import ingest

    chosen = pick(IngestSettings, chosen_settings(arguments))
    source = source_or_dataset(chosen.source, place.store, place.progress)
    return ingest(place, dataclasses.replace(chosen, source=source), arguments.workers)


@command(
    "the data sets of a store: name and digest, size, numbers of pictures and classes, when and from where",
    places("store"),
)
def datasets(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.data.catalogue import datasets, table

    found = datasets(place.store)
    if not found and not arguments.json:
        return {TEXT: f"there are no data sets in {place.store.root}; `ddpm ingest` publishes one"}
    return {"datasets": found} if arguments.json else {TEXT: table(found)}


@command(
    "read every byte of a data set again and check it against its manifest",
    place("dataset", help=f"the data set: {A_DATASET}"),
    places("store"),
)
def verify(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.data.verify import verify

    facts = verify(dataset_of(arguments, place), place.progress)
    if not facts["ok"]:
        first = facts["bad"][0]
        raise Refused(f"{len(facts['bad'])} bad objects, the first {first['object']}: {first['reason']}", facts)
    return facts


@command(
    "list what lies in a store and nothing names, and remove it if asked",
    places("store"),
    flag("--delete", action="store_true", help="remove it"),
    number("--older-than", "float", 24.0, "spare what is younger, in hours", "HOURS", low=0, high=10**6),
)
def gc(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.gc import gc

    return gc(place, arguments.delete, arguments.older_than)


# -- models ----------------------------------------------------------------------------------------------------------


@command(
    "train a model; the same --out again resumes; under torchrun, on several GPUs",
    DATASET,
    place("--out", required=True, metavar="URI", help="where checkpoints go"),
    place("--start", metavar="URI", help="a checkpoint to go on from (default: none)"),
    places("store"),
    tracking_flag,
    settings(ModelSettings, TrainSettings),
)
def train(arguments: argparse.Namespace, place: Workplace) -> Facts | None:
    from ddpm.data.dataset import open_dataset
    from ddpm.records import CURVES, records_of
    from ddpm.steps.ingest import unused_classes
    from ddpm.steps.train import train
    from ddpm.training.world import join_world

    chosen = chosen_settings(arguments)
    model, training = pick(ModelSettings, chosen), pick(TrainSettings, chosen)
    with join_world() as world:
        data = open_dataset(dataset_of(arguments, place))
        if world.leads and (unused := unused_classes(len(data.classes), model.classes)):
            place.progress.say(f"{unused}; --classes {len(data.classes)} tells the network of them")
        if not world.leads:
            train(place, model, training, data, arguments.out, arguments.start, world=world)
            return None
        params = {**dataclasses.asdict(model), **dataclasses.asdict(training)}
        dataset = {"name": data.name, "digest": data.digest, "uri": data.uri, "n": len(data.train)}
        with records_of(arguments.out, place.tracking_uri, params, dataset) as records:
            facts = train(place, model, training, data, arguments.out, arguments.start, records, world=world)
        return {**facts, "curves": records.store.uri(CURVES)}


@command(
    "one worker of a study over learning rate and multipliers; under torchrun, it trains each trial on several GPUs",
    DATASET,
    number("--worker", "int", 0, "this worker's number, of its own: others may be started beside worker 0", low=0, high=10**6, zero="opens the run"),
    places(*PLACES),
    settings(ModelSettings, TrainSettings, SearchSettings, DrawSettings, EvaluateSettings, without=tuple(SEARCHED)),
)  # fmt: skip
def search(arguments: argparse.Namespace, place: Workplace) -> Facts | None:
    from ddpm.data.dataset import open_dataset
    from ddpm.search.choice import choose
    from ddpm.search.worker import follow, search
    from ddpm.steps.configure import configure, join
    from ddpm.steps.ingest import unused_classes
    from ddpm.training.world import join_world

    uri = dataset_of(arguments, place)
    data = open_dataset(uri)
    where = {name: getattr(arguments, name) for name in PLACES}
    of_data = {"source": uri, "dataset_name": data.name, "image_size": data.image_size}
    parameters = {**chosen_settings(arguments), **of_data, **where}
    with join_world() as world:
        if not world.leads:
            follow(data, world)
            return None
        # One process opens the run: several at once would each queue all trials.
        opens = arguments.worker == 0
        run = configure(parameters, place.progress) if opens else join(parameters, place.progress, SECONDS_TO_OPEN)
        if opens and (unused := unused_classes(len(data.classes), run.plan.model.classes)):
            place.progress.say(f"{unused}; --classes {len(data.classes)} tells the network of them")
        ran = search(run, uri, arguments.worker, place.progress, world)
    try:
        return choose(run, place.progress)
    except Refused as unfinished:
        place.progress.say(str(unfinished))
        return ran


@command(
    "draw pictures from a model",
    MODEL,
    number("--n", "int", 16, "how many pictures", low=1, high=100_000),
    number("--seed", "int", 0, "pictures SEED to SEED+N-1, each named after its seed", low=0, high=SEED),
    place(
        "--out",
        required=True,
        metavar="DIR",
        help="the folder that they are written to; it may hold other seeds' pictures",
    ),
    number("--label", "int", None, "the class of all pictures", low=0, high=100_000, otherwise="each seed's own"),
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
        help="safetensors, diffusers, or space, a Hugging Face Space that serves it (default: safetensors)",
    ),
    place("--out", required=True, metavar="DIR", help="a new folder, or an empty one"),
    flag("--weights", default="ema", help="ema, the averaged ones, or, of a checkpoint, raw (default: ema)"),
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
    place("--html", metavar="FILE", help="the report as a page, here too (default: in the store alone)"),
    places("store", "tracking_uri"),
    settings(DrawSettings, EvaluateSettings, JudgeSettings),
)
def evaluate(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.evaluation.page.render import publish
    from ddpm.evaluation.printed import printed
    from ddpm.steps.evaluate import evaluate
    from ddpm.store import FileStore

    if arguments.html and not Path(arguments.html).absolute().parent.is_dir():
        raise WrongInput(f"html: there is no folder for {arguments.html}; make it, or name another")
    if arguments.html and Path(arguments.html).is_dir():
        raise WrongInput(f"html: {arguments.html} is a folder; name a file")
    chosen = chosen_settings(arguments)
    measuring, drawing, asked = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen), judging(chosen, place)
    dataset = dataset_of(arguments, place)
    report = evaluate(place, arguments.generated, dataset, measuring, drawing)
    if asked.judge_url:
        from ddpm.steps.judge import judge

        report["judge"] = judge(place, arguments.generated, dataset, measuring, drawing, asked)
    page, report["page"] = publish(report, place.store)
    if arguments.html:
        html = Path(arguments.html).absolute()
        FileStore(html.parent).write(html.name, page.encode())
    return report if arguments.json else {TEXT: printed(report)}


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
    measuring, drawing, asked = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen), judging(chosen, place)
    verdict = judge(place, arguments.generated, dataset_of(arguments, place), measuring, drawing, asked)
    if not verdict["reported"]:
        raise Refused(f"no score: {verdict['why']}", verdict)
    return verdict


@command(
    "two evaluations side by side",
    place("a", metavar="A.json", help="what `ddpm evaluate --json` printed of the one"),
    place("b", metavar="B.json", help="and of the other"),
)
def compare(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.evaluation.printed import side_by_side
    from ddpm.evaluation.protocol import compare

    found = compare(read_json(arguments.a), read_json(arguments.b))
    return found if arguments.json else {TEXT: side_by_side(found)}


@command(
    "the best of several models by the mean of their ranks by FID and KID",
    place(
        "file",
        metavar="FILE.csv",
        help="columns model, fid, kid (or fid_768, kid_768 …) and, if you like, parameters and n; between them commas, semicolons or tabs",
    ),
)
def rank(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.search.candidates import read_candidates
    from ddpm.search.ranking import explain, rank

    table = read_candidates(Path(arguments.file))
    ranked = rank(table.models)
    rows = [
        {"model": r.candidate.model, "fid_rank": r.fid_rank, "kid_rank": r.kid_rank, "mean_rank": r.mean_rank}
        for r in ranked
    ]
    by = f"{table.fid} and {table.kid}"
    return {"best": ranked[0].candidate.model, "why": explain(ranked), "by": by, "ranking": rows}


@command(
    "the page of a run: pictures, verdict, trials, figures, time, and how to go on",
    flag("--run-name", default="", metavar="NAME", help="the run (default: the one that ended last)"),
    place("--out", metavar="FOLDER", help="where index.html, samples.png and report.html go (default: var/runs/NAME)"),
    places("store"),
)
def page(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.run_page.folder import find_run, write_page

    run = find_run(arguments.run_name, arguments.store)
    return {"run": run.name, "page": str(write_page(run, Path(arguments.out or f"var/runs/{run.name}")))}


# -- the registry ----------------------------------------------------------------------------------------------------


@command(
    "a checkpoint and its report as a version in MLflow's registry",
    place("--checkpoint", required=True, metavar="URI", help="the checkpoint, or the folder that training wrote to"),
    place("--report", required=True, metavar="FILE", help="what `ddpm evaluate --json` printed"),
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
    flag("--html", metavar="FILE", help="the log as a page that needs nothing else (default: none)"),
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

        FileStore(Path(arguments.html).parent).write(
            Path(arguments.html).name, page(arguments.model_name, log).encode()
        )
    facts = {"name": arguments.model_name, "entries": log.entries}
    if log.damaged:
        raise Refused(
            f"the promotion log of {arguments.model_name} is damaged: {log.damaged[0]}",
            {**facts, "damaged": log.damaged},
        )
    return facts
