"""The settings of a run, checked before anything else starts, and the places that its tasks will share."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ddpm.attempts import REFUSED
from ddpm.data import sources
from ddpm.data.manifest import store_of
from ddpm.errors import WrongInput
from ddpm.evaluation.extractors.weights import check_weights, inception_weights
from ddpm.fields import renamed, require
from ddpm.places import fill_places, local_path
from ddpm.plan import Plan, fields
from ddpm.progress import Progress
from ddpm.run import Run, attempts_of
from ddpm.search.study import create_study, open_storage
from ddpm.settings import BY_TRIAL, ModelSettings, SearchSettings
from ddpm.steps.ranks import require_shared
from ddpm.steps.task import Facts, perform, pointer_to
from ddpm.store import Missing, open_store
from ddpm.tracking import address, expect, open_client, pipeline_tags


def configure(parameters: dict[str, Any], progress: Progress, session: str = "") -> Run:
    """Check everything that can be checked before the work, then open the run: its plan, its MLflow run, its study.

    Inception's weights are among it: a file that is not the one that is meant, or has not the layer, and a download that
    cannot be had, are found before pictures are ingested and models trained.

    A run name that is known resumes that run. Raises WrongInput where it was configured otherwise.

    Args:
        session: the run of the pipeline, by its runner's id.
    """
    plan = Plan.from_parameters(parameters)
    require_shared(map(int, plan.search.varied.get("batch_size", [plan.train.batch_size])))
    for setting, source in plan.sets().items():
        sources.check(source, setting)
    check_weights(plan.evaluate.weights)
    if plan.judge.judge_url:
        from ddpm.judge.controls import check_judge  # it imports torch

        check_judge(plan.judge, plan.ingest.image_size)
    if Run(plan).is_open:
        expect(plan.tracking_uri)  # it has answered this run before
    open_client(plan.tracking_uri)  # the places first: a run is bound to its plan once that is written
    run = Run(plan)
    run.require_same_plan()
    if not run.is_open:  # one that an earlier release opened goes on as it is
        _require_rungs(plan.search)
    keep_initial = _initial(run, progress)
    keep_guide = _guide(run, progress)
    if plan.transfer.transfer_from == "winner":
        _require_same_network(plan)
    # Whoever mistyped it should not have to wait; one that this run has been opened with is away for a while.
    open_storage(plan.study_storage, progress, seconds=None if run.is_open else 0)
    if plan.evaluate.extractor == "inception":
        inception_weights(plan.evaluate, open_store(plan.store), progress)  # not after an ingest and a first trial
    if not run.write_plan():
        progress.say(f"carrying on with run {run.name}")
    keep_initial()
    keep_guide()
    run.tracker.open(plan.parameters(), pipeline_tags(session))
    create_study(plan.study_storage, run.name, plan.search, progress)
    run.mark_open()
    return run


def _require_rungs(settings: SearchSettings) -> None:
    """Raise WrongInput where trials are to end early, and none could."""
    require(
        not settings.first_rung or settings.first_rung < settings.trial_epochs,
        "first_rung",
        settings.first_rung,
        f"0 (no trial ends early) or less than trial_epochs ({settings.trial_epochs})",
    )


def _initial(run: Run, progress: Progress) -> Callable[[], None]:
    """Look whether every list of multipliers can begin with the weights of init_from; returns what keeps them for the run.

    A run that keeps them already is not asked again: it goes on with those. Raises WrongInput.
    """
    plan = run.plan
    if not plan.train.init_from:
        return lambda: None
    from ddpm.registry.initial import open_initial  # it imports torch
    from ddpm.training.initial import agree, is_initial, write_initial

    if is_initial(run.initial):
        return lambda: None
    initial = open_initial(plan.train.init_from, plan.tracking_uri)
    for model in _networks(plan):
        agree(initial, model, plan.ingest.image_size, plan.train.init_partial)
    progress.say(f"every trial begins with weights of {initial.origin.reference}, which the run keeps")
    return partial(write_initial, run.initial, initial)


def _guide(run: Run, progress: Progress) -> Callable[[], None]:
    """Look whether the model that is to guide the winner can; returns what keeps it for the run, which asks no more then.

    Raises WrongInput where there is none such, or where it is of another picture size or other classes.
    """
    plan = run.plan
    if plan.guide.guide in ("", BY_TRIAL):
        return lambda: None
    from ddpm.registry.version import resolve  # it imports torch
    from ddpm.training.initial import is_initial, of_model, write_initial

    if is_initial(run.guide):
        return lambda: None
    try:
        guide = resolve(plan.guide.guide, plan.tracking_uri)
    except WrongInput as problem:
        kind = Missing if isinstance(problem, Missing) else WrongInput
        raise kind(f"guide: {str(problem).removeprefix('model: ')}") from None
    guide.require_guides(plan.ingest.image_size, plan.model.classes)
    progress.say(f"{guide.origin.reference} guides the winner's pictures, and the run keeps its weights")
    return partial(write_initial, run.guide, of_model(guide))


def _networks(plan: Plan) -> Iterator[ModelSettings]:
    """Every network that the search may choose."""
    varied = {"channel_mults": plan.search.choices, **plan.search.varied}
    for values in itertools.product(*varied.values()):
        yield plan.at(dict(zip(varied, values, strict=True)))[0]


def _require_same_network(plan: Plan) -> None:
    """Raise WrongInput where a winner's weights would not be those of its network for the second set: at other sizes of
    pictures other levels attend."""
    from ddpm.training.initial import shapes_of  # it imports torch

    first, second = plan.ingest.image_size, plan.second().ingest.image_size
    for model in _networks(plan) if second != first else ():
        if shapes_of(model, first) != shapes_of(model, second):
            raise WrongInput(
                f"transfer_image_size: at {second} px channel_mults {model.channel_mults} is another network than at {first} px (attention_resolution {model.attention_resolution}), which cannot begin with the winner's weights; give {first}, or transfer_from=scratch"
            )


def kept_store(name: str, store: str) -> str:
    """A store as a run keeps it: a path from / on, so that a worker in another folder means the same by it.

    A run that an earlier release opened by a shorter one goes on by that.
    """
    if "://" in store:
        return store
    try:
        return store if Run.named(name, store).plan.store == store else str(local_path(store))
    except Missing:
        return str(local_path(store))


def join(given: dict[str, Any], progress: Progress, seconds: float) -> Run:
    """The run of this name, once it is open: another process, maybe of another machine, opens it.

    Args:
        given: its name and store, and whatever else somebody says of it, which must be so; the rest is the run's own.
    Raises: WrongInput where it was configured otherwise, is not open after `seconds`, or is kept where only another
        machine can reach it.
    """
    deadline, said = time.monotonic() + seconds, False
    while not (run := _run_as_given(given)) or not run.is_open:
        if time.monotonic() > deadline:
            raise WrongInput(
                f"worker: run {given['run_name']} is not open; start worker 0 first, which opens it, or name its store"
            )
        if not said:
            progress.say(f"waiting for worker 0 to open run {given['run_name']}")
        said = True
        time.sleep(0.5)
    for name in ("tracking_uri", "study_storage"):
        place = getattr(run.plan, name)
        file = place.removeprefix("sqlite:///").partition("?")[0]
        if "://" not in file and not Path(file).exists():
            raise WrongInput(
                f"{name}: run {run.name} keeps it in {file}, which is not on this machine; start workers there, or a run whose {name} is a server's URL"
            )
    return run


def _run_as_given(given: dict[str, Any]) -> Run | None:
    """The run; None where there is none yet."""
    try:
        kept = Run.named(given["run_name"], given["store"]).plan.parameters()
    except Missing:
        return None
    run = Run(Plan.from_parameters({**kept, **renamed(given, fields())}))
    run.require_same_plan()
    return run


def searched(run: Run) -> str:
    """The URI of the data set that a run's trials are trained on. Raises WrongInput before it is ingested."""
    if facts := run.facts("ingest"):
        return str(facts["uri"])
    try:
        store_of(run.plan.ingest.source)  # `ddpm search` opened it, on a data set that was there
    except WrongInput:
        raise WrongInput(
            f"worker: the data set of run {run.name} is not ingested yet; wait for its search to begin"
        ) from None
    return run.plan.ingest.source


