"""A submitted run, followed to its end: our steps, each attempt and why it ended, and new attempts at what may pass.

A server that goes away is waited for; a token that expires is read again. Whether a failed run is tried again is told by
what its steps left in the store (`ddpm.attempts`): what is wrong input stays wrong.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ddpm.attempts import Failure, in_words
from ddpm.errors import Outage, WrongInput
from ddpm.legible import tell
from ddpm.run import attempts_of, summary_of
from ddpm.store import Missing
from ddpm.tracking import address
from pipelines.nodes import Attempt, Step, steps_of
from pipelines.server import Unreachable, asked, check_endpoint, open_client, retry, token_now

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
UNANSWERED = 30  # looks in a row without an answer, after which watching ends
WORDS = {"PENDING": "waits for a node", "CANCELING": "is being terminated"}


class Followed:
    """A run on a cluster. Its steps' failures are read from the store, where this machine can read that."""

    def __init__(
        self, client: Any, endpoint: str, namespace: str, run_id: str, name: str, store: str, workers: Sequence[int],
        tracking_uri: str = "",
    ) -> None:  # fmt: skip
        self.run_id, self.name, self.store, self.workers = run_id, name, store, workers
        self._tracking_uri = tracking_uri
        self._endpoint, self._namespace = endpoint, namespace
        self._token = token_now()
        self._client = client
        self._told: dict[str, str] = {}  # by what it is about: the last line
        self._unread = False
        self._looks = 0  # without an answer
        self._history = 0  # entries of the run's history that an earlier end had

    # -- the whole -----------------------------------------------------------------------------------------------------

    def see_through(self, retries: int, seconds: float) -> int:
        """Follow the run to its end, and have it tried again up to so often; the exit status."""
        for left in range(retries, -1, -1):
            run = self.follow(seconds)
            if run.state == "SUCCEEDED":
                tell(f"run {self.name} ended: SUCCEEDED")
                for line in self.outcome():
                    tell(line)
                return 0
            status = self.say_why(run)
            if status != 1 or not left or run.state != "FAILED" or was_terminated(run):
                return status
            tell(f"asking for another try of what failed; {left - 1} left after it")
            self.retry(run)
        raise AssertionError("the last try returns")

    def retry(self, run: Any) -> None:
        retry(self._client, self.run_id)
        self._history = len(run.state_history or [])
        self._told.clear()

    def say_why(self, run: Any) -> int:
        """Tell how the run ended, which was not well; the exit status: that of the steps, where they left one."""
        failures = self.failures()
        for failure in failures:
            tell(in_words(failure))
        terminated = was_terminated(run)
        tell(f"run {self.name} ended: {run.state}{', terminated by somebody' if terminated else ''}")
        if terminated:
            return 1
        for status, words in ((2, "what was wrong must be put right first"), (3, "a check refused it")):
            if any(failure["status"] == status for failure in failures):
                tell(f"it is not tried again: {words}")
                return status
        return 1

    def outcome(self) -> list[str]:
        """What came of a run that succeeded: its versions, and where they are to be seen."""
        if not self.store:
            return []
        try:
            summary = summary_of(self.store, self.name)
        except Missing:
            return []
        except (WrongInput, Outage) as problem:
            return [f"what came of it cannot be read from here, and Summarise's page on Kubeflow has it: {problem}"]
        if summary.get("session") != self.run_id:  # an earlier one's, of the same name
            return []
        models = [found for found in (summary.get("model"), summary.get("transfer", {}).get("model")) if found]
        lines = [
            f"{model['name']} version {model['version']} ({', '.join(model['aliases']) or 'no alias'}): {model['decision']}"
            for model in models
        ]
        page = address(self._tracking_uri, summary.get("mlflow_run", ""))
        return [*lines, *([f"its run in MLflow is {page}"] if page and summary.get("mlflow_run") else [])]

    def failures(self) -> list[Failure]:
        """What the steps left in the store; nothing where it cannot be read from here, which is said once."""
        if not self.store:
            return []
        try:
            return attempts_of(self.store, self.name, self.run_id, hasty=True).failures()
        except (WrongInput, Outage) as problem:
            if not self._unread:
                tell(f"how steps ended cannot be read from here, and each step's own log has it: {problem}")
            self._unread = True
            return []

    # -- looking -------------------------------------------------------------------------------------------------------

    def follow(self, seconds: float) -> Any:
        """The run as it has ended; each change of its steps is told once."""
        stale = 0
        while True:
            if run := self._look():
                self._show(run)
                fresh = len(run.state_history or []) > self._history or not self._history
                if run.state in ENDED and fresh:
                    if run.error and run.error.message:
                        tell(run.error.message.splitlines()[0])
                    return run
                stale = stale + 1 if run.state in ENDED else 0
                if stale >= UNANSWERED:
                    raise Unreachable(
                        f"the server took the request to try run {self.run_id} again, and nothing came of it"
                    )
            time.sleep(seconds)

    def _look(self) -> Any:
        """The run as the server has it now; None where it does not answer. Raises Unreachable where that lasts."""
        try:
            run = asked(lambda: self._client.get_run(self.run_id))
        except Unreachable as problem:
            if problem.status in (401, 403) and self._renewed():
                return None
            self._looks += 1
            if problem.status in (401, 403):
                raise Unreachable(
                    f"the server takes KFP_TOKEN no longer ({problem}); the run goes on: export a new one (or KFP_TOKEN_FILE, which is read again), and watch it with `make resume RUN={self.run_id}`"
                ) from None
            if problem.status == 404:
                raise Unreachable(f"the server knows run {self.run_id} no longer: somebody has deleted it") from None
            if 400 <= problem.status < 500 or self._looks >= UNANSWERED:
                raise Unreachable(
                    f"run {self.run_id} can no longer be watched: {problem}; it goes on, and `make resume RUN={self.run_id}` watches it again"
                ) from None
            if self._looks == 1:
                self._say("server", f"the server does not answer, and is asked again: {problem}")
            return None
        if self._looks:
            self._say("server", "the server answers again")
            self._told.pop("server")
        self._looks = 0
        return run

    def _renewed(self) -> bool:
        """Whether there is another token than the one that is refused."""
        token = token_now()
        if token == self._token:
            return False
        check_endpoint(self._endpoint, token)  # which says at once what the client waits half a minute for
        self._token, self._client = token, open_client(self._endpoint, token, self._namespace)
        return True

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show(self, run: Any) -> None:
        state = run.state or "PENDING"
        if state not in ENDED:
            self._say("run", f"run  {WORDS.get(state, state.lower())}")
        for step in steps_of(run, self.workers):
            for attempt in step.attempts:
                self._say(f"{step.key} {attempt.number}", self._line(step, attempt))
            if not step.attempts and step.state != "RUNNING":
                self._say(step.key, f"{step.title}  {step.state.lower()}")
        if state in ENDED:
            self._say("run", f"run  {state.lower()}")

    def _line(self, step: Step, attempt: Attempt) -> str:
        several = f"  attempt {attempt.number}" if len(step.attempts) > 1 else ""
        line = f"{step.title}{several}  {WORDS.get(attempt.state, attempt.state.lower())}"
        if attempt.seconds is not None:
            line += f" after {attempt.seconds:.0f} s"
        return line

    def _say(self, about: str, line: str) -> None:
        """A line, with the time, where it is news. Whose second attempt has begun had a first, which is no news."""
        before = self._told.get(about)
        if before is not None and before.replace("  attempt 1", "") == line.replace("  attempt 1", ""):
            return
        self._told[about] = line
        key = about.rpartition(" ")[0]
        if " failed" in line and key and (why := [one for one in self.failures() if one["step"] == key]):
            line += f": {why[-1]['error']}"
        tell(f"{time.strftime('%H:%M:%S')}  {line}")


def was_terminated(run: Any) -> bool:
    """Whether somebody terminated the run: KFP calls it FAILED all the same, but was CANCELING before."""
    states = [entry.state for entry in run.state_history or []]
    return run.state == "CANCELED" or states[-2:-1] == ["CANCELING"]
