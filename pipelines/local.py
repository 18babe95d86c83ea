"""`make run`: the compiled pipeline on this machine.

    python -m pipelines.local [--preset digits] [--data DATA] [--run-name NAME] [--runner docker] [NAME=VALUE …]

Checks everything that can be checked, then runs `pipelines/ddpm.yaml` in a process group of its own
(`pipelines/runner.py`), shows what goes on, and ends with the table of `pipelines/closing.py`. What kfp and the
libraries print goes to `var/runs/RUN_NAME/log.txt`. Exit status: 0 done, 2 wrong input, 3 refused by a check, 1
failed, 130 stopped by the person at the keyboard or by SIGTERM.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ddpm.arguments import Parser, output_type
from ddpm.data import sources
from ddpm.errors import Outage, WrongInput
from ddpm.evaluation.extractors.weights import check_weights
from ddpm.extensions import load_extensions
from ddpm.failure import keep_traceback
from ddpm.legible import take_all_characters, tell
from ddpm.places import default_places, local_path
from ddpm.plan import Plan
from ddpm.presets import load_preset
from ddpm.progress import Bars, open_progress
from ddpm.run import Run
from ddpm.run_page.folder import write_page
from ddpm.run_page.going_on import Command
from ddpm.store import FileStore
from ddpm.summary import Summary
from pipelines import closing, containers, request
from pipelines.estimate import Estimate
from pipelines.log import Log
from pipelines.runner import Job
from pipelines.watching import Watched, watch

ROOT = Path(__file__).absolute().parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # each ends the run
SECONDS_TO_END = 3.0


class Stopped(BaseException):
    """A signal asked for the end."""


@dataclass(frozen=True)
class Place:
    """Where a run happens on this machine."""

    var: Path  # holds all that runs leave
    package: Path  # the compiled file
    runner: str  # "subprocess" or "docker"


def check(plan: Plan, place: Place) -> None:
    """Raise WrongInput for what would only come to light after the start."""
    for setting, source in plan.sets().items():
        sources.check(source, setting)
    check_weights(plan.evaluate.weights)
    Run(plan).require_same_plan()
    if place.runner == "docker":
        containers.check_engine(image_of(place.package))


def image_of(package: Path) -> str:
    """The image of the compiled file's tasks."""
    executors = next(yaml.safe_load_all(package.read_text()))["deploymentSpec"]["executors"]
    return next(iter(executors.values()))["container"]["image"]


