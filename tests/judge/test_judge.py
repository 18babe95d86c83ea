"""The judge against a local endpoint: what it reports, what it does not, and what it may cost."""

import contextlib
import itertools
import json
import time

import pytest
import torch
from vision_stub import VisionStub

from ddpm.errors import WrongInput
from ddpm.judge import bounds
from ddpm.judge.controls import scrambled
from ddpm.judge.judge import PROMPTS, judge
from ddpm.judge.scores import auc_of, mean_of, told_apart
from ddpm.progress import Quiet
from ddpm.settings import JudgeSettings
from ddpm.store import open_store

KEY = "sk-this-is-secret"
N = 12


def honest(number, picture):
    """Sees green in real pictures, some in generated ones, none elsewhere."""
    return {0: "1", 120: "3", 240: "5"}[int(picture[0, 0, 1])]


def pictures():
    """All distinct: the green says the kind, the red numbers them."""
    made = {}
    for kind, green in (("generated", 120), ("real", 240), ("other", 0)):
        images = torch.zeros(N, 3, 8, 8, dtype=torch.uint8)
        images[:, 1] = green
        images[:, 0] = torch.arange(N, dtype=torch.uint8)[:, None, None]
        made[kind] = images
    return made


@contextlib.contextmanager
def serving(script):
    stub = VisionStub(script)
    try:
        yield stub
    finally:
        stub.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bounds, "BACKOFF", 0.001)


def ask(stub, store, **settings):
    chosen = {
        "judge_url": stub.url, "judge_model": "eye", "judge_subject": "meadows", "judge_per_minute": 1e6, "judge_timeout": 5,
    }  # fmt: skip
    return judge(pictures(), JudgeSettings(**{**chosen, **settings}), KEY, open_store(str(store)), Quiet())


def test_a_judge_that_sees_is_reported_with_its_controls(tmp_path):
    with serving(honest) as stub:
        found = ask(stub, tmp_path)
    assert found["reported"] and found["why"] == ""
    assert (found["score"]["mean"], found["score"]["n"]) == (3, N)
    assert found["score"]["low"] < 3 < found["score"]["high"]
    assert (found["controls"]["real"]["mean"], found["controls"]["other"]["mean"]) == (5, 1)
    assert found["auc"]["value"] == 1 and found["auc"]["passed"]
    assert found["distribution"] == {"generated": [0, 0, N, 0, 0], "real": [0, 0, 0, 0, N], "other": [N, 0, 0, 0, 0]}
    assert found["counted"]["requests"] == found["counted"]["answers"] == 3 * N
    assert found["tokens"] == {"sent": 300 * N, "answered": 3 * N}
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in stub.headers)
    assert KEY not in json.dumps(found)


def test_kinds_are_mixed_and_the_order_belongs_to_the_seed(tmp_path):
    def greens(folder, **settings):
        shown = []
        with serving(lambda number, picture: shown.append(tuple(picture[0, 0])) or honest(number, picture)) as stub:
            ask(stub, tmp_path / folder, judge_concurrency=1, **settings)
        return shown

    first = greens("a")
    assert first == greens("b")
    assert first != greens("c", judge_seed=1)
    changes = sum(one[1] != other[1] for one, other in itertools.pairwise(first))
    assert changes > N  # three blocks would make 2


def test_a_judge_that_does_not_look_is_not_reported(tmp_path):
    with serving(lambda number, picture: "4") as stub:
        found = ask(stub, tmp_path)
    assert not found["reported"] and found["score"] is None
    assert "does not tell real pictures" in found["why"]
    assert "generated" not in found["distribution"]
    assert found["controls"]["real"]["mean"] == found["controls"]["other"]["mean"] == 4
    assert found["auc"]["value"] == 0.5


def test_answers_are_kept_and_only_missing_ones_are_asked(tmp_path):
    with serving(honest) as stub:
        first = ask(stub, tmp_path, judge_requests=20, judge_concurrency=1)
        assert first["counted"]["requests"] == len(stub.requests) == 20
        assert not first["reported"] and "judge_requests: 20 were sent" in first["why"]
        second = ask(stub, tmp_path)
        assert len(stub.requests) == 3 * N
        assert (second["counted"]["kept"], second["counted"]["answers"]) == (20, 3 * N - 20)
        assert second["reported"]
        ask(stub, tmp_path, judge_subject="lawns")
        assert len(stub.requests) == 6 * N  # another question


