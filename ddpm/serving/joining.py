"""Drawings that share evaluations of a network, though each began at its own time and goes its own way.

A drawing runs its sampler as it is, in a thread of its own. Where the sampler asks the network, the thread hands the question
over and stands still until it has an answer: of all these threads and the queue's, one works at a time. Which rows share an
evaluation is then up to the queue, step by step (iteration-level scheduling: Yu et al. 2022, Orca).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddpm.device import keep_threads

Through = Callable[[nn.Module], nn.Module]  # a network, and what asks it for a drawing
Kind = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Question:
    """What a sampler asks of a network: x [k,3,h,w], t [k], labels int64 [k] or None."""

    net: nn.Module
    x: Tensor
    t: Tensor
    labels: Tensor | None
    autocast: bool

    @property
    def kind(self) -> Kind:
        """Questions of one kind may be asked at once."""
        return id(self.net), self.autocast, self.x.shape[1:], self.x.dtype


@torch.inference_mode()
def answers(questions: Sequence[Question], shape: int) -> list[Tensor]:
    """What the network says to questions of one kind, asked at once in a batch of this shape; one tensor for each."""
    first, sizes = questions[0], [len(question.x) for question in questions]
    labels: list[Tensor] = []
    if any(question.labels is not None for question in questions):  # -1: of no class, as without labels
        labels = [torch.full_like(q.t, -1, dtype=torch.int64) if q.labels is None else q.labels for q in questions]

    def together(parts: list[Tensor]) -> Tensor:
        last = parts[-1][-1:]
        return torch.cat([*parts, last.expand(shape - sum(sizes), *last.shape[1:])])

    with torch.autocast(first.x.device.type, torch.bfloat16, enabled=first.autocast):
        found: Tensor = first.net(
            together([q.x for q in questions]), together([q.t for q in questions]), together(labels) if labels else None
        )
    return list(found[: sum(sizes)].split(sizes))


class Drawing:
    """A drawing of so many pictures. `draw(through)` draws, and has its networks asked by way of `through`."""

    def __init__(self, pictures: int, draw: Callable[[Through], None]) -> None:
        self.pictures = pictures
        self._draw: Callable[[Through], None] | None = draw
        self.question: Question | None = None  # what it waits to be told; None: it has ended, or not begun
        self.problem: BaseException | None = None  # by which it ended
        self.asked = 0  # questions so far
        self._answer: Tensor | Exception | None = None
        self._turn, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._torch_threads = torch.get_num_threads()

    def begin(self) -> None:
        """Let it work until its first question, or its end."""
        try:
            threading.Thread(target=self._run, name="sampling", daemon=True).start()
        except RuntimeError as problem:  # the system has no more threads
            self.problem = problem
        else:
            self._stands.acquire()

    def go_on(self, answer: Tensor | Exception) -> None:
        """Let it work until its next question, or its end. An exception is raised where it asked."""
        self._answer, self.question = answer, None
        self._turn.release()
        self._stands.acquire()

    # -- its thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        # As the queue's thread has them: a new thread's number is one while any other is inside `threads_for`.
        keep_threads()
        torch.set_num_threads(self._torch_threads)
        try:
            assert self._draw is not None
            self._draw(lambda net: _Asks(net, self))
        except BaseException as problem:
            self.problem = problem
        finally:
            self._draw = None  # it knows who knows us: memory is free without the collector of such cycles
            self._stands.release()

    def ask(self, question: Question) -> Tensor:
        self.question = question
        self.asked += 1
        self._stands.release()
        self._turn.acquire()
        answer, self._answer = self._answer, None
        if isinstance(answer, Tensor):
            return answer
        assert answer is not None
        raise answer


class _Asks(nn.Module):
    """A network to those who call it, which is asked in company."""

    def __init__(self, net: nn.Module, drawing: Drawing) -> None:
        super().__init__()
        self._asked = (net, drawing)  # not as a part: what is done to parts, for each drawing, takes longer than a step

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The network's own: by them one tells where it is, and how it lies."""
        return self._asked[0].parameters(recurse)

    def to(self, *args: Any, **how: Any) -> _Asks:
        self._asked[0].to(*args, **how)
        return self

    def eval(self) -> _Asks:
        if self._asked[0].training:
            self._asked[0].eval()
        return self

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """In pieces of as many as the drawing has pictures: a sampler may ask more at once, and the batch has no more room.

        What makes no batch is asked alone, and is its own sampler's fault alone.
        """
        net, drawing, autocast = *self._asked, torch.is_autocast_enabled(x.device.type)
        if not len(x) or len(t) != len(x) or (labels is not None and len(labels) != len(x)):
            found: Tensor = net(x, t, labels)
            return found
        pieces = zip(
            x.split(drawing.pictures), t.split(drawing.pictures), _split(labels, drawing.pictures), strict=False
        )
        return torch.cat([drawing.ask(Question(net, *piece, autocast)) for piece in pieces])


def _split(labels: Tensor | None, pictures: int) -> Iterable[Tensor | None]:
    return itertools.repeat(None) if labels is None else labels.split(pictures)
