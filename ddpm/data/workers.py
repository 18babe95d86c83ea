"""Processes that decode: files in, pixels out.

Each is `python -m ddpm.data.workers` with pipes of its own: a damaged file that brings down a decoder takes nothing else
with it, a worker ends when whoever started it is gone, and Python's lock is nobody's bottleneck. A request is a line of
JSON and the bytes it counts; so is an answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from ddpm.data.packing import Unusable, fit, pixel_digest
from ddpm.data.packing import decode as decode_picture
from ddpm.data.sources import source
from ddpm.data.sources.source import Content, Picture, too_large
from ddpm.errors import WrongInput

CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
OVERDUE = signal.SIGALRM  # ends a worker that is not through with a picture after
LONGEST = 120.0  # seconds, twice: what never ends is no picture
UNREADABLE = "unreadable"  # with its reason, stands for the digest of a file that cannot be read


@dataclass(frozen=True, slots=True)
class Packed:
    """What became of a picture: its file's sha256, and its pixels uint8 [3,H,W] and their digest, or why there are none."""

    file_sha256: str
    pixels: np.ndarray | None = None
    digest: bytes = b""
    reason: str = ""
    size: tuple[int, int] = (0, 0)  # width and height as it came, turned upright


class Ended(Exception):
    """A worker is gone; `status` as of its process: below 0, the signal that ended it."""

    def __init__(self, status: int) -> None:
        self.status = status


class Worker:
    """One process. Not to be used from two threads at once."""

    def __init__(self, image_size: int, min_side: int) -> None:
        self.image_size, self.min_side = image_size, min_side
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        here = str(Path(__file__).parents[2])
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH")) if part)
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ddpm.data.workers",
                *map(str, (self.image_size, self.min_side, source.MAX_BYTES, LONGEST)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one, "PYTHONPATH": path},
        )

    def work(
        self, pictures: Sequence[Picture], contents: Sequence[str | bytes], decode: bool, again: bool = False
    ) -> list[Packed]:
        """The pictures decoded, or only their files' digests taken. A file that crashes its decoder is said to.

        So is one that holds it up for longer than LONGEST, in its second try (`again`).
        """
        try:
            return self._ask(contents, decode)
        except Ended as problem:
            self._process = self._start()
            if -problem.status not in (*CRASHES, OVERDUE):
                raise WrongInput(
                    f"workers: a decoding process ended with status {problem.status} (out of memory?); run it again, perhaps with fewer --workers: it goes on from here"
                ) from None
            if len(pictures) == 1 and -problem.status == OVERDUE and not again:  # it may have been stopped for a while
                return self.work(pictures, contents, decode, again=True)
            if len(pictures) > 1:
                return [self.work([p], [c], decode)[0] for p, c in zip(pictures, contents, strict=True)]
            crash = f"crashes its decoder ({signal.Signals(-problem.status).name})"
            reason = f"takes longer than {LONGEST:g} s" if -problem.status == OVERDUE else crash
            return [Packed(self._digest(contents, reason), reason=reason)]

    def _digest(self, contents: Sequence[str | bytes], reason: str) -> str:
        """The file's, which did not survive its decoding; or what stands for it, where it cannot even be read."""
        try:
            return self._ask(contents, decode=False)[0].file_sha256
        except Ended:
            self._process = self._start()
            return f"{UNREADABLE}: {reason}"

    def _ask(self, contents: Sequence[str | bytes], decode: bool) -> list[Packed]:
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None and pipe_out is not None
        items = [{"path": content} if isinstance(content, str) else {"size": len(content)} for content in contents]
        try:
            pipe_in.write(json.dumps({"decode": decode, "items": items}).encode() + b"\n")
            for content in contents:
                if isinstance(content, bytes):
                    pipe_in.write(content)
            pipe_in.flush()
            line = pipe_out.readline()
            if not line.endswith(b"\n"):
                raise Ended(self._process.wait())
            return [self._packed(answer, pipe_out) for answer in json.loads(line)]
        except BrokenPipeError:
            raise Ended(self._process.wait()) from None

    def _packed(self, answer: dict[str, Any], pipe: IO[bytes]) -> Packed:
        if "digest" not in answer:
            return Packed(answer["sha256"], reason=answer.get("reason", ""))
        size = 3 * self.image_size**2
        data = pipe.read(size)
        if len(data) < size:
            raise Ended(self._process.wait())
        pixels = np.frombuffer(data, dtype=np.uint8).reshape(3, self.image_size, self.image_size)
        width, height = answer["size"]
        return Packed(answer["sha256"], pixels, bytes.fromhex(answer["digest"]), size=(width, height))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Workers:
    """Several of them; `work` may be called from as many threads, and waits for one that is free."""

    def __init__(self, count: int, image_size: int, min_side: int) -> None:
        self._all = [Worker(image_size, min_side) for _ in range(count)]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._all:
            self._free.put(worker)

    def work(self, pictures: Sequence[Picture], decode: bool = True) -> list[Packed]:
        """The pictures decoded, in order; or (decode=False) only their files' digests taken."""
        results: list[Packed | None] = [None] * len(pictures)
        ready: list[tuple[int, str | bytes]] = []
        for place, picture in enumerate(pictures):
            try:
                ready.append((place, _content(picture.content)))
            except OSError as problem:
                reason = f"cannot be read: {problem.strerror or problem}"
                results[place] = Packed(f"{UNREADABLE}: {reason}", reason=reason)
        if ready:
            worker = self._free.get()
            try:
                asked = [pictures[place] for place, _ in ready]
                for (place, _), packed in zip(ready, worker.work(asked, [c for _, c in ready], decode), strict=True):
                    results[place] = packed
            finally:
                self._free.put(worker)
        return [packed for packed in results if packed is not None]

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._all:
            worker.end()