BABBLE = (
    "", "6", "0", "45", "4.5", "Score: 4", "5/5", "**3**", "four", "3 4", "４", "4\n\nBecause it is green.",
)  # fmt: skip


def test_refusals_and_garbage_are_asked_again_and_counted(tmp_path):
    refusals = ({"refusal": "No."}, "I'm sorry, I can't judge that.", "Sajnálom, ezt nem tudom megítélni.")
    refusals += ({"status": 400, "error": {"code": "content_filter", "message": "filtered"}},)
    replies = [*BABBLE, *refusals]

    def script(number, picture):
        return replies[number] if number < len(replies) else honest(number, picture)

    with serving(script) as stub:
        found = ask(stub, tmp_path, judge_concurrency=1, judge_retries=len(replies))
    assert found["reported"]
    assert (found["counted"]["unreadable"], found["counted"]["refusals"]) == (len(BABBLE), len(refusals))
    assert found["counted"]["given_up"] == 0
    asked = [request["messages"][0]["content"][0]["text"] for request in stub.requests]
    assert asked[0].endswith("nothing else.") and asked[1].endswith(PROMPTS["en"][1])


def test_a_judge_that_will_not_look_at_one_kind_is_not_reported(tmp_path):
    def script(number, picture):
        return honest(number, picture) if picture[0, 0, 1] != 120 or picture[0, 0, 0] < 3 else "Sorry?"

    with serving(script) as stub:
        found = ask(stub, tmp_path, judge_retries=1)
    assert found["score"] is None and "3 generated pictures have an answer, and 10 are needed" in found["why"]
    assert found["counted"]["given_up"] == N - 3
    assert found["counted"]["unreadable"] == 2 * (N - 3)


def test_failures_are_tried_again(tmp_path):
    replies = [
        {"status": 500}, {"status": 503, "headers": {"Retry-After": "0"}}, {"raw": b"<html>"}, {"raw": b'{"choices": []}'},
    ]  # fmt: skip

    def script(number, picture):
        return replies[number] if number < len(replies) else honest(number, picture)

    with serving(script) as stub:
        found = ask(stub, tmp_path, judge_retries=4)
    assert found["reported"] and found["counted"]["failures"] == len(replies)


def test_an_endpoint_that_stalls_is_left(tmp_path):
    with serving(lambda number, picture: {"seconds": 0.4, "text": "3"}) as stub:
        began = time.monotonic()
        found = ask(stub, tmp_path, judge_timeout=0.05, judge_concurrency=1)
    assert time.monotonic() - began < 3
    assert "requests failed in a row" in found["stopped"] and "timed out" in found["stopped"]
    assert not found["reported"] and found["counted"]["requests"] == 8


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, {"message": f"Incorrect API key provided: {KEY}"}, "HTTP 401: the endpoint does not take the key"),
        (404, {"message": "no model eye"}, "check judge_url and judge_model (eye)"),
        (429, {"code": "insufficient_quota", "message": "you owe us"}, "you owe us"),
        (400, {"message": f"I read {KEY} in the header"}, "I read … in the header"),
        (307, {"message": "elsewhere"}, "HTTP 307"),
    ],
)
def test_what_will_not_mend_ends_it_at_once(tmp_path, status, error, says):
    headers = {"Location": "http://127.0.0.1:1/v1"} if status == 307 else {}
    with serving(lambda number, picture: {"status": status, "error": error, "headers": headers}) as stub:
        found = ask(stub, tmp_path, judge_concurrency=1)
    assert len(stub.requests) == 1 and says in found["stopped"]
    assert not found["reported"] and KEY not in json.dumps(found)


def test_retry_after_is_honoured_and_does_not_use_up_a_picture(tmp_path):
    def script(number, picture):
        limited = {"status": 429, "headers": {"Retry-After": "1"}}
        return limited if number == 0 else honest(number, picture)

    with serving(script) as stub:
        found = ask(stub, tmp_path, judge_concurrency=1, judge_retries=0)
    assert stub.at[1] - stub.at[0] >= 1
    assert found["reported"] and found["counted"]["rate_limited"] == 1


