"""The pipeline: how the steps are wired together, and what each asks of a cluster.

    configure ─ ingest ─┬─ search (worker 0) ─┬─ train ─ evaluate ─ register ─ promote
                        └─ search (worker 1) ─┘
                ingest ─ train ─ evaluate ─ register ─ promote      of a second set, where there is one
    summarise, whatever happens

1. configure   checks all settings and opens the run
2. ingest      turns pictures into a data set in the object store
3. search      workers share one study and pull trials from it
4. train       takes the best trial on to the full budget
5. evaluate    draws pictures from the final checkpoint and measures them
6. register    makes the checkpoint and its report a version of the model
7. promote     gives the version the alias that its figures allow
8. summarise   gathers the run's facts, also when a step has failed

A second set goes through 2 and 4 to 7 once more, after the first: the same components, handed another pointer.

`python -m pipelines.pipeline` compiles it to `pipelines/ddpm.yaml`, which is what runs, here and on a cluster alike.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from components import IMAGE
from components.configure import configure
from components.evaluate import evaluate
from components.ingest import ingest
from components.promote import promote
from components.register import register
from components.search import search
from components.summarise import summarise
from components.train import train
from ddpm import outages
from ddpm.arguments import Parser, output_type
from ddpm.errors import WrongInput
from ddpm.fields import describe, type_of
from ddpm.legible import tell
from ddpm.places import KFP_PAGES, MLFLOW_PAGES, VARIABLES
from ddpm.plan import fields, places
from ddpm.presets import load_preset
from ddpm.registry import promoter
from ddpm.steps import ranks, trainjob
from ddpm.store import account
from ddpm.tracking import origin
from pipelines.cluster import DEFAULT, FOLDER, Cluster, Pods, load_cluster
from pipelines.registries import check_image
from pipelines.trainjob import nodes_of

COMPILED = Path(__file__).parent / "ddpm.yaml"
DEFAULT_PRESET = "digits"
WORKERS = [0, 1]
WORKERS_MEANING = "the search's workers, by number: one task each"

USER = 10001  # the image's own user, as in docker/Containerfile
SECRET = "ddpm"  # a Secret and a ConfigMap, both optional, and so is each key: workload identity needs no secret
CONFIG_ENV = (*VARIABLES.values(), outages.VARIABLE, *account.PLACE, KFP_PAGES, MLFLOW_PAGES)
SECRET_ENV = (
    *account.KEYS,
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "PGPASSWORD",
    "DDPM_JUDGE_KEY",
)
PROMOTER_SECRET = "ddpm-promote"  # of the promote step alone, optional: the account by which MLflow's aliases are set
HOUR = 3600
TRAINING_HOURS = 72
SECOND = ", second set"  # after the name of a step that is gone through once more
RETRIES = 3  # every step carries on where it was stopped, so a lost node costs minutes
CACHE = "/var/cache/ddpm"  # $DDPM_CACHE in docker/Containerfile: downloads, and the blobs of the data set


def place_task(task: dsl.PipelineTask, name: str, hours: int, pods: Pods) -> dsl.PipelineTask:
    """What every task gets: a name to show, no cache of KFP's, credentials, an ordinary user, a node, an end, new attempts."""
    task.set_display_name(name)
    # KFP's cache is keyed by argument strings and image names; the steps themselves look whether their result is there.
    task.set_caching_options(False)
    kubernetes.use_secret_as_env(task, SECRET, {name: name for name in SECRET_ENV}, optional=True)
    kubernetes.use_config_map_as_env(task, SECRET, {name: name for name in CONFIG_ENV}, optional=True)
    task.set_env_variable(origin.IMAGE, IMAGE)  # `set_image` names another in both places
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    _place_on_node(task, pods)
    kubernetes.set_timeout(task, hours * HOUR)
    # Argo counts the longest duration from the first attempt's beginning, and ends a later attempt when it is over.
    longest = f"{(RETRIES + 1) * (hours + 1)}h"
    task.set_retry(RETRIES, backoff_duration="60s", backoff_factor=2.0, backoff_max_duration=longest)
    return task


