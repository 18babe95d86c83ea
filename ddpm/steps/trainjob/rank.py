"""What each process on the nodes runs: `python -m torch.distributed.run -m ddpm.steps.trainjob CALL OUTCOME`.

The step begins as a rank of one world. What comes of it at rank 0 lies in the run's folder as trainjob/OUTCOME.json, for
the task that made the TrainJob (`following.py`): the step's facts, or the error that it ended with.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ddpm.errors import STATUS, Outage, Refused, WrongInput, status_of
from ddpm.failure import said
from ddpm.legible import tell
from ddpm.store import Missing, Store
from ddpm.store.reading import read_json


def call(
    module: str, plan: Mapping[str, Any], artifacts: Sequence[Mapping[str, Any]], more: Mapping[str, Any]
) -> dict[str, Any]:
    """What `main` is given: the module whose `in_pipeline` is the step, and the facts that its task was handed."""
    return {"module": module, "plan": dict(plan), "artifacts": [dict(one) for one in artifacts], "more": dict(more)}


def main(given: str, outcome: str) -> None:
    words = json.loads(given)
    step = importlib.import_module(words["module"]).in_pipeline
    step.in_rank(words["plan"], words["artifacts"], words["more"], outcome)


def leave(folder: Store, outcome: str, work: Callable[[], Mapping[str, Any]]) -> None:
    """Do the work, and write what came of it. What it raises is raised again, but for what is one line: that is told."""
    try:
        found: dict[str, Any] = {"facts": dict(work())}
    except (WrongInput, Refused, Outage) as problem:
        status = status_of(problem)
        _write(folder, outcome, {"error": str(problem), "status": status})
        tell(problem, sys.stdout)
        sys.exit(status)
    except Exception as problem:
        _write(folder, outcome, {"error": said(problem), "status": 1})
        raise
    _write(folder, outcome, found)


def outcome_of(folder: Store, outcome: str) -> dict[str, Any] | None:
    """The facts that rank 0 left; None where it left nothing. Raises what it ended with."""
    try:
        found = read_json(folder, _key(outcome), dict[str, Any], "run the step again")
    except Missing:
        return None
    if "error" in found:
        raise next(kind for kind, status in STATUS.items() if status == found["status"])(found["error"])
    return found["facts"]


def has_left(folder: Store, outcome: str) -> bool:
    return folder.exists(_key(outcome))


def forget(folder: Store, outcome: str) -> None:
    folder.delete(_key(outcome))


def _write(folder: Store, outcome: str, found: dict[str, Any]) -> None:
    folder.write(_key(outcome), json.dumps(found, indent=1).encode())


def _key(outcome: str) -> str:
    return f"trainjob/{outcome}.json"