def test_a_wait_beyond_its_time_ends_it(tmp_path):
    with serving(lambda number, picture: {"status": 429, "headers": {"Retry-After": "3600"}}) as stub:
        found = ask(stub, tmp_path, judge_seconds=5, judge_concurrency=1)
    assert found["stopped"].startswith("judge_seconds") and len(stub.requests) == 1 and found["seconds"] < 2


def test_rate_and_concurrency_are_bounded(tmp_path):
    def script(number, picture):
        return {"seconds": 0.05, "text": honest(number, picture)}

    with serving(script) as stub:
        ask(stub, tmp_path / "a", judge_concurrency=2)
        assert stub.most_under_way == 2
        stub.at.clear()
        ask(stub, tmp_path / "b", judge_per_minute=1200, judge_concurrency=4, judge_requests=10)
        assert stub.at[9] - stub.at[0] >= 9 * 0.05 - 0.04  # a request takes its time to arrive


def test_the_budget_is_never_exceeded(tmp_path):
    price = {"judge_input_price": 1e4, "judge_output_price": 1e4}  # of 101 tokens: 1.01 a request
    with serving(honest) as stub:
        found = ask(stub, tmp_path, judge_budget=31, judge_concurrency=4, **price)
        assert len(stub.requests) == 30
        assert found["stopped"].startswith("judge_budget") and found["cost"] == pytest.approx(30.3)
        rest = ask(stub, tmp_path, judge_budget=31, **price)
        assert rest["reported"] and rest["cost"] == pytest.approx(6.06)


def test_without_a_count_of_tokens_a_budget_cannot_be_kept(tmp_path):
    with serving(lambda number, picture: {"text": "3", "usage": None}) as stub:
        found = ask(stub, tmp_path, judge_input_price=1)
        assert len(stub.requests) == 1 and "does not count its tokens" in found["stopped"]
        assert ask(stub, tmp_path, judge_requests=5)["cost"] is None


def test_models_that_take_neither_max_tokens_nor_temperature(tmp_path):
    seen = []

    def script(number, picture):
        body = stub.requests[number]
        seen.append({*body} - {"model", "messages"})
        for name in ("max_tokens", "temperature"):
            if name in body:
                return {"status": 400, "error": {"param": name, "message": f"Unsupported parameter: '{name}'"}}
        return honest(number, picture)

    with serving(script) as stub:
        assert ask(stub, tmp_path, judge_concurrency=1)["reported"]
    assert seen[:3] == [
        {"max_tokens", "temperature"},
        {"max_completion_tokens", "temperature"},
        {"max_completion_tokens"},
    ]
    assert seen[-1] == {"max_completion_tokens"}


def test_the_question_in_hungarian(tmp_path):
    with serving(honest) as stub:
        found = ask(stub, tmp_path, judge_language="hu", judge_subject="rét", judge_requests=1)
    text = stub.requests[0]["messages"][0]["content"][0]["text"]
    assert text == found["protocol"]["question"] and "amelyen ez látható: rét?" in text


def test_scrambled_pictures_keep_their_colours_and_lose_their_places():
    images = torch.arange(2 * 3 * 8 * 8).remainder(251).to(torch.uint8).reshape(2, 3, 8, 8)
    found = scrambled(images, seed=0)
    assert found.equal(scrambled(images, seed=0)) and not found.equal(scrambled(images, seed=1))
    assert not found.equal(images)
    assert found.flatten(2).sort(2).values.equal(images.flatten(2).sort(2).values)
    assert scrambled(images[:, :, :7, :7], seed=0).shape == (2, 3, 7, 7)


