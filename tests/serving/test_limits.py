"""Strangers are kept out: tokens, hosts, bodies, and what is no request."""

import hashlib
import socket

import pytest
from malformed import MALFORMED
from sites import until

from ddpm.errors import WrongInput
from ddpm.serving.limits import Tokens
from ddpm.serving.problems import Problem
from ddpm.serving.settings import ServeSettings

TOKEN = "a-long-random-token"
LINE = f"ann sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"


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
