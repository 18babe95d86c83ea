"""What asking may cost: a number of requests, a rate, a time and a budget, shared by all threads that ask."""

from __future__ import annotations

import threading
import time

from ddpm.settings import JudgeSettings

BACKOFF, LONGEST_BACKOFF = 1.0, 60.0  # seconds after a first failure; doubled by each that follows


class Spent(Exception):
    """A bound is reached: nothing more is to be asked. Its words say which."""


class Bounds:
    """Says when the next request may be sent, and counts what was. Raises Spent where it may not be sent at all."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._began = time.monotonic()
        self._next = self._began  # when the next request may leave
        self._under_way = 0
        self.failures = 0  # in a row
        self._dearest = 0.0  # what one request has cost at most
        self._counted = False  # whether a request's price is known
        self.requests = self.tokens_in = self.tokens_out = 0
        self.cost = 0.0
        self.stopped = ""

    @property
    def priced(self) -> bool:
        return bool(self._settings.judge_input_price or self._settings.judge_output_price)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def await_turn(self) -> None:
        """Return when a request may leave. Each call that returns is followed by one of `settle`."""
        with self._changed:
            while True:
                self._require_room()
                left = self._next - time.monotonic()
                # What a request costs is known once one has come back: until then they go one at a time.
                if left <= 0 and not (self.priced and not self._counted and self._under_way):
                    break
                self._changed.wait(max(left, 0.01) if left > 0 else 1.0)
            self._next = time.monotonic() + 60 / self._settings.judge_per_minute
            self._under_way += 1
            self.requests += 1

    def _require_room(self) -> None:
        chosen = self._settings
        if self.stopped:
            raise Spent(self.stopped)
        if self.requests >= chosen.judge_requests:
            self._stop(f"judge_requests: {chosen.judge_requests} were sent")
        if max(self._next, time.monotonic()) - self._began >= chosen.judge_seconds:
            self._stop(f"judge_seconds: the next request would leave after the {chosen.judge_seconds:g} s")
        if self.priced and self.cost + self._dearest * (self._under_way + 1) > chosen.judge_budget:
            self._stop(
                f"judge_budget: {self.cost:.4g} of {chosen.judge_budget:g} is spent, and another request may exceed it"
            )

    def _stop(self, why: str) -> None:
        self.stopped = why
        self._changed.notify_all()
        raise Spent(why)

    def settle(self, tokens: tuple[int | None, int | None] | None, failed: bool, wait: float | None = None) -> None:
        """A request came back: with its tokens (None: with no answer), and, after a failure, the wait it asks for."""
        with self._changed:
            self._under_way -= 1
            if tokens is not None:
                self._charge(tokens)
            self.failures = self.failures + 1 if failed else 0
            if failed:
                pause = min(LONGEST_BACKOFF, BACKOFF * 2 ** (self.failures - 1)) if wait is None else wait
                self._next = max(self._next, time.monotonic() + pause)
            self._changed.notify_all()

    def _charge(self, tokens: tuple[int | None, int | None]) -> None:
        sent, answered = tokens
        if sent is None or answered is None:
            if self.priced and not self.stopped:
                self.stopped = "judge_budget: the endpoint does not count its tokens, so its cost cannot be bounded"
            return
        price = (sent * self._settings.judge_input_price + answered * self._settings.judge_output_price) / 1e6
        self.tokens_in, self.tokens_out = self.tokens_in + sent, self.tokens_out + answered
        self.cost += price
        self._dearest, self._counted = max(self._dearest, price), True

    def stop(self, why: str) -> None:
        """Let nobody ask any more."""
        with self._changed:
            self.stopped = self.stopped or why
            self._changed.notify_all()
