"""Runs the compiled pipeline with kfp's own local runner, in a process group of its own.

Started by `pipelines/local.py`, which hands a job over on standard input and keeps that pipe open: when it closes,
for instance because the other side was killed, this side ends its whole group. What the tasks print is passed on line
by line, marked lines (`ddpm.progress.EVENT_MARK`) as JSON with the step's name in them, all others for the log.

kfp is left to load the file, order the tasks and pass artifacts. How one task is started is ours: kfp's own handlers
lose lines when two tasks run side by side, replace the text `python3` wherever it stands in a path, and leave
containers behind.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from ddpm.attempts import SECOND
from ddpm.errors import WrongInput
from ddpm.legible import tell
from ddpm.progress import EVENT_MARK
from ddpm.steps import ranks, trainjob
from ddpm.tracking import origin
from pipelines import containers

ATTEMPTS = 2  # a task that was killed, say for its memory, is started once more: every step carries on where it was
SECOND_PLAN = "second"  # configure's output of that name
KFP = "2.17.0"  # the version whose handlers `install` replaces, as pyproject.toml pins it
_stdout = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What to run, and with what."""

    package: str  # the compiled file
    parameters: dict[str, Any]
    root: str  # where kfp keeps the artifacts
    runner: str  # "subprocess" or "docker"
    run_name: str
    search_threads: int  # for each of the search's workers, which run side by side; other tasks have the machine
    mounts: dict[str, str] = field(default_factory=dict)  # docker only: host path to mode, "rw" or "ro"
    environment: dict[str, str] = field(default_factory=dict)  # docker only: a task in a process has ours

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Ended:
    """How a task ended."""

    status: int  # its exit status; negative: the signal that ended it
    gave_reason: bool  # it has sent an event that says why
    last_words: str  # the last line it printed


def send(**event: Any) -> None:
    """One event, as one line."""
    with _stdout:
        sys.stdout.write(EVENT_MARK + json.dumps(event) + "\n")
        sys.stdout.flush()


def pass_on(step: str, line: str) -> bool:
    """Send on what a task printed; whether that said why the task failed."""
    text = line.rstrip("\n")
    mark = text.find(EVENT_MARK)
    if mark >= 0:
        try:
            event = json.loads(text[mark + len(EVENT_MARK) :])
        except json.JSONDecodeError:
            mark = -1  # cut off, as by a kill: an ordinary line
        else:
            send(**{**event, "step": step})
            return "error" in event
    with _stdout:
        sys.stdout.write(f"[{step}] {text}\n")
        sys.stdout.flush()
    return False


def step_name(command: list[str]) -> str:
    """The step that a task's command runs: `train`, or `search-1` for the search's worker 1; `transfer-train` where its plan
    is the one that configure hands a second set's steps."""
    name = command[command.index("--function_to_execute") + 1]
    inputs = json.loads(command[command.index("--executor_input") + 1]).get("inputs", {})
    parameters, plans = inputs.get("parameterValues", {}), inputs.get("artifacts", {}).get("plan", {})
    if any(one["uri"].endswith(f"/{SECOND_PLAN}") for one in plans.get("artifacts", ())):
        return f"{SECOND}{name}"
    return f"{name}-{int(parameters['worker'])}" if "worker" in parameters else name