def _place_on_node(task: dsl.PipelineTask, pods: Pods) -> None:
    """What a task asks of its node (`pipelines/cluster.py`)."""
    task.set_cpu_request(pods.cpu_request).set_cpu_limit(pods.cpu_limit)
    task.set_memory_request(pods.memory_request).set_memory_limit(pods.memory_limit)
    if pods.accelerators:
        task.set_accelerator_type(pods.accelerator).set_accelerator_limit(pods.accelerators)
    if pods.accelerators > 1:
        task.set_env_variable(ranks.VARIABLE, str(pods.accelerators))
    kubernetes.empty_dir_mount(task, "cache", CACHE, size_limit=pods.cache)
    if pods.shared_memory:
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", "Memory", pods.shared_memory)
    for key, value in pods.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for one in pods.tolerations:
        kubernetes.add_toleration(
            task, one.key or None, one.operator, one.value or None, one.effect or None, one.seconds
        )  # fmt: skip
    for key, value in pods.labels.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in pods.annotations.items():
        kubernetes.add_pod_annotation(task, key, value)
    if pods.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(pods.image_pull_secrets))


def _ddpm(cluster: Cluster, search_workers: Any, **settings: Any) -> None:
    name, store = settings["run_name"], settings["store"]
    cpu, gpus = cluster.cpu, cluster.gpu
    on_nodes = cluster.nodes > 1  # the final training is a TrainJob: its task makes and follows it, and needs no GPU

    ended = summarise(run_name=name, store=store, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
    place_task(ended, "Summarise", 1, cpu)

    with dsl.ExitHandler(ended, name="run"):
        configured = configure(**settings, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        place_task(configured, "Configure", 1, cpu)
        for variable, processes in ((ranks.SEARCHING, gpus.accelerators), (ranks.TRAINING, cluster.train_processes)):
            if processes > 1:
                configured.set_env_variable(variable, str(processes))
        plan = configured.outputs["plan"]

        dataset = ingest(plan=plan)
        place_task(dataset, "Ingest", 12, cpu)

        with dsl.ParallelFor(search_workers, name="workers") as worker:
            found = search(plan=plan, dataset=dataset.output, worker=worker)
            place_task(found, "Search", 72, gpus)

        trained = train(plan=plan, dataset=dataset.output, trials=dsl.Collected(found.output))
        trainings = [place_task(trained, "Train", TRAINING_HOURS, cpu if on_nodes else cluster.train)]
        decision = _to_promotion(plan, dataset.output, trained.outputs["checkpoint"], cluster)

        # By configure's word: kfp's local runner takes a source with an apostrophe for untrue, and, in a condition, no other
        # output of a task than its "Output".
        with dsl.If(configured.outputs["Output"] == "yes", name="transfer"):
            plan = configured.outputs["second"]
            dataset = ingest(plan=plan).after(decision)
            place_task(dataset, f"Ingest{SECOND}", 12, cpu)

            trained = train(plan=plan, dataset=dataset.output)
            trainings.append(place_task(trained, f"Train{SECOND}", TRAINING_HOURS, cpu if on_nodes else cluster.train))
            _to_promotion(plan, dataset.output, trained.outputs["checkpoint"], cluster, SECOND)

        if on_nodes:
            for task in (*trainings, ended):  # the exit task ends what a killed step has left
                task.set_env_variable(trainjob.VARIABLE, nodes_of(cluster, TRAINING_HOURS * HOUR).to_json())


def _to_promotion(plan: Any, dataset: Any, checkpoint: Any, cluster: Cluster, of: str = "") -> dsl.PipelineTask:
    """The steps by which a checkpoint becomes a version, and perhaps the champion; the last of them."""
    cpu, gpu = cluster.cpu, cluster.gpu.one_accelerator()
    report = evaluate(plan=plan, dataset=dataset, checkpoint=checkpoint)
    place_task(report, f"Evaluate{of}", 12, gpu)

    version = register(plan=plan, dataset=dataset, checkpoint=checkpoint, report=report.outputs["report"])
    place_task(version, f"Register{of}", 1, cpu)

    decision = promote(plan=plan, dataset=dataset, version=version.output)
    # A champion that was measured otherwise is measured again here.
    place_task(decision, f"Promote{of}", 12, gpu)
    return kubernetes.use_secret_as_env(
        decision, PROMOTER_SECRET, {name: name for name in promoter.VARIABLES}, optional=True
    )


def parameters() -> list[inspect.Parameter]:
    """The pipeline's parameters: every setting, with the default preset's value, and the search's workers.

    The places (object store, MLflow, the study's storage) are empty, which stands for the cluster's own: no place is
    right for all.
    """
    preset = load_preset(DEFAULT_PRESET)
    types = {"str": str, "int": int, "float": float, "bool": bool}
    located = [_parameter(spec.name, str, "") for spec in places()]
    chosen = [_parameter(spec.name, types[type_of(spec)], preset.get(spec.name, spec.default)) for spec in fields()]
    return [*located, *chosen, _parameter("search_workers", list[int], WORKERS)]


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    if kind in (int, float, str) and default is not inspect.Parameter.empty:
        default = kind(default)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def build(cluster: Cluster) -> BaseComponent:
    """The pipeline, for such a cluster. Signature and docstring, from which KFP takes the parameters and what they mean, are the settings'."""

    def ddpm(*values: Any) -> None:
        _ddpm(cluster, **dict(zip((parameter.name for parameter in parameters()), values, strict=True)))

    ddpm.__signature__ = inspect.Signature(parameters(), return_annotation=None)  # type: ignore[attr-defined]
    meanings = [f"    {spec.name}: {describe(spec)}" for spec in (*places(), *fields())]
    ddpm.__doc__ = "\n".join(
        [
            "From pictures to a registered, promoted diffusion model.",
            "",
            "Args:",
            *meanings,
            f"    search_workers: {WORKERS_MEANING}",
        ]
    )
    return dsl.pipeline(
        name="ddpm",
        display_name="Free Midjourney",
    )(ddpm)


def set_image(text: str, image: str) -> str:
    """The compiled file `text` with every task's image replaced by `image`, and what a task is told of it.

    Raises WrongInput for what is no image's name.
    """
    check_image(image)
    spec, *rest = yaml.safe_load_all(text)
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container["image"] = image
        for variable in container.get("env", []):
            if variable["name"] == origin.IMAGE:
                variable["value"] = image
    return yaml.safe_dump_all([spec, *rest], sort_keys=True)


def compiled(image: str = IMAGE, cluster: str = "") -> str:
    """The pipeline as YAML: KFP's own document, and the platform's. Raises WrongInput for a cluster or an image that will not do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ddpm.yaml")
        compiler.Compiler().compile(build(load_cluster(cluster)), str(path))
        text = path.read_text()
    return text if image == IMAGE else set_image(text, image)


def same(one: str, other: str) -> bool:
    """Whether two compiled files say the same. Comments may differ: recompiling words a dictionary's default otherwise."""
    return list(yaml.safe_load_all(one)) == list(yaml.safe_load_all(other))


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipelines.pipeline", description="Compile the pipeline.")
    parser.add_argument("--image", default=IMAGE, help=f"the image of every task (default {IMAGE})")
    parser.add_argument(
        "--cluster", default="", help=f"a file of {FOLDER.name}/, by name, or another by path (default {DEFAULT})"
    )
    parser.add_argument(
        "--output",
        type=output_type("output"),
        default=str(COMPILED),
        help="where to write it (default pipelines/ddpm.yaml)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 unless the file says what the code says"
    )
    try:
        options = parser.parse_args(arguments)
        text = compiled(options.image, options.cluster)
    except WrongInput as problem:
        tell(problem)
        return 2
    output = Path(options.output)
    if options.check:
        if output.is_file() and same(output.read_text(), text):
            return 0
        tell(f"{output} is not what the code compiles to; run `make compile` and commit it")
        return 1
    output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
