"""Who comes while others are drawn joins them at the next evaluation of the network, and changes no picture of theirs."""

import dataclasses
import gc
import threading
import types
import weakref

import pytest
import torch
from sites import train

from ddpm.model import sampling
from ddpm.model.sampling import Between, Sampler
from ddpm.registry.sample import surroundings
from ddpm.serving.batching import Queue
from ddpm.serving.jobs import Job, seconds
from ddpm.serving.shapes import fixed
from ddpm.serving.versions import Served
from ddpm.settings import DrawSettings
from ddpm.training.checkpoint import load_model

PLAIN = DrawSettings(sampler="ddim", sampling_steps=10)


def served(model):
    return Served("m", model, fixed(model, 16), "a drawing", None, "", surroundings(model))


class Stepwise:
    """Lets the queue evaluate a model's networks so often, and no more: `let(3)`."""

    def __init__(self, model):
        self.permits, self.asked = threading.Semaphore(0), threading.Semaphore(0)
        self.calls = []  # of each: its rows, and at how many noise levels they are
        for one in (model, model.guide) if model.guide else (model,):
            one.net.forward = self.paced(one.net.forward)

    def paced(self, real):
        def forward(x, t, labels=None):
            self.asked.release()
            assert self.permits.acquire(timeout=60)
            self.calls.append((len(x), len(set(t.tolist()))))
            return real(x, t, labels)

        return forward

    def let(self, times):
        for _ in range(times):
            self.permits.release()
        for _ in range(times):
            assert self.asked.acquire(timeout=60)

    def let_all(self):
        self.permits.release(10_000)


@pytest.mark.parametrize("objective", ["epsilon", "edm"])
def test_who_comes_while_a_batch_is_under_way_joins_at_its_next_step_and_has_the_same_bytes(
    digits, tmp_path, objective
):
    """In other numbers of steps, by other samplers, of other classes, guided, watched, or between two seeds."""
    model = load_model(train(tmp_path, digits, 0, objective=objective, classes=10))
    ways = [
        (DrawSettings(sampler="ddim", sampling_steps=9), [1, 2, 3], [0, 1, None]),
        (DrawSettings(sampler="dpm-solver++", sampling_steps=5), [4], [5]),
        (DrawSettings(sampler="heun", sampling_steps=4, churn=2.0), [5, Between(6, 7, 0.3)], [None, 3]),
        (DrawSettings(sampler="ancestral", sampling_steps=7, guidance=2.0), [8], [9]),
        (DrawSettings(sampler="ddim", sampling_steps=9), list(range(20, 60)), [None] * 40),
    ]
    alone = [model.draw(seeds, dataclasses.replace(how, sample_batch=16), labels) for how, seeds, labels in ways]
    version, queue = served(model), Queue(1000, 1e9)
    jobs = [Job(version, how, seeds, labels, 3) for how, seeds, labels in ways]
    paced = Stepwise(model)
    for job in jobs:
        queue.put(job)
        paced.let(2)
    paced.let_all()
    queue.close()
    for job, pictures in zip(jobs, alone, strict=True):
        drawn = job.done.result(0)
        assert all(torch.equal(strip[-1], picture) for strip, picture in zip(drawn, pictures, strict=True))
    assert {rows for rows, _ in paced.calls} == {16}, "the shape is fixed"
    assert max(levels for _, levels in paced.calls) >= 4, "pictures at four noise levels shared an evaluation"


@pytest.mark.parametrize("led_by", ["its classes", "another model"])
@pytest.mark.parametrize("later", [1, 2, 3, 4])
def test_guided_pictures_share_evaluations_whenever_they_began(digits, checkpoints, tmp_path, led_by, later):
    """Each step asks twice: those who join amid a step come to ask for the same half."""
    if led_by == "its classes":
        model = load_model(train(tmp_path, digits, 0, classes=10))
    else:
        model = load_model(checkpoints[0]).guided_by(load_model(checkpoints[1]))
    guided = dataclasses.replace(PLAIN, guidance=2.0)
    alone = model.draw(range(16), dataclasses.replace(guided, sample_batch=16))
    version, queue = served(model), Queue(1000, 1e9)
    jobs = [Job(version, guided, seeds, [None] * 8) for seeds in (range(8), range(8, 16))]
    paced = Stepwise(model)
    queue.put(jobs[0])
    paced.let(later)
    queue.put(jobs[1])
    paced.let_all()
    queue.close()
    assert torch.equal(torch.stack([picture for job in jobs for picture in job.done.result(0)]), alone)
    assert len(paced.calls) <= 20 + later + 2, "20 alone, and what the second needs beyond them"


def test_who_is_led_by_another_model_and_who_is_not_wait_for_each_other_no_longer_than_was_said(checkpoints):
    model = load_model(checkpoints[0]).guided_by(load_model(checkpoints[1]))
    version, queue = served(model), Queue(1000, 1e9)
    measured = dataclasses.replace(version, measured=[dataclasses.replace(version.measured[0], seconds=1.0)])
    for one in (version, measured):
        jobs = [Job(one, dataclasses.replace(PLAIN, guidance=w), range(3), [None] * 3) for w in (1.0, 2.0)]
        if one is measured:
            assert seconds([], jobs[:1], jobs[1:]) == 20.0 and seconds([], jobs[1:], jobs[:1]) == 20.0
            assert seconds([], [], jobs[:1]) == 10.0
        else:
            paced = Stepwise(model)
            queue.put(*jobs)
            paced.let_all()
            queue.close()
            assert len(paced.calls) == 20 and all(len(job.done.result(0)) == 3 for job in jobs)


