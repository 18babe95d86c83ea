"""Models: training, search, drawing, export, serving."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import TYPE_CHECKING

from ddpm.arguments import chosen_settings, group_flags, tracking_flag
from ddpm.commands.table import (
    A_DATASET,
    DATASET,
    GUIDE,
    MODEL,
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
from ddpm.places import told_place
from ddpm.plan import PLACES, SEARCHED
from ddpm.serving.settings import VARIABLE, ServeSettings, from_environment
from ddpm.settings import (
    LARGEST_SEED,
    CostSettings,
    DrawSettings,
    EvaluateSettings,
    ModelSettings,
    SearchSettings,
    TrainSettings,
    pick,
)
from ddpm.workplace import Workplace

if TYPE_CHECKING:
    from ddpm.run import Run

SECONDS_TO_OPEN = 120.0  # that a search worker waits for worker 0


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
    if arguments.start and training.init_from:
        raise WrongInput(
            "init_from: it takes weights alone, and --start goes on from a checkpoint with its clock and optimizer; give one of them"
        )
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
    place("--dataset", metavar="DATASET", help=f"the data set, which worker 0 must be told: {A_DATASET} (default: that of the run that is joined)"),
    number("--worker", "int", 0, "this worker's number, of its own: others join the run, here or elsewhere, by its name and its store", low=0, high=10**6, zero="opens the run"),
    places(*PLACES),
    settings(ModelSettings, TrainSettings, SearchSettings, DrawSettings, EvaluateSettings, CostSettings, without=tuple(SEARCHED)),
)  # fmt: skip
def search(arguments: argparse.Namespace, place: Workplace) -> Facts | None:
    from ddpm.data.dataset import open_dataset
    from ddpm.search.choice import choose
    from ddpm.search.leases import Lease
    from ddpm.search.study import LOOK_SECONDS
    from ddpm.search.worker import follow, search
    from ddpm.training.world import join_world

    with join_world() as world:
        if not world.leads:
            follow(open_dataset(world.broadcast(None)), world)
            return None
        # One process opens the run: several at once would each queue all trials.
        run, uri = _opened(arguments, place) if arguments.worker == 0 else _joined(arguments, place)
        world.broadcast(uri)
        ran = search(run, uri, arguments.worker, place.progress, world)
    # All workers end together. One scores the finalists, and the others, who wait for it, have the same choice.
    choosing = Lease(run.folder, "choice", f"the choice of run {run.name}", place.progress.say)
    if not choosing.take():
        place.progress.say("another worker scores the finalists: its choice is waited for")
        while not choosing.take():
            time.sleep(LOOK_SECONDS)
    with choosing:
        try:
            return choose(run, uri, place.progress)
        except Refused as nothing:
            place.progress.say(str(nothing))
            return ran


def _opened(arguments: argparse.Namespace, place: Workplace) -> tuple[Run, str]:
    """The run that worker 0 opens, and its data set's URI."""
    from ddpm.data.dataset import open_dataset
    from ddpm.steps.configure import configure, kept_store
    from ddpm.steps.ingest import unused_classes

    if not arguments.dataset:
        raise WrongInput("dataset: worker 0 opens the run, and must be told; give --dataset")
    uri = dataset_of(arguments, place)
    data = open_dataset(uri)
    where = {name: getattr(arguments, name) for name in PLACES}
    where["store"] = kept_store(where["run_name"], where["store"])
    of_data = {"source": uri, "dataset_name": data.name, "image_size": data.image_size}
    run = configure({**chosen_settings(arguments), **of_data, **where}, place.progress)
    if unused := unused_classes(len(data.classes), run.plan.model.classes):
        place.progress.say(f"{unused}; --classes {len(data.classes)} tells the network of them")
    return run, uri


def _joined(arguments: argparse.Namespace, place: Workplace) -> tuple[Run, str]:
    """The run that another worker opens, and its data set's URI; a run of a pipeline's too.

    Raises WrongInput where what is said of it is not so.
    """
    from ddpm.steps.configure import join, searched

    told = {name: where for name in PLACES if (where := told_place(name, getattr(arguments, name)))}
    run = join({**chosen_settings(arguments), **told}, place.progress, SECONDS_TO_OPEN)
    uri = searched(run)
    if arguments.dataset and (other := dataset_of(arguments, place)) != uri:
        raise WrongInput(f"dataset: run {run.name} searches on {uri}, not on {other}; leave --dataset out")
    return run, uri


@command(
    "draw pictures from a model",
    MODEL,
    GUIDE,
    number("--n", "int", 16, "how many pictures", low=1, high=100_000),
    number("--seed", "int", 0, "pictures SEED to SEED+N-1, each named after its seed", low=0, high=LARGEST_SEED),
    output(
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
    return sample(
        place,
        arguments.model,
        arguments.n,
        arguments.seed,
        arguments.out,
        arguments.label,
        arguments.guide or "",
        **drawing,
    )


@command(
    "a model as a folder for other programs: diffusers, a Hugging Face Space",
    MODEL,
    flag(
        "--format",
        default="safetensors",
        help="safetensors, diffusers, or space, a Hugging Face Space that serves it (default: safetensors)",
    ),
    output("--out", required=True, metavar="DIR", help="a new folder, or an empty one"),
    flag("--weights", default="ema", help="ema, the averaged ones, or, of a checkpoint, raw (default: ema)"),
    flag("--dtype", default="fp32", help="fp32, or bf16: rounded, and half as large (default: fp32)"),
    places("tracking_uri"),
)
def export(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.registry.export import export

    return export(
        arguments.model, arguments.format, arguments.out, place.tracking_uri, arguments.weights, arguments.dtype
    )


@command(
    "serve pictures: a page, and an API (docs/serving.md)",
    MODEL,
    places("tracking_uri"),
    lambda parser: group_flags(parser, ServeSettings, variable=VARIABLE),
)
def serve(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.serving.run import serve

    return serve(arguments.model, place.tracking_uri, from_environment(vars(arguments)), place.progress)
