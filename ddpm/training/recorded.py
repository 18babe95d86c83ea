"""A step's work as a CUDA graph: its kernels are launched once, and replayed as one from then on.

A small network's kernels take microseconds each, and a GPU that is handed them one by one waits for the CPU most of the
time. A replay does what the recorded calls did, on what now lies in the same memory; random numbers go on from where
their generators are now. The graph keeps the memory of all that is in between as long as it lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ddpm.errors import WrongInput

WARM = 3  # calls before the recording: compilation, and the choice of algorithms, are none of a graph's business

Work = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Recorded:
    """`work`, recorded after its third call. It must neither wait for the device nor take another way from call to call.

    `random` is a generator that it draws from, beside the device's own; `notify` is told where memory does not suffice.
    A recording serves until another is made in the process, after which its replays were seen to come to other numbers;
    its work is then done as before it. Raises WrongInput where the work cannot be recorded.
    """

    newest: ClassVar[Callable[[], Recorded | None]] = lambda: None

    def __init__(self, work: Work, random: torch.Generator, notify: Callable[[str], None]) -> None:
        self.work, self.random, self.notify = work, random, notify
        self.calls = 0
        self.stream = torch.cuda.Stream(random.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        if Recorded.newest() is not self:
            self.graph = None
        if self.graph is not None:
            self.images.copy_(images)
            self.classes.copy_(classes)
            self.graph.replay()
            return self.loss.clone(), self.norm.clone()
        # In a stream of its own: what is recorded must not know the default one.
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            found = self.work(images, classes)
        torch.cuda.current_stream().wait_stream(self.stream)
        self.calls += 1
        if self.calls == WARM:
            self._record(images, classes)
        return found

    def _record(self, images: Tensor, classes: Tensor) -> None:
        """Nothing is computed here: the memory in which the next calls' work will be done is set aside."""
        self.images, self.classes = images.clone(), classes.clone()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.random)
        before = torch.cuda.current_stream()
        try:
            # Meanwhile other threads may ask for memory: batches are fetched ahead.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.loss, self.norm = self.work(self.images, self.classes)
        except RuntimeError as problem:
            torch.cuda.set_stream(before)
            if not isinstance(problem, torch.OutOfMemoryError) and "out of memory" not in str(problem):
                why = str(problem).partition("\n")[0]
                raise WrongInput(f"compile: a step cannot be recorded as a CUDA graph ({why}); give never") from problem
            self.notify("no memory for a CUDA graph: the GPU is handed its work one kernel at a time")
            return
        self.graph = graph
        Recorded.newest = weakref.ref(self)