def words_for(run: Run) -> str:
    """Where a run is recorded and kept, in Markdown."""
    page = address(run.plan.tracking_uri, run.tracker.run_page())
    recorded = f"[run {run.tracker.open({})}]({page})" if page else f"run {run.tracker.open({})}"
    return f"**{run.name}** is recorded in MLflow as {recorded}, and kept in `{run.folder.root}`.\n"


def in_pipeline(parameters: dict[str, Any], session: str, output: str, note: str, second: str) -> str:
    """The pipeline's first task: it has no plan yet, and makes one. `session` is the runner's id of this run of it.

    Where the run is recorded stands in the Markdown file `note`, which the runner shows as the task's page; `second` is
    to a second set's steps what `output` is to the others. Returns "yes" where there is one, else "no".
    """
    filled: dict[str, Any] = {}

    def opened() -> tuple[Run, str]:
        filled.update(fill_places(parameters))
        try:
            run = Run(Plan.from_parameters(filled))
            run.require_same_plan()
        except WrongInput as problem:  # whoever looks later must find that it was refused; the run may be another's
            attempts_of(filled["store"], filled["run_name"], session).begin(REFUSED, "configure").failed(
                str(problem), 2
            )
            raise
        return run, session

    def work(run: Run, progress: Progress) -> Facts:
        run = configure(filled, progress, session)
        Path(note).write_text(words_for(run))
        Path(second).write_text(json.dumps(pointer_to(run.second or run, session), indent=1))
        return pointer_to(run, session)

    perform("configure", opened, work, output)
    return "yes" if filled.get("transfer_source") else "no"
