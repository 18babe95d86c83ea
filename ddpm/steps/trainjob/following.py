"""A training on several nodes, from the step's own task: its TrainJob is taken up, followed and ended.

There is one TrainJob for a folder of checkpoints, by its name. What an earlier attempt left is taken over where it is the
same and goes on; else it is ended, and the next one begins when the last of its pods is gone.

How it ends: when it is over, fails, or the step is stopped (SIGTERM), the step deletes it. Where the step is killed,
Kubernetes deletes it with the step's pod, and the run's exit task deletes what is left (`end_left_over`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ddpm.errors import Outage, WrongInput
from ddpm.legible import tell
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.steps.trainjob import rank
from ddpm.steps.trainjob.api import OVER, TrainJobs, index_of
from ddpm.steps.trainjob.log import Log
from ddpm.steps.trainjob.manifest import OUTCOME, WANTED, Object, Owner, name_of, train_job
from ddpm.steps.trainjob.nodes import Nodes, told

LOOK_SECONDS = 5.0  # between two looks
LONGEST_END = 600.0  # seconds for which the pods of an earlier one are waited for
COMPLETE, FAILED, SUSPENDED = "Complete", "Failed", "Suspended"
AT_ONCE = 0.0  # seconds of patience, for who has one left


def train_in_job(nodes: Nodes, run: Run, progress: Progress, call: Mapping[str, Any]) -> dict[str, Any]:
    """Have the nodes do what `rank.call` describes, in a TrainJob; the facts that came of it.

    Raises what rank 0 ended with; Outage where it ended without a word, is deleted by somebody, or Kubernetes is away;
    WrongInput where Kubernetes refuses it.
    """
    jobs = TrainJobs()
    owner, name = jobs.own_pod(), name_of(run.name, run.final)
    wanted = train_job(name, nodes, owner, call, uuid.uuid4().hex)
    patience: float | None = AT_ONCE  # of a step that is stopped
    try:
        job = _take_up(jobs, wanted, owner, run, progress)
        facts = _see_through(jobs, job, run, progress)
        patience = None
    except Exception:
        patience = None
        raise
    finally:
        _end(jobs, name, owner, patience)
    rank.forget(run.folder, _outcome(job))
    return facts


def end_left_over(run: Run) -> str:
    """End the TrainJob that a step which was killed has left; what was done, in words. For the run's exit task."""
    if told() is None:
        return ""
    name = name_of(run.name, run.final)
    try:
        jobs = TrainJobs()
        job = jobs.read(name)
        if job is None or _is_leaving(job) or any(map(jobs.is_at_work, _owners(job))):
            return ""  # where another run of the same name has taken it over, say
        jobs.delete(job)
    except (WrongInput, Outage) as problem:
        return f"whether TrainJob {name} is left is not known: {problem}"
    return f"TrainJob {name} was left by a step that was killed; it is ended"


# -- taken up ----------------------------------------------------------------------------------------------------------


def _take_up(jobs: TrainJobs, wanted: Object, owner: Owner, run: Run, progress: Progress) -> Object:
    """The TrainJob that trains from here on: one that goes on already, or `wanted`."""
    name = wanted["metadata"]["name"]
    while True:
        there = jobs.read(name)
        if there is None:
            _wait(lambda: not _alive(jobs, name), f"pods of an earlier TrainJob {name}", progress)
            if made := jobs.create(wanted):
                trainer = made["spec"]["trainer"]
                progress.say(
                    f"TrainJob {name}: {trainer['numNodes']} nodes with {trainer['numProcPerNode']} processes each are asked for"
                )
                return made
        elif _can_be_taken_over(there, wanted, run):
            if ours := jobs.take_over(there, owner):
                progress.say(f"TrainJob {name}: an earlier attempt began it; this one goes on with it")
                return ours
        else:
            if not _is_leaving(there):
                progress.say(f"TrainJob {name}: an earlier attempt's is replaced")
                jobs.delete(there)
            uid = there["metadata"]["uid"]
            _wait(lambda uid=uid: _uid(jobs.read(name)) != uid, f"the TrainJob {name} that was before", progress)  # type: ignore[misc]


def _can_be_taken_over(job: Object, wanted: Object, run: Run) -> bool:
    """Whether it is what is wanted, and trains, or has an outcome that nobody took."""
    if _is_leaving(job) or _annotation(job, WANTED) != _annotation(wanted, WANTED):
        return False
    return not _ended(job) or (_ended(job) == COMPLETE and rank.has_left(run.folder, _outcome(job)))


def _alive(jobs: TrainJobs, name: str) -> list[Any]:
    return [pod for pod in jobs.pods(name) if pod.status.phase not in OVER]