def thread_variables(step: str, job: Job) -> dict[str, str]:
    """Two one-thread workers train more than one with two threads; alone, a task is faster with all cores."""
    if not step.startswith("search"):
        return {}
    return {name: str(job.search_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def run_process(step: str, command: list[str], environment: dict[str, str]) -> Ended:
    """Run a task as a process with this interpreter."""
    shell, flag, script, *rest = command
    script = script.replace(
        "python3 -m kfp.dsl.executor_main", f"{shlex.quote(sys.executable)} -m kfp.dsl.executor_main"
    )
    process = subprocess.Popen(
        [shell, flag, script, *rest], env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1,
    )  # fmt: skip
    assert process.stdout is not None
    gave_reason, last_words = follow(step, process.stdout)
    return Ended(_signal_or_status(process.wait()), gave_reason, last_words)


def run_container(step: str, command: list[str], environment: dict[str, str], image: str, job: Job) -> Ended:
    """Run a task in a container."""

    def watch(lines: Iterable[str]) -> tuple[bool, str]:
        return follow(step, lines)

    environment = {**job.environment, **environment}
    (gave_reason, last_words), status = containers.run(image, command, environment, job.mounts, job.run_name, watch)
    return Ended(_signal_or_status(status), gave_reason, last_words)


def _signal_or_status(status: int) -> int:
    return 128 - status if status > 128 else status  # sh and docker report an ending by signal N as 128 + N


def follow(step: str, lines: Iterable[str]) -> tuple[bool, str]:
    """Pass a task's lines on until it ends; whether it gave a reason for failing, and the last other line it printed."""
    gave_reason, last_words = False, ""
    for line in lines:
        gave_reason |= pass_on(step, line)
        if line.strip() and EVENT_MARK not in line:
            last_words = line.strip()
    return gave_reason, last_words


def run_task(command: list[str], environment: dict[str, str], image: str, job: Job) -> bool:
    """Run one task of the pipeline, telling when it begins, ends and fails. Whether it succeeded."""
    step = step_name(command)
    environment = {**environment, **thread_variables(step, job)}
    send(step=step, state="started")
    began = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        if job.runner == "docker":
            ended = run_container(step, command, environment, image, job)
        else:
            ended = run_process(step, command, environment)
        if ended.status >= 0 or attempt == ATTEMPTS:
            break
        send(step=step, say=f"{step} was ended by signal {-ended.status}; starting it again")
    if ended.status == 0:
        send(step=step, state="done", seconds=round(time.monotonic() - began, 1))
        return True
    if not ended.gave_reason:
        words = ended.last_words or f"exit status {ended.status}"
        send(step=step, error=f"ended by signal {-ended.status}" if ended.status < 0 else words, status=1)
    send(step=step, state="failed")
    return False


def install(job: Job) -> None:
    """Have kfp start its tasks through `run_task`. Raises WrongInput for another kfp than the one this is made for."""
    import kfp
    from kfp import local
    from kfp.local import docker_task_handler, status, subprocess_task_handler

    if kfp.__version__ != KFP:
        raise WrongInput(
            f"kfp: version {kfp.__version__} is installed, and its tasks are started as in {KFP}; install that"
        )

    def run(self: Any) -> status.Status:
        # How many GPUs and nodes a step has is a cluster's, which the file may be compiled for; a process runs in no image.
        not_ours = {ranks.VARIABLE, ranks.SEARCHING, ranks.TRAINING, trainjob.VARIABLE}
        not_ours |= set() if job.runner == "docker" else {origin.IMAGE}
        environment = {name: value for name, value in self.env_vars.items() if name not in not_ours}
        ok = run_task(self.full_command, environment, self.image, job)
        return status.Status.SUCCESS if ok else status.Status.FAILURE

    subprocess_task_handler.SubprocessTaskHandler.run = run
    docker_task_handler.DockerTaskHandler.run = run
    local.init(
        runner=local.DockerRunner() if job.runner == "docker" else local.SubprocessRunner(use_venv=False),
        pipeline_root=job.root,
    )


def run_pipeline(job: Job) -> bool:
    """Load the compiled file and run it; whether it succeeded."""
    from kfp.components import load_component_from_file

    try:
        install(job)
    except WrongInput as problem:
        send(step="runner", error=str(problem), status=2)
        return False
    component: Any = load_component_from_file(job.package)
    # kfp would repeat a refused input, after the minute that a cluster is given to recover: `run_task` does it here.
    graph = component.component_spec.implementation.graph
    for part in (graph.root, *graph.components.values()):
        for task in part.dag.tasks.values():
            task.ClearField("retry_policy")
    try:
        component(**job.parameters)
    except RuntimeError as problem:  # kfp's word for a pipeline in which a task failed; the task has said why
        tell(problem, sys.stdout)
        return False
    return True


def end_with(pipe: IO[str], job: Job) -> None:
    """Wait until the other side is gone, and end all that this side has started, itself included."""
    pipe.read()
    if job.runner == "docker":
        containers.remove_all(job.run_name)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=end_with, args=(sys.stdin, job), daemon=True).start()
    ok = run_pipeline(job)
    sys.stdout.flush()
    os._exit(0 if ok else 1)  # an ordinary exit would wait for standard input, at which the other thread is reading


if __name__ == "__main__":
    main()