def test_intervals_and_auc_mean_what_they_say():
    sure = mean_of([5] * 10)
    assert sure["mean"] == sure["high"] == 5 and sure["low"] < 4.7
    assert mean_of([5] * 100)["low"] > sure["low"]
    assert mean_of([]) is None
    assert told_apart([3, 3, 4], [1, 2, 2])["value"] == 1 and told_apart([2, 2], [2, 2])["value"] == 0.5
    assert auc_of(torch.tensor([1, 3]).numpy(), torch.tensor([2, 3]).numpy()) == 3 / 8
    assert not told_apart([2, 3, 4] * 5, [2, 3, 3] * 5)["passed"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("judge_url", "https://user:pw@host/v1", "no user, password or query"), ("judge_url", "https://host/v1?key=x", "DDPM_JUDGE_KEY"),
        ("judge_url", "host/v1", "https://host/v1"), ("judge_model", "", "a model of the endpoint"), ("judge_subject", " ", "what the data set"),
        ("judge_language", "de", "one of en, hu"), ("judge_n", 9, "from 10 to"), ("judge_budget", 0, "above 0"), ("judge_concurrency", 99, "from 1 to 16"),
        ("judge_per_minute", "inf", "above 0"), ("judge_input_price", -1, "0 (free"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(name, value, says):
    good = {"judge_url": "https://host/v1", "judge_model": "eye", "judge_subject": "meadows"}
    with pytest.raises(WrongInput) as problem:
        JudgeSettings(**{**good, name: value})
    assert says in str(problem.value) and "pw" not in str(problem.value).replace("password", "")


def test_by_hand_on_a_folder_of_pictures(tmp_path, monkeypatch, capsys):
    import numpy as np
    from PIL import Image

    from ddpm.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_JUDGE_KEY", KEY)
    assert main("ingest digits --name digits --image-size 8 --store store --json".split()) == 0
    uri = json.loads(capsys.readouterr().out)["uri"]
    (tmp_path / "drawn").mkdir()
    for number in range(12):
        grey = np.full((8, 8, 3), 255, dtype=np.uint8)
        grey[number % 8, number // 8] = 100
        Image.fromarray(grey).save(tmp_path / "drawn" / f"{number:04d}.png")
    words = f"judge --generated drawn --dataset {uri} --preset digits --store store --judge-n 12 --judge-model eye --judge-per-minute 1e6 --json"
    assert main(words.split()) == 2
    assert "judge_url: missing" in capsys.readouterr().err
    with serving(lambda number, picture: "3") as stub:
        assert main([*words.split(), "--judge-url", stub.url]) == 3
    found = capsys.readouterr()
    verdict = json.loads(found.out)
    assert "no score: the judge does not tell real pictures" in found.err
    assert verdict["pictures"] == {"generated": 12, "real": 12, "other": 12}
    assert (
        verdict["protocol"]["real"].startswith("held out") and "handwritten digits" in verdict["protocol"]["question"]
    )
    assert KEY not in found.out + found.err
    kept = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*.json"))
    assert KEY.encode() not in kept


def test_a_key_with_an_end_of_line_is_taken_and_one_that_no_header_takes_is_not_told(monkeypatch):
    from ddpm.judge.controls import _key

    monkeypatch.setenv("DDPM_JUDGE_KEY", "sekrit\n")
    assert _key() == "sekrit"
    for wrong in ("sek\nrit", "sekrität"):
        monkeypatch.setenv("DDPM_JUDGE_KEY", wrong)
        with pytest.raises(WrongInput, match="no HTTP header takes") as problem:
            _key()
        assert wrong[:3] not in str(problem.value)


@pytest.mark.parametrize("text", ["\u00b2", "soon", ""])
def test_waits_that_cannot_be_read_are_none(text):
    from ddpm.judge.endpoint import _retry_after

    assert _retry_after({"Retry-After": text}) is None


@pytest.mark.parametrize(
    "said",
    [
        {"status": 400, "error": {"message": "bad \ud800"}},
        {"raw": b"[" * 200_000},
        {"status": 500, "raw": b"[" * 200_000},
    ],
)
def test_nothing_that_an_endpoint_says_ends_in_a_traceback(tmp_path, said):
    with serving(lambda number, picture: dict(said)) as stub:
        verdict = ask(stub, open_store(str(tmp_path)), judge_retries=1)
    assert not verdict["reported"]
    json.dumps(verdict).encode()
    verdict["why"].encode()