class Shapes:
    """A version with a few shapes."""

    shapes = (1, 16, 64)
    model = types.SimpleNamespace(evaluations=lambda drawing: drawing.sampling_steps)

    def seconds(self, pictures):
        full, rest = divmod(pictures, 64)
        return 0.5 * full + (0.0 if not rest else 0.02 if rest == 1 else 0.16 if rest <= 16 else 0.5)

    def wants(self, pictures, steps):
        return Job(self, DrawSettings(sampling_steps=steps), range(pictures), [None] * pictures)


def test_a_batch_that_drains_is_counted_in_smaller_shapes():
    version = Shapes()
    assert seconds([], [], [version.wants(65, 50)]) == pytest.approx(50 * 0.5 + 50 * 0.02)
    assert seconds([], [], [version.wants(70, 50)]) == pytest.approx(50 * 0.5 + 50 * 0.16)
    forty = types.SimpleNamespace(version=version, places=[None] * 40, left=10, asks_two=False)
    assert seconds([forty], [], [version.wants(1, 1000)]) == pytest.approx(10 * 0.5 + 990 * 0.02)
    assert seconds([forty], [], []) == pytest.approx(10 * 0.5)


@pytest.fixture
def sampler():
    """Registers a sampler, until the test ends."""

    def known(solve):
        sampling.register("odd", Sampler(solve))
        return dataclasses.replace(PLAIN, sampler="odd")

    yield known
    del sampling.SAMPLERS["odd"]
    sampling.settings.SAMPLERS.remove("odd")


def too_few(denoise, x, sigmas, draw, watch=None):
    return denoise(x, sigmas[0])[:0]


def of_another_size(denoise, x, sigmas, draw, watch=None):
    watch(x[:, :, :4], sigmas[0])
    watch(x, sigmas[1])
    return denoise(x, sigmas[0])


def smaller(denoise, x, sigmas, draw, watch=None):
    return denoise(x[:, :, :3, :3], sigmas[0])


def none_left(denoise, x, sigmas, draw, watch=None):
    return torch.cat([x[1:], denoise(x[:0], sigmas[0])])


def raises(denoise, x, sigmas, draw, watch=None):
    raise LookupError("no such thing")


@pytest.mark.parametrize("solve", [too_few, of_another_size, smaller, none_left, raises])
def test_a_sampler_that_fails_fails_those_who_asked_for_it_alone(checkpoint, sampler, solve):
    model = load_model(checkpoint)
    version, queue, paced = served(model), Queue(1000, 1e9), Stepwise(model)
    bad = Job(version, sampler(solve), [0], [None], 2)
    good = [Job(version, PLAIN, range(3), [None] * 3) for _ in range(2)]
    queue.put(good[0])
    paced.let(2)
    queue.put(bad)
    paced.let_all()
    good[0].done.result(60)
    queue.put(good[1])
    queue.close()
    assert bad.done.exception(0) is not None
    assert torch.equal(torch.stack(good[0].done.result(0)), torch.stack(good[1].done.result(0)))


def test_a_sampler_may_ask_for_more_at_once_than_the_batch_has_room_for(checkpoint, sampler):
    def thrice(denoise, x, sigmas, draw, watch=None):
        return denoise(torch.cat([x, x + 1, x]), sigmas[0])[: len(x)]

    model, how = load_model(checkpoint), sampler(thrice)
    version, queue = served(model), Queue(1000, 1e9)
    jobs = [Job(version, how, range(n), [None] * n) for n in (16, 5)]
    queue.put(*jobs)
    queue.close()
    whole, part = (torch.stack(job.done.result(0)) for job in jobs)
    assert torch.equal(whole[:5], part)


def test_where_the_system_has_no_more_threads_a_request_fails_and_the_next_is_drawn(checkpoint, monkeypatch):
    version, queue = served(load_model(checkpoint)), Queue(1000, 1e9)
    failed, drawn = (Job(version, PLAIN, [0], [None]) for _ in range(2))

    def start(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        queue.put(failed)
        assert "new thread" in str(failed.done.exception(60))
    queue.put(drawn)
    queue.close()
    assert len(drawn.done.result(0)) == 1


def test_what_cannot_be_counted_is_drawn_all_the_same(checkpoint, caplog):
    def broken(*_):
        raise ValueError("no such label")

    queue = Queue(1000, 1e9, evaluated=broken, drew=broken)
    jobs = [Job(served(load_model(checkpoint)), PLAIN, [seed], [None]) for seed in (0, 1)]
    queue.put(*jobs)
    queue.close()
    assert all(len(job.done.result(0)) == 1 for job in jobs)
    assert "could not be counted" in caplog.text and "no such label" in caplog.text


def test_a_picture_is_counted_before_it_is_handed_over(checkpoint):
    """Whoever has it finds it among the figures."""
    counted = []
    job = Job(served(load_model(checkpoint)), PLAIN, [0, 1], [None] * 2)
    queue = Queue(1000, 1e9, drew=lambda version, pictures: counted.append((pictures, job.done.done())))
    queue.put(job)
    queue.close()
    assert len(job.done.result(0)) == 2 and counted == [(2, False)]


def test_what_is_drawn_is_forgotten_without_the_collector_of_cycles(checkpoint):
    version, queue, kept = served(load_model(checkpoint)), Queue(1000, 1e9), []
    begin = queue._begin
    queue._begin = lambda version: [kept.append(weakref.ref(one)) or one for one in begin(version)]
    gc.disable()
    try:
        queue.put(Job(version, PLAIN, range(3), [None] * 3))
        queue.close()
        assert [one() for one in kept] == [None]
    finally:
        gc.enable()
