"""A step's recording, with a stand-in for what CUDA gives: its graph does the recorded work again on the same tensors."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from ddpm.errors import WrongInput
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.recorded import WARM, Recorded
from ddpm.training.trainer import Trainer
from ddpm.training.world import World


class Graph:
    """Takes note of the generators it is told of. It is recorded by `graph`, below."""

    def __init__(self):
        self.generators = []

    def register_generator_state(self, generator):
        self.generators.append(generator)


class Stream:
    def __init__(self, *_):
        pass

    def wait_stream(self, _):
        pass


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream, capture_error_mode: nullcontext())
    monkeypatch.setattr(Recorded, "newest", lambda: None)


class Work:
    """The sum of what it is given, and how many there were; counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images, classes):
        self.calls += 1
        return images.sum(), classes.sum()


def recorded(work, told=None):
    made = Recorded(work, torch.Generator(), (told if told is not None else []).append)

    def replay():
        """As a graph: from the memory of the inputs into that of the outputs."""
        loss, norm = work(made.images, made.classes)
        made.loss.copy_(loss)
        made.norm.copy_(norm)

    Graph.replay = lambda self: replay()
    return made


def given(number):
    return torch.full((2, 3), float(number)), torch.tensor([number, number])


def test_what_is_given_later_goes_through_the_recording(cuda):
    work = Work()
    made = recorded(work)
    found = [made(*given(number)) for number in range(WARM + 3)]
    assert [(float(loss), int(norm)) for loss, norm in found] == [(6.0 * n, 2 * n) for n in range(WARM + 3)]
    assert made.graph.generators == [made.random]
    assert work.calls == WARM + 1 + 3, "one call was recorded"


def test_another_recording_ends_its_use(cuda):
    first, second = recorded(Work()), recorded(Work())
    for number in range(WARM):
        second(*given(number))
    assert Recorded.newest() is second
    for number in range(WARM):
        first(*given(number))
    assert Recorded.newest() is first
    assert float(second(*given(5))[0]) == 30
    assert second.graph is None, "its memory is free"


def test_no_memory_for_it_is_said_and_the_training_goes_on(cuda, monkeypatch):
    @contextmanager
    def full(graph, stream, capture_error_mode):
        raise torch.OutOfMemoryError
        yield

    monkeypatch.setattr(torch.cuda, "graph", full)
    told, work = [], Work()
    made = recorded(work, told)
    assert [float(made(*given(number))[0]) for number in range(WARM + 2)] == [0.0, 6.0, 12.0, 18.0, 24.0]
    assert told == ["no memory for a CUDA graph: the GPU is handed its work one kernel at a time"]


def test_what_cannot_be_recorded_is_one_line(cuda, monkeypatch):
    @contextmanager
    def refused(graph, stream, capture_error_mode):
        raise RuntimeError("operation not permitted when stream is capturing\nand more of it")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refused)
    made = recorded(Work())
    with pytest.raises(WrongInput, match=r"^compile: a step .* \(operation not .* is capturing\); give never$"):
        for number in range(WARM):
            made(*given(number))


def test_a_look_without_memory_is_taken_without_the_recording(digits, tmp_path, monkeypatch):
    settings = TrainSettings(epochs=1, batch_size=64)
    trainer = Trainer(
        ModelSettings(channel_mults="1", base_channels=8, blocks=1), settings, digits, str(tmp_path), World(torch.device("cpu"))
    )  # fmt: skip
    looked = []

    def look(observer, step, averaged):
        if trainer.work != trainer._work:
            raise torch.OutOfMemoryError
        looked.append(observer)
        return True

    monkeypatch.setattr(trainer.looks, "take", look)
    trainer.work = lambda images, classes: None
    assert trainer._look("me") and looked == ["me"]
    assert trainer.notices == ["memory ran out at a look: the GPU is handed its work one kernel at a time from now on"]

    def full(*told):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(trainer.looks, "take", full)
    with pytest.raises(torch.OutOfMemoryError):
        trainer._look("me")