def _content(content: Content) -> str | bytes:
    """A path, which the worker reads itself, or the bytes, which come from somewhere that only we know."""
    return content() if callable(content) else content


# -- the process ------------------------------------------------------------------------------------------------------


def _read_file(path: str, max_bytes: int) -> bytes:
    """As many of a file's bytes as its size says: the kernel's own files may never end.

    Raises OSError where it is no plain file, or they are too many.
    """
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(None, "is no plain file")
    if facts.st_size > max_bytes:
        raise too_large(facts.st_size)
    with open(path, "rb") as file:
        return file.read(facts.st_size)


def _answer(data: bytes, image_size: int, min_side: int, decode: bool) -> tuple[dict[str, Any], bytes]:
    sha256 = hashlib.sha256(data).hexdigest()
    if not decode:
        return {"sha256": sha256}, b""
    try:
        picture = decode_picture(data)
        pixels = fit(picture, image_size, min_side)
    except Unusable as problem:
        return {"sha256": sha256, "reason": str(problem)}, b""
    return {"sha256": sha256, "digest": pixel_digest(pixels).hex(), "size": list(picture.size)}, pixels.tobytes()


def serve(
    image_size: int, min_side: int, max_bytes: int, longest: float, requests: IO[bytes], replies: IO[bytes]
) -> None:
    """Answer requests until there are no more. This process ends by SIGALRM where one file takes longer, in seconds."""
    while line := requests.readline():
        asked: dict[str, Any] = json.loads(line)
        answers, pixels = [], []
        for item in asked["items"]:
            signal.setitimer(signal.ITIMER_REAL, longest)
            try:
                data = _read_file(item["path"], max_bytes) if "path" in item else requests.read(item["size"])
            except OSError as problem:
                reason = f"cannot be read: {problem.strerror}"
                answers.append({"sha256": f"{UNREADABLE}: {reason}", "reason": reason})
                continue
            answer, packed = _answer(data, image_size, min_side, asked["decode"])
            answers.append(answer)
            pixels.append(packed)
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(json.dumps(answers).encode() + b"\n" + b"".join(pixels))
        replies.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of them; whoever started this one ends it
    try:
        image_size, min_side, max_bytes = map(int, sys.argv[1:4])
        serve(image_size, min_side, max_bytes, float(sys.argv[4]), sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        os._exit(1)  # nobody is there to read the answer, nor a traceback
