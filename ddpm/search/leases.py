"""Who is at work: a lease that a living process holds, of a worker's number or of a trial.

By the one a second process with that number is told from a resumption; by the other nobody else runs the trial meanwhile,
and one whose worker died is free for others.

    leases/NAME/NNNNNN.json   who holds it; the highest number counts, and only one process can create it

A holder renews its object's time. One that has let go, that is no process of this machine any more, or that has not
renewed for a while, as of a machine that died, is succeeded by the next number. Numbers are never given back: of two
who succeed the same holder one creates the next number, and the other sees it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypedDict

import psutil

from ddpm.errors import Outage, WrongInput
from ddpm.store import Damaged, Entry, Missing, Store, open_store
from ddpm.store.reading import read_json

RENEWED_EVERY = 10.0  # seconds
EXPIRES_AFTER = 45.0  # seconds without a renewal
UNLISTED = 10  # times that one meets an object that is there by `create`, and not by `list`
NUMBERED = re.compile(r"[0-9]{6,}\.json")


def this_machine() -> str:
    """What tells apart machines, their boots and their containers: where it is equal, a process's id means the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


class Noted(TypedDict, total=False):
    """What a holder writes of itself; once it has let go, that alone."""

    machine: str
    host: str
    process: int
    began: float
    released: bool


@dataclass(frozen=True)
class Holder:
    """Whoever holds a lease, or has let it go."""

    key: str
    renewed: float  # by the store's clock
    machine: str
    host: str
    process: int
    began: float  # when the process did
    released: bool

    @property
    def is_here(self) -> bool:
        return self.machine == this_machine()

    @property
    def lives(self) -> bool:
        """Of a process of this machine: whether it does."""
        if self.process < 1:
            return False
        try:
            process = psutil.Process(self.process)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.began) < 1
        except psutil.NoSuchProcess:
            return False

    def is_over(self, now: float) -> bool:
        """Whether it may be succeeded at once. One of this machine is judged by its life alone, of others by the store's
        clock."""
        if self.released:
            return True
        return not self.lives if self.is_here else now - self.renewed >= EXPIRES_AFTER

    @property
    def said(self) -> str:
        return f"process {self.process} on {'this machine' if self.is_here else self.host}"


class Lease:
    """A lease, held while the context lasts. Entering raises WrongInput, which begins with `whose`, where a living process
    has it; after `take` it is held already.

    Args:
        store: the run's folder.
        name: what it is a lease of.
        whose: the same in words.
        say: hears why it takes a while.
    """

    def __init__(self, store: Store, name: str, whose: str, say: Callable[[str], None]) -> None:
        self._store, self._folder, self._whose, self._say = store, f"leases/{name}", whose, say
        self._key = ""
        self._lost = ("", 0)  # the number that could not be created, and how often in a row
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def take(self) -> bool:
        """Take it, unless somebody has it now or is quicker; whether it is held. It is renewed once it is entered."""
        holder = self._holder()
        if holder is None or holder.is_over(self._store.now()):
            self._succeed(holder)
        return bool(self._key)

    def release(self) -> None:
        """Let go of what was taken."""
        self._let_go(self._store)

    def _let_go(self, store: Store) -> None:
        store.write(self._key, json.dumps({"released": True}).encode())

    def __enter__(self) -> Lease:
        seen: dict[str, float] = {}
        while not self._key:
            holder = self._holder()
            if holder is None or self._is_over(holder, seen):
                self._succeed(holder)
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if kind is not None and not issubclass(kind, Exception):  # stopped: there may be a second left
            with contextlib.suppress(WrongInput, Outage):  # then it ends by its time
                self._let_go(open_store(self._store.root, hasty=True))
            return
        self._renewing.join()
        self.release()

    def require(self) -> None:
        """Raise Outage where it was taken over, since this process had not renewed it, say on a machine that slept."""
        holder = self._holder()
        if holder is None or holder.key != self._key:
            by = f" by {holder.said}" if holder else ""
            raise Outage(f"{self._whose} was taken over{by}, since this process was not heard of for a while")

    def _entries(self) -> list[Entry]:
        found = (entry for entry in self._store.entries(self._folder) if NUMBERED.fullmatch(Path(entry.key).name))
        return sorted(found, key=lambda entry: entry.key)

    def _holder(self) -> Holder | None:
        """Of the highest number; None where there is none yet."""
        entries = self._entries()
        if not entries:
            return None
        last = entries[-1]
        try:
            known = read_json(self._store, last.key, Noted, "it ends by its time")
        except Missing:  # succeeded since, and cleared away
            return self._holder()
        except Damaged:  # it ends by its time
            known = Noted()
        return Holder(
            last.key, last.modified, known.get("machine", ""), known.get("host", "an unknown machine"),
            known.get("process", 0), known.get("began", 0.0), known.get("released", False),
        )  # fmt: skip

    def _is_over(self, holder: Holder, seen: dict[str, float]) -> bool:
        """Whether it may be succeeded. One of another machine is waited for until it renews or has not for too long."""
        now = self._store.now()
        if holder.is_over(now):
            return True
        left = EXPIRES_AFTER - (now - holder.renewed)
        if holder.is_here or seen.get(holder.key, holder.renewed) != holder.renewed:
            raise WrongInput(
                f"{self._whose} is at work already ({holder.said}); wait for its end, or give another number"
            )
        if holder.key not in seen:
            self._say(f"{self._whose}: waiting for up to {left:.0f} s to see whether {holder.said} is still at work")
        seen[holder.key] = holder.renewed
        time.sleep(min(1.0, left))
        return False

    def _succeed(self, holder: Holder | None) -> None:
        """Create the next number, unless somebody else is first; clear away those before it.

        Raises Damaged where that number is there and is never listed.
        """
        number = 1 + (int(Path(holder.key).stem) if holder else 0)
        key = f"{self._folder}/{number:06d}.json"
        mine = {
            "machine": this_machine(), "host": socket.gethostname(), "process": os.getpid(),
            "began": psutil.Process().create_time(),
        }  # fmt: skip
        if self._store.create(key, json.dumps(mine).encode()):
            self._key = key
            for entry in self._entries():
                if entry.key < key:
                    self._store.delete(entry.key)
            return
        self._lost = (key, self._lost[1] + 1 if self._lost[0] == key else 1)
        if self._lost[1] == UNLISTED:
            raise Damaged(f"{self._store.uri(key)} is there, and the store does not list it; look at the store")
        time.sleep(0.01 * 2 ** self._lost[1])  # somebody else's is listed by then

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_EVERY):
            try:
                self._store.renew(self._key)
            except (WrongInput, Outage) as problem:  # the store is away: the work itself will meet it, if that lasts
                self._say(f"{self._whose} could not renew its lease: {problem}")