def _wait(over: Callable[[], bool], what: str, progress: Progress) -> None:
    """Wait for what goes. Raises Outage where it does not."""
    began, said = time.monotonic(), False
    while not over():
        if time.monotonic() - began > LONGEST_END:
            raise Outage(f"{what} will not go; see what holds it (kubectl describe), and try the step again")
        if not said:
            progress.say(f"waiting until {what} is gone")
        said = True
        time.sleep(LOOK_SECONDS)


# -- followed ----------------------------------------------------------------------------------------------------------


def _see_through(jobs: TrainJobs, job: Object, run: Run, progress: Progress) -> dict[str, Any]:
    """Follow it to its end, and take what came of it."""
    name, log, said = job["metadata"]["name"], Log(jobs), ""
    while True:
        now = jobs.read(name)
        if now is None or _uid(now) != _uid(job) or _is_leaving(now):
            raise Outage(f"TrainJob {name} was deleted by somebody; the step carries on when it is tried again")
        pods = jobs.pods(name)
        log.pass_on(pods)
        if (words := _in_words(now, pods)) != said:
            progress.say(f"TrainJob {name}: {words}")
            said = words
        if _ended(now):
            break
        time.sleep(LOOK_SECONDS)
    facts = rank.outcome_of(run.folder, _outcome(job))
    if facts is None:
        log.last_words(pods)
        raise Outage(
            f"TrainJob {name} ended without an outcome: {_why(now, pods)}; what was trained up to the last checkpoint is kept, and the step carries on when it is tried again"
        )
    return facts


def _in_words(job: Object, pods: list[Any]) -> str:
    """What it is at."""
    if ended := _ended(job):
        return f"it is over ({ended})"
    if _condition(job, SUSPENDED):
        return "it is suspended, and waits for its turn"
    count = job["spec"]["trainer"]["numNodes"]
    running = sum(pod.status.phase == "Running" for pod in pods)
    waiting = [f"node {index_of(pod)}: {words}" for pod in pods if (words := _waits_for(pod))]
    return "; ".join([f"{running} of {count} nodes at work", *waiting])


def _waits_for(pod: Any) -> str:
    """Why a pod is not at work yet; empty for one that is."""
    if pod.status.phase != "Pending":
        return ""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason}, {condition.message}"
    for container in pod.status.container_statuses or []:
        if container.state and container.state.waiting:
            return str(container.state.waiting.reason)
    return "its pod is made"


def _why(job: Object, pods: list[Any]) -> str:
    """How it failed: as its pods say, else as it says itself."""
    found = []
    for pod in pods:
        if pod.status.phase != "Failed":
            continue
        ends = [
            one.state.terminated for one in pod.status.container_statuses or [] if one.state and one.state.terminated
        ]
        words = [f"{end.reason}, exit status {end.exit_code}" for end in ends] or [
            pod.status.reason or "no reason is given"
        ]
        found.append(f"node {index_of(pod)} ({', '.join([*filter(None, [pod.status.message]), *words])})")
    if found:
        return "; ".join(found)
    condition = _condition(job, FAILED) or {}
    return f"{condition.get('reason', 'no reason is given')} {condition.get('message', '')}".strip()


# -- ended -------------------------------------------------------------------------------------------------------------


def _end(jobs: TrainJobs, name: str, owner: Owner, patience: float | None) -> None:
    """Delete it, where it is this pod's still. That it cannot be done is told: the step ends as it was about to."""
    try:
        job = jobs.read(name, patience)
        if job and owner.reference() in _owners(job):
            jobs.delete(job, patience)
    except (WrongInput, Outage) as problem:
        tell(f"TrainJob {name} could not be ended, and is deleted with pod {owner.name}: {problem}")


# -- of a TrainJob -----------------------------------------------------------------------------------------------------


def _condition(job: Object, kind: str) -> dict[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def _ended(job: Object) -> str:
    """Complete or Failed; empty while it is not over."""
    return next((kind for kind in (COMPLETE, FAILED) if _condition(job, kind)), "")


def _is_leaving(job: Object) -> bool:
    """Whether somebody has deleted it, and it is there until the last of its pods is gone."""
    return "deletionTimestamp" in job["metadata"]


def _owners(job: Object) -> list[Object]:
    return job["metadata"].get("ownerReferences", [])


def _annotation(job: Object, name: str) -> str:
    return job["metadata"].get("annotations", {}).get(name, "")


def _outcome(job: Object) -> str:
    return _annotation(job, OUTCOME)


def _uid(job: Object | None) -> str:
    return job["metadata"]["uid"] if job else ""
