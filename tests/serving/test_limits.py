"""Strangers and floods are kept out: tokens, hosts, bodies, the queue, and callers who leave."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import math
import socket
import threading
import time
import types

import pytest
import torch
from malformed import MALFORMED
from sites import process, until

from ddpm.device import threads_for
from ddpm.errors import WrongInput
from ddpm.registry.sample import surroundings
from ddpm.serving.batching import Full, Job, Queue, TooLong
from ddpm.serving.limits import Tokens
from ddpm.serving.problems import Problem
from ddpm.serving.settings import ServeSettings
from ddpm.serving.shapes import Shape
from ddpm.settings import DrawSettings

TOKEN = "a-long-random-token"
LINE = f"ann sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"
SLOW = {"steps": 50, "sampler": "ancestral"}


def test_pictures_are_for_who_has_a_token(checkpoint, serve, tmp_path):
    (tmp_path / "tokens").write_text(f"# who may ask\n{LINE}\n")
    site = serve(checkpoint, tokens_file=str(tmp_path / "tokens"))
    path = "/v1/images/3.png?steps=2"
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "é"}):
        refused = site.ask(path, **header)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer"), header
        assert refused.headers["content-type"] == "application/problem+json"
    answered = site.ask(path, Authorization=f"Bearer {TOKEN}")
    assert answered.status == 200 and answered.headers["cache-control"].startswith("private")
    assert site.ask("/metrics").status == 401
    assert site.ask("/healthz").status == site.ask("/readyz").status == site.ask("/").status == 200


def test_tokens_come_from_the_environment_too_and_are_kept_as_digests(monkeypatch):
    monkeypatch.setenv("DDPM_SERVE_TOKENS", LINE)
    tokens = Tokens.read(ServeSettings())
    assert tokens.name_of(f"Bearer {TOKEN}") == "ann" and tokens.name_of("Bearer ") is None
    assert TOKEN not in repr(vars(tokens))


def test_a_token_has_so_many_pictures_a_minute(checkpoint, serve, tmp_path):
    (tmp_path / "tokens").write_text(LINE)
    site = serve(checkpoint, tokens_file=str(tmp_path / "tokens"), per_minute=4)
    ask = {"seed": 0, "n": 3, "steps": 1}
    assert site.ask("/v1/images", ask, Authorization=f"Bearer {TOKEN}").status == 200
    again = site.ask("/v1/images", ask, Authorization=f"Bearer {TOKEN}")
    assert again.status == 429 and 1 <= int(again.headers["retry-after"]) <= 60
    more = site.ask("/v1/images", {**ask, "n": 5}, Authorization=f"Bearer {TOKEN}")
    assert more.status == 422 and "4 a minute" in more.json["detail"]


def test_pictures_that_there_is_no_room_for_are_given_back():
    tokens = Tokens(LINE, per_minute=4)
    tokens.spend("ann", 4)
    tokens.give_back("ann", 3)
    tokens.spend("ann", 3)
    with pytest.raises(Problem):
        tokens.spend("ann", 3)


def test_head_is_answered_as_get_is_without_the_body(checkpoint, site):
    for path in ("/", "/healthz", "/v1/images/7.png?steps=1"):
        head, got = site.ask(path, method="HEAD"), site.ask(path)
        assert (head.status, head.body) == (200, b"") and head.headers["content-length"] == str(len(got.body))


def test_a_minutes_pictures_come_back_with_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("ddpm.serving.limits.time.monotonic", lambda: now[0])
    tokens = Tokens(LINE, per_minute=6)
    tokens.spend("ann", 6)
    with pytest.raises(Problem) as refused:
        tokens.spend("ann", 2)
    assert refused.value.headers["Retry-After"] == "20"
    now[0] = 20.0
    tokens.spend("ann", 2)


def test_an_address_that_others_reach_needs_tokens_or_a_word(monkeypatch):
    monkeypatch.delenv("DDPM_SERVE_TOKENS", raising=False)
    with pytest.raises(WrongInput, match="there are no tokens"):
        Tokens.read(ServeSettings(host="0.0.0.0"))
    assert not Tokens.read(ServeSettings(host="0.0.0.0", anyone=True))
    assert ServeSettings().host == "127.0.0.1"


@pytest.mark.parametrize("lines", ["ann secret", "sha256:" + "0" * 64, "ann sha256:" + "0" * 63])
def test_a_line_that_is_no_digest_is_refused_without_showing_it(lines):
    with pytest.raises(WrongInput, match="line 1 will not do") as refused:
        Tokens(lines)
    assert "secret" not in str(refused.value)


def test_only_by_its_own_name(checkpoint, serve, site):
    assert site.ask("/v1/model", Host="evil.example").status == 421
    assert site.ask("/healthz", Host="10.0.0.7:8000").status == 200
    assert site.ask("/v1/model", Host="localhost:1").status == 200
    assert serve(checkpoint, allowed_hosts="pictures.example").ask("/v1/model", Host="pictures.example").status == 200


def test_other_pages_may_ask_only_where_they_are_let(checkpoint, serve, site):
    assert "access-control-allow-origin" not in site.ask("/v1/model", Origin="https://a.example").headers
    open_site = serve(checkpoint, cors_origins="https://a.example")
    let = open_site.ask("/v1/model", Origin="https://a.example").headers
    assert let["access-control-allow-origin"] == "https://a.example"
    refused = open_site.ask("/v1/model", Origin="https://a.example", Host="elsewhere")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (421, "https://a.example")
    assert "access-control-allow-origin" not in open_site.ask("/v1/model", Origin="https://b.example").headers


@pytest.mark.parametrize(("path", "body", "status"), MALFORMED)
def test_what_will_not_do_is_said_in_one_sentence(site, path, body, status):
    found = site.ask(path, body)
    assert found.status == status, found.body
    assert found.headers["content-type"] == "application/problem+json"
    assert found.json["status"] == status and 10 < len(found.json["detail"]) < 300 and "\n" not in found.json["detail"]


def test_a_body_that_is_not_said_to_be_json_is_told_what_to_say(site):
    for body in (b'{"seed": 7}', b""):
        found = site.ask("/v1/images", body, **{"Content-Type": "application/x-www-form-urlencoded"})
        assert found.status == 422 and "with Content-Type: application/json, as in" in found.json["detail"]


@pytest.mark.parametrize("raw", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"a" * 100000 + b"\r\n\r\n",
    b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b" " * 65535 + b"\r\n2\r\n  \r\n0\r\n\r\n",
])  # fmt: skip
def test_bytes_that_are_no_request_get_an_error_and_no_hang(site, raw):
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as line:
        line.sendall(raw)
        answer = line.recv(200)
    assert answer.startswith(b"HTTP/1.1 4"), answer
    assert site.ask("/healthz").status == 200


def test_what_is_counted_does_not_grow_with_what_callers_make_up(site):
    for number in range(5):
        assert site.ask(f"/made-up-{number}", method=f"MADEUP{number}").status == 404
        assert site.ask("/v1/images/1.png", method=f"MADEUP{number}").status == 405
    text = site.ask("/metrics").body.decode()
    assert "MADEUP" not in text and "made-up" not in text and 'method="other"' in text


def test_a_body_that_does_not_come_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr("ddpm.serving.limits.BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as line:
        line.sendall(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        assert line.recv(200).startswith(b"HTTP/1.1 408")


def test_a_head_that_does_not_come_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr("ddpm.serving.connections.HEAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert line.recv(200) == b""


def test_a_seed_is_written_in_digits_and_said_once(site):
    for path, body, says in (
        ("/v1/images/7_0.png", None, "seed: write it in digits, as in 7"),
        ("/v1/images/7.png?guidance=1_0", None, "guidance: write it in digits, as in 1.5"),
        ("/v1/images", b'{"seed": 1, "n": 2, "seed": 3}', "'seed': it is there more than once; say it once"),
    ):
        assert site.ask(path, body).json["detail"] == says
    assert site.ask("/v1/images/007.png?steps=1").body == site.ask("/v1/images/7.png?steps=1").body


def test_an_answer_that_nobody_takes_is_not_kept(site, monkeypatch):
    monkeypatch.setattr("ddpm.serving.connections.TAKE_SECONDS", 0.2)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", site.port))
        line.settimeout(20)

        def is_gone():
            try:
                line.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)  # and nothing is read
            except (ConnectionResetError, BrokenPipeError):
                return True
            return False

        until(is_gone)
    assert site.ask("/healthz").status == 200


def test_parts_of_the_page_are_not_sent(site):
    whole = site.ask("/page.js")
    for part in ("bytes=0-10", "bytes=abc", "bytes=999999999-"):
        assert site.ask("/page.js", Range=part).body == whole.body
    assert whole.headers["content-type"].startswith("text/javascript")


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
    from ddpm.serving.batching import Job, Queue
    from ddpm.serving.shapes import fixed
    from ddpm.serving.versions import Served
    from ddpm.settings import DrawSettings
    from ddpm.training.checkpoint import load_model

    model, steps = load_model(checkpoint), []
    served = Served("m", model, fixed(model, 16), "a drawing", None, "", surroundings(model))
    queue = Queue(100, 60)
    job = Job(served, DrawSettings(sampler="ddim", sampling_steps=50), [1], [None])

    def denoiser(*arguments):
        real = denoisers(*arguments)

        def one(x, sigma):
            steps.append(float(sigma))
            queue.leave(job)
            return real(x, sigma)

        one.diffusion = real.diffusion
        return one

    denoisers = model.denoiser
    object.__setattr__(model, "denoiser", denoiser)
    queue.put(job)
    queue.close()
    assert len(steps) == 1 and not job.done.done()


def test_callers_take_turns_so_that_one_picture_does_not_wait_behind_sixty(checkpoint):
    from ddpm.serving.batching import Job, Queue
    from ddpm.serving.shapes import fixed
    from ddpm.serving.versions import Served
    from ddpm.settings import DrawSettings
    from ddpm.training.checkpoint import load_model

    model = load_model(checkpoint)
    served = Served("m", model, fixed(model, 16), "a drawing", None, "", surroundings(model))
    queue = Queue(1000, 1e9)
    queue.close()  # its thread has ended: what it would take next can be looked at
    few, more = DrawSettings(sampling_steps=2), DrawSettings(sampling_steps=3)
    many, one, other = (Job(served, how, range(n), [None] * n) for how, n in ((few, 60), (few, 1), (more, 1)))
    for job in (many, one, other):
        queue.put(job)
    batches = [queue._next() for _ in range(5)]
    assert [len(places) for places in batches] == [16, 1, 16, 16, 13]
    assert batches[0][1] == (one, 0) and batches[1] == [(other, 0)]


class Paced:
    """A version as the queue sees it: a batch of up to 16 takes a second a step, and nothing is drawn."""

    shapes = (16,)
    model = types.SimpleNamespace(evaluations=lambda drawing: drawing.sampling_steps)

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
    queue.put(one.wants(1, 15), other.wants(1, 2))  # a place in the batch that is next, and the turn after it: 17 s
    queue.put(other.wants(16, 2))  # the last of them in that kind's second turn, 34 s
    with pytest.raises(Full) as refused:
        queue.put(other.wants(64, 10))  # 40 s by itself, and between its batches are those of the others
    assert refused.value.again == 60, "no longer than a request may take, though there are 79 s of work"
    for _ in range(4):
        queue._next()
    queue.put(other.wants(64, 3))  # 57 s, where 45 s of work wait
    queue._ends = time.monotonic() + 55  # a batch under way is waited for too, whoever else waits
    queue._turns.clear()
    with pytest.raises(Full):
        queue.put(one.wants(1, 6))
    queue.put(one.wants(1, 4))


def test_the_end_of_a_batch_that_was_stopped_is_waited_for_by_nobody():
    queue, hog = Queue(1000, 60), Paced()
    job = hog.wants(16, 60)
    hog.model = types.SimpleNamespace(
        evaluations=Paced.model.evaluations, draw_batches=lambda *_: queue.leave(job) or 1 / 0
    )
    queue.put(job)
    queue.close()
    queue.put(Paced().wants(16, 60))
    assert isinstance(job.done.exception(), ZeroDivisionError)


def test_it_draws_with_as_many_threads_as_the_process_had_whoever_is_inside_a_small_network():
    """As the thread that loads the next version is, when the first batch is drawn."""
    found, before, small = [], torch.get_num_threads(), Paced()
    job = small.wants(1, 1)
    small.model = types.SimpleNamespace(
        evaluations=Paced.model.evaluations, draw_batches=lambda *_: found.append(torch.get_num_threads()) or 1 / 0
    )
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
    from ddpm.serving.batching import Full, Job, Queue
    from ddpm.serving.shapes import fixed
    from ddpm.serving.versions import Served
    from ddpm.settings import DrawSettings
    from ddpm.training.checkpoint import load_model

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
