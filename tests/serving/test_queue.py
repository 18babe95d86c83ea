"""The queue: who is let in, in which turns, what a caller that leaves frees, and what a signal lets end."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import math
import socket
import threading
import types

import pytest
import torch
from sites import process, until

from ddpm.device import threads_for
from ddpm.registry.sample import surroundings
from ddpm.serving.batching import Full, Queue, TooLong
from ddpm.serving.jobs import Job
from ddpm.serving.shapes import Shape, fixed
from ddpm.serving.versions import Served
from ddpm.settings import DrawSettings
from ddpm.training.checkpoint import load_model

TOKEN = "a-long-random-token"
LINE = f"ann sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"


def blocked(site):
    """Holds the drawing thread until it is let go: `with blocked(site) as begun`."""
    served = site.server.versions.by_alias["model"]
    real, held, begun = type(served.model).draw_batches, threading.Event(), threading.Event()

    @contextlib.contextmanager
    def holding(monkeypatch):
        def draw_batches(self, *arguments):
            begun.set()
            assert held.wait(60)
            return real(self, *arguments)

        monkeypatch.setattr(type(served.model), "draw_batches", draw_batches)
        try:
            yield begun
        finally:
            held.set()

    return holding


def test_a_full_queue_says_when_to_come_again(checkpoint, serve, monkeypatch):
    site = serve(checkpoint, most_waiting=20)
    answers = []

    def ask(n):
        answers.append(site.ask("/v1/images", {"seed": 0, "n": n, "steps": 1}).status)

    with blocked(site)(monkeypatch) as begun:
        callers = [threading.Thread(target=ask, args=(n,)) for n in (1, 16)]
        callers[0].start()
        assert begun.wait(60)
        callers[1].start()
        until(lambda: site.server.queue.waiting == 16)
        refused = site.ask("/v1/images", {"seed": 0, "n": 5, "steps": 1})
        assert refused.status == 429 and int(refused.headers["retry-after"]) >= 1
    for caller in callers:
        caller.join()
    assert answers == [200, 200]


def test_a_caller_that_leaves_frees_its_place(checkpoint, serve, monkeypatch):
    site = serve(checkpoint)
    with blocked(site)(monkeypatch) as begun:
        first = threading.Thread(target=site.ask, args=("/v1/images/1.png?steps=1",))
        first.start()
        assert begun.wait(60)
        line = socket.create_connection(("127.0.0.1", site.port))
        body = json.dumps({"seed": 0, "n": 40}).encode()
        line.sendall(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))  # fmt: skip
        until(lambda: site.server.queue.waiting == 40)
        line.close()
        until(lambda: site.server.queue.waiting == 0)
    first.join()
    until(lambda: 'status="499"} 1.0' in site.ask("/metrics").body.decode())
    text = site.ask("/metrics").body.decode()
    assert "ddpm_left_total 1.0" in text and 'status="500"' not in text


def test_a_batch_that_nobody_waits_for_any_more_is_stopped(checkpoint):
    model, steps = load_model(checkpoint), []
    served = Served("m", model, fixed(model, 16), "a drawing", None, "", surroundings(model))
    queue = Queue(100, 60)
    job = Job(served, DrawSettings(sampler="ddim", sampling_steps=50), [1], [None])

    def forward(x, *arguments):
        steps.append(len(x))
        queue.leave(job)
        return real(x, *arguments)

    real, model.net.forward = model.net.forward, forward
    queue.put(job)
    queue.close()
    assert len(steps) == 1 and not job.done.done()


def test_callers_take_turns_so_that_one_picture_does_not_wait_behind_sixty(checkpoint):
    model = load_model(checkpoint)
    served = Served("m", model, fixed(model, 16), "a drawing", None, "", surroundings(model))
    queue = queue_that_stands(most_seconds=1e9)
    few, more = DrawSettings(sampling_steps=2), DrawSettings(sampling_steps=3)
    many, one, other = (Job(served, how, range(n), [None] * n) for how, n in ((few, 60), (few, 1), (more, 1)))
    for job in (many, one, other):
        queue.put(job)
    begun = queue._begin(served)
    assert [len(company.places) for company in begun] == [15, 1], "in two ways, in one batch"
    assert begun[0].places[:3] == [(many, 0), (one, 0), (many, 1)] and begun[1].places == [(other, 0)]
    queue._drawn += begun
    assert queue._begin(served) == [] and many.waiting == 46, "there is no place left"
    queue._drawn.pop()
    assert [company.places for company in queue._begin(served)] == [[(many, 14)]]


class Paced:
    """A version as the queue sees it: a batch of up to 16 takes a second a step, and nothing is drawn."""

    shapes = (16,)
    model = types.SimpleNamespace(
        evaluations=lambda drawing: drawing.sampling_steps, settings=types.SimpleNamespace(base_channels=64),
        place=torch.device("cpu"),
    )  # fmt: skip

    def seconds(self, pictures):
        return math.ceil(pictures / 16)

    def wants(self, pictures, steps):
        return Job(self, DrawSettings(sampling_steps=steps), range(pictures), [None] * pictures)


def queue_that_stands(most_waiting=1000, most_seconds=60):
    """Its thread has ended: what is put stays."""
    queue = Queue(most_waiting, most_seconds)
    queue.close()
    return queue


@pytest.mark.parametrize(("pictures", "steps", "takes", "would_do"), [(64, 1000, 4000, 15), (16, 61, 61, 60), (999, 1, 63, 0)])  # fmt: skip
def test_what_alone_takes_longer_than_a_request_may_is_refused_and_told_what_would_do(pictures, steps, takes, would_do):
    queue, one = queue_that_stands(), Paced()
    with pytest.raises(TooLong) as refused:
        queue.put(one.wants(pictures, steps))
    assert (refused.value.seconds, refused.value.steps, queue.waiting) == (takes, would_do, 0)
    if would_do:
        queue.put(one.wants(pictures, would_do))


def test_a_newcomer_is_let_in_by_its_own_wait_and_not_by_what_the_queue_holds():
    queue, one, other = queue_that_stands(), Paced(), Paced()
    queue.put(one.wants(64, 15))  # 60 s
    queue.put(one.wants(1, 15), other.wants(1, 2))  # a place at once, beside two evaluations of the other version: 17 s
    queue.put(other.wants(16, 2))  # the last of them after 4 evaluations of either: 8 s
    with pytest.raises(Full) as refused:
        queue.put(other.wants(64, 10))  # 40 s by itself, but its evaluations are in turns with the others'
    assert refused.value.again == 60, "no longer than a request may take, though there are 79 s of work"
    queue.put(other.wants(64, 3))
    queue._turns.clear()
    queue._drawn = [
        types.SimpleNamespace(version=one, places=[None] * 16, left=55, asks_two=False)
    ]  # no place is free for so long
    with pytest.raises(Full):
        queue.put(one.wants(1, 6))
    queue.put(one.wants(1, 5))
    queue._turns.clear()
    queue._drawn[0].places.pop()
    queue.put(one.wants(1, 60))  # there is one at once


def test_what_has_failed_is_waited_for_by_nobody():
    queue, hog = Queue(1000, 60), Paced()
    job = hog.wants(16, 60)
    hog.model = types.SimpleNamespace(
        evaluations=Paced.model.evaluations, asked_through=lambda through: hog.model,
        draw_batches=lambda *_: queue.leave(job) or 1 / 0,
    )  # fmt: skip
    queue.put(job)
    queue.close()
    queue.put(Paced().wants(16, 60))
    assert isinstance(job.done.exception(), ZeroDivisionError)


def test_it_draws_with_as_many_threads_as_the_process_had_whoever_is_inside_a_small_network():
    """As the thread that loads the next version is, when the first batch is drawn."""
    found, before, small = [], torch.get_num_threads(), Paced()
    job = small.wants(1, 1)
    small.model = types.SimpleNamespace(
        evaluations=Paced.model.evaluations, asked_through=lambda through: small.model,
        draw_batches=lambda *_: found.append(torch.get_num_threads()) or 1 / 0,
    )  # fmt: skip
    torch.set_num_threads(3)
    try:
        queue = Queue(1000, 60)
        until(lambda: queue._changed._waiters)  # its thread has begun, and waits
        with threads_for(8, torch.device("cpu")):
            queue.put(job)
            queue.close()
    finally:
        torch.set_num_threads(before)
    assert found == [3]


def test_a_request_that_would_take_too_long_is_told_in_one_sentence_and_stops_nobody(checkpoint, serve, tmp_path):
    (tmp_path / "tokens").write_text(LINE)
    site = serve(checkpoint, tokens_file=str(tmp_path / "tokens"), per_minute=64)
    [served] = site.server.versions.by_alias.values()
    slow = dataclasses.replace(served, measured=[Shape(16, 1.0, True)])
    site.server.versions.by_alias = {"model": slow}
    inference = {"inputs": [{"name": "seed", "datatype": "INT64", "shape": [64], "data": [*range(64)]}], "parameters": {"steps": 50}}  # fmt: skip
    for path, body in (("/v1/images", {"seed": 0, "n": 64, "steps": 50}), ("/v2/models/model/infer", inference)):
        refused = site.ask(path, body, Authorization=f"Bearer {TOKEN}")
        assert refused.status == 422 and "retry-after" not in refused.headers
        assert refused.json["detail"] == (
            "steps: this takes about 200 s here with nobody before it, and a request has 60 s; ask for fewer pictures, or steps up to 15"
        )
    assert site.ask("/v1/images", {"seed": 0, "n": 64, "steps": 1}, Authorization=f"Bearer {TOKEN}").status == 200


def test_the_jobs_of_one_request_are_taken_together_or_not_at_all(checkpoint):
    """With a canary a request has two: half of it would be drawn for nobody, and the other half refused."""
    model = load_model(checkpoint)
    versions = [Served(name, model, fixed(model, 16), "a drawing", None, "", surroundings(model)) for name in "ab"]

    def request(pictures):
        return [
            Job(version, DrawSettings(sampling_steps=2), range(pictures), [None] * pictures) for version in versions
        ]

    queue = Queue(20, 1e9)
    queue.close()  # its thread has ended: what is put stays
    queue.put(*request(12))  # a first request is taken however large it is
    assert queue.waiting == 24
    with pytest.raises(Full):
        queue.put(*request(1))
    assert queue.waiting == 24
    queue = Queue(20, 1e9)
    queue.close()
    queue.put(request(16)[0])
    with pytest.raises(Full):
        queue.put(*request(3))  # the first of them alone would have had room
    assert queue.waiting == 16


def test_a_failure_in_drawing_is_a_problem_of_that_request_alone(checkpoint, serve, monkeypatch):
    site = serve(checkpoint)
    model = type(site.server.versions.by_alias["model"].model)

    def broken(*_):
        raise RuntimeError("the device fell off")

    with monkeypatch.context() as patched:
        patched.setattr(model, "draw_batches", broken)
        failed = site.ask("/v1/images/1.png?steps=1")
    assert failed.status == 500 and "fell off" not in failed.body.decode()
    assert failed.headers["content-type"] == "application/problem+json"
    assert site.ask("/v1/images/1.png?steps=1").status == 200


def test_what_takes_too_long_is_said_and_its_place_is_free(checkpoint, serve, monkeypatch):
    site = serve(checkpoint, most_seconds=0.2)
    with blocked(site)(monkeypatch):
        late = site.ask("/v1/images/1.png?steps=1")
        assert late.status == 503 and "0.2 s" in late.json["detail"]


def test_a_signal_lets_those_who_wait_have_their_pictures(checkpoint):
    with concurrent.futures.ThreadPoolExecutor() as callers:
        with process(checkpoint) as site:
            waits = callers.submit(site.ask, "/v1/images/1.png?steps=50&sampler=ancestral")
            reached = 'ddpm_version_requests_total{alias="model"'  # the request was counted for a version
            until(lambda: waits.done() or reached in site.ask("/metrics").body.decode())
        assert waits.result().status == 200
