"""A flood of everything at once, from outside, on a server that is a process of its own."""

import concurrent.futures
import json
import random
import re
import socket

from malformed import MALFORMED
from sites import process, until

LARGE = {"n": 16, "steps": 50, "sampler": "ancestral", "format": "grid"}  # a batch that takes its time
WAITING = 48


def leave(site, body):
    """Ask, and be gone before the answer."""
    body = json.dumps(body).encode()
    head = f"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as line:
        line.sendall(head.encode() + body)


def counted(site):
    """How often each status was answered, by what the server itself says."""
    found = {}
    for status, number in re.findall(
        r'ddpm_requests_total{.*status="(\d+)"} (\d+)', site.ask("/metrics").body.decode()
    ):
        found[int(status)] = found.get(int(status), 0) + int(number)
    return found


def test_a_flood_of_large_small_malformed_and_leaving_callers_is_held_off(checkpoint):
    flags = ["--most-waiting", str(WAITING), "--most-n", "16", "--most-steps", "50", "--follow", "0"]
    with process(checkpoint, *flags) as site, concurrent.futures.ThreadPoolExecutor(48) as callers:
        before, steps = site.ask("/v1/images/7.png?steps=3"), {"steps": 3}
        large = [lambda seed=seed: site.ask("/v1/images", {"seed": seed, **LARGE}) for seed in range(60)]
        small = [lambda seed=seed: site.ask(f"/v1/images/{seed}.png?steps=3") for seed in range(60)]
        leaving = [lambda seed=seed: leave(site, {"seed": seed, **LARGE, **steps}) for seed in range(30)]
        malformed = [lambda case=case: site.ask(*case[:2]) for case in MALFORMED]
        looks = [lambda: site.ask("/readyz") for _ in range(30)]
        everything = large + small + leaving + malformed + looks
        random.Random(0).shuffle(everything)
        found = dict(zip(everything, callers.map(lambda ask: ask(), everything), strict=True))

        statuses = [found[ask].status for ask in large + small]
        assert set(statuses) == {200, 429} and statuses.count(200) >= 3
        full = [answer for answer in found.values() if answer and answer.status == 429]
        assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in full)
        assert {answer.headers["content-type"] for answer in full} == {"application/problem+json"}
        assert {found[ask].status for ask in malformed} <= {400, 404, 405, 413, 422}
        waited = [found[ask].json["waiting"] for ask in looks]
        assert max(waited) <= WAITING

        until(lambda: site.ask("/readyz").json["waiting"] == 0)
        after = site.ask("/v1/images/7.png?steps=3")
        assert (after.status, after.body) == (200, before.body)
        assert not [status for status in counted(site) if status >= 500]