def make_job(plan: Plan, workers: list[int], place: Place, folder: Path) -> Job:
    """The plan as a job for the runner, with what its tasks need in a container."""
    side_by_side = min(len(workers), 2)  # kfp's local runner runs two of a loop at a time
    in_containers = place.runner == "docker"
    return Job(
        package=str(place.package),
        parameters={**plan.parameters(), request.WORKERS: workers},
        root=str(folder / "kfp"),
        runner=place.runner,
        run_name=plan.run_name,
        search_threads=max(1, (os.cpu_count() or 1) // side_by_side),
        mounts=containers.mounts(plan, place.var) if in_containers else {},
        environment=containers.variables() if in_containers else {},
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The run's own folder, made, and ours alone for the while. Raises WrongInput where another has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "a")  # noqa: SIM115
    except OSError as problem:
        raise WrongInput(
            f"{folder} cannot be made ({problem.strerror}); mend that, or run in a place that can be written"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongInput(
                f"run_name: {folder.name} is running already; wait for it, or give another RUN_NAME"
            ) from None
        yield


def new_name(preset: str, runs: Path) -> str:
    """A name that no run has yet: the preset's and the time."""
    base = name = f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while (runs / name).exists():
        number += 1
        name = f"{base}-{number}"
    return name


def start(job: Job, folder: Path) -> subprocess.Popen[str]:
    """Start the runner. It ends by itself when our end of its standard input closes, however that comes about."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "DDPM_PROGRESS": "events", "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.runner"], cwd=ROOT, env=environment, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(job.to_json() + "\n")
    process.stdin.flush()
    return process


def end(process: subprocess.Popen[str], job: Job) -> None:
    """End the runner and everything that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < deadline and _lives(process):
            time.sleep(0.05)
    process.wait()
    if job.runner == "docker":
        containers.remove_all(job.run_name)


def _lives(process: subprocess.Popen[str]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
        return True
    except ProcessLookupError:
        return False


def run(plan: Plan, workers: list[int], place: Place, again: str, anew: str) -> int:
    """Run the plan and show it; the exit status. `again` carries this run on, `anew` makes another such run."""
    folder = place.var / "runs" / plan.run_name
    log_path = folder / "log.txt"
    job = make_job(plan, workers, place, folder)
    with locked(folder), Log(log_path) as log:
        log.write(f"=== {time.strftime('%Y-%m-%d %H:%M:%S')}  {again}")
        tell(f"run {plan.run_name}   log {closing.short(log_path)}")
        tell(f"if it is stopped, it carries on with: {again}")
        process = start(job, folder)
        progress = open_progress()
        try:
            assert process.stdout is not None
            seen = watch(process.stdout, progress, log, Estimate(plan))
            status = process.wait()
        except Stopped:
            log.write("=== stopped")
            progress.say("stopping")
            raise
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # what follows is short, and must be whole
            end(process, job)
            if isinstance(progress, Bars):
                progress.close()
            shutil.rmtree(folder / "tmp", ignore_errors=True)
        log.write(f"=== ended with status {status}")
    if status == 0:
        return finish(plan, place.var, anew)
    if Run(plan).facts("configure"):
        page = write_page(Run(plan), folder, [Command(again, "carry this run on, once what was wrong is mended")])
        tell(f"page: {closing.short(page)}")
    return report_failure(seen, status, log_path, again)


def report_failure(seen: Watched, status: int, log_path: Path, again: str) -> int:
    """Say why the run failed and how to carry on; the exit status."""
    tell()
    if not seen.failures:
        tell(f"the pipeline's runner ended with status {status}; its last lines were:")
        for line in seen.last_lines:
            tell(f"  {line}")
        status = 1
    else:
        first = seen.failures[0]
        tell(f"{first.step}: {first.words}")
        status = first.status if first.status in (2, 3) else 1
    tell(f"log: {closing.short(log_path)}")
    if status != 2:  # what was wrong must be put right first
        tell(f"carry on from there with: {again}")
    return status


def finish(plan: Plan, var: Path, anew: str) -> int:
    """Copy the run's summary to var/last-run.json and its page to its folder, and print both."""
    run = Run(plan)
    summary: Summary | None = run.facts("summary")  # type: ignore[assignment]
    if summary is None:
        tell(f"the run ended well, but left no summary in {run.folder.root}")
        return 1
    FileStore(var).write("last-run.json", json.dumps(summary, indent=1).encode())
    page = write_page(run, var / "runs" / plan.run_name, [Command(anew, "once more, and meet this champion")])
    if summary["state"] != "SUCCEEDED":  # a step that kfp's runner has left out, say
        tell(f"the runner ended well, but the run has not: {summary.get('error', '')}; page: {closing.short(page)}")
        return 1
    closing.show(summary, plan, anew, page)
    return 0


def _stop(number: int, frame: Any) -> None:
    raise Stopped


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipelines.local", description="Run the compiled pipeline on this machine.")
    parser.add_argument("--preset", default="digits", help="a file of ddpm/presets/, without .yaml (default digits)")
    parser.add_argument(
        "--data", default="", help="a named source, a folder of pictures, or NAME:FOLDER (default: the preset's)"
    )
    parser.add_argument(
        "--run-name", default="", help="a name; given again, the run carries on (default: PRESET-date-time)"
    )
    parser.add_argument(
        "--runner",
        choices=("subprocess", "docker"),
        default="subprocess",
        help="where its tasks run (default subprocess)",
    )
    parser.add_argument(
        "--var",
        type=output_type("var"),
        default=str(ROOT / "var"),
        help="the folder for all that runs leave (default var)",
    )
    parser.add_argument(
        "--package",
        type=Path,
        default=ROOT / "pipelines" / "ddpm.yaml",
        help="the compiled file (default pipelines/ddpm.yaml)",
    )
    parser.add_argument("--set", default="", metavar="NAME=VALUE …", help="the same as one text")
    parser.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="settings other than the preset's")
    again = ""
    take_all_characters()
    for number in SIGNALS:
        signal.signal(number, _stop)
    try:
        options = parser.parse_args(arguments)
        place = Place(local_path(options.var), options.package.absolute(), options.runner)
        load_extensions()
        changes = request.parse_changes(options.set, options.changes)
        load_preset(options.preset)  # the run is named after it
        name = options.run_name or new_name(options.preset, place.var / "runs")
        plan, workers = request.gather(options.preset, options.data, name, changes, default_places(place.var))
        check(plan, place)
        again = request.words_of(options.preset, options.data, name, changes, options.runner)
        anew = request.words_of(options.preset, options.data, "", changes, options.runner)
        return run(plan, workers, place, again, anew)
    except WrongInput as problem:
        tell(problem)
        return 2
    except Outage as problem:
        tell(f"{problem}; the same command carries on")
        return 1
    except Stopped:
        tell()
        tell("stopped" + (f"; carry on with: {again}" if again else ""))
        return 130
    except Exception as problem:  # a bug: in one line, with its traceback kept
        tell(keep_traceback(problem))
        return 1


if __name__ == "__main__":
    sys.exit(main())
