"""S3 over a wire that fails: what passes is tried again, what was changed on the way is caught, the rest is one line."""

import hashlib
import random
from dataclasses import replace

import pytest
from fault_proxy import Answer, Fault, flipped, refusal

from ddpm.errors import Outage, WrongInput
from ddpm.store import Damaged, S3Store, transfer
from ddpm.store.transfer import Wire
from ddpm.training import checkpoint

PASSING = [
    Fault(answer=refusal(500, "InternalError")),
    Fault(answer=refusal(503, "SlowDown")),
    Fault(answer=refusal(503, "ServiceUnavailable")),
    Fault(answer=refusal(429, "TooManyRequests")),
    Fault(answer=Answer(502, [], b"<html>Bad Gateway</html>")),
    Fault(answer=Answer(504, [], b"")),
    Fault(lose_answer=True),
]
SMALL = random.Random(1).randbytes(5000)
LARGE = random.Random(2).randbytes(11 * 2**20)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["rclone", "moto"])
def faulty(request, bucket, proxies):
    """A store behind a proxy, and the proxy."""
    server = request.getfixturevalue(request.param)
    proxy = proxies(server)
    proxy.faults.clear()
    store = bucket(server, through=proxy.url)
    store.probe()
    return store, proxy


def nothing_left(proxy):
    return not proxy.faults


@pytest.mark.parametrize("number", range(len(PASSING)))
def test_what_passes_by_itself_is_tried_again(faulty, number):
    store, proxy = faulty
    for step in (
        lambda: store.write("x", SMALL),
        lambda: store.read("x") == SMALL,
        lambda: store.exists("x"),
        lambda: [entry.key for entry in store.entries("")] == ["x"],
        lambda: store.renew("x"),
        lambda: store.local("x", sha256(SMALL)).read_bytes() == SMALL,
        lambda: store.delete("x"),
    ):
        proxy.faults[:] = [PASSING[number]]
        assert step() in (True, None)
        assert nothing_left(proxy), "the fault has struck"


def test_an_answer_that_does_not_come_is_asked_for_again(faulty):
    store, proxy = faulty
    store = S3Store(store.root, replace(store.bucket.wire, read_seconds=2.0))
    for step in (lambda: store.write("x", SMALL), lambda: store.read("x") == SMALL):
        proxy.faults[:] = [Fault(silent=True)]
        assert step() in (True, None)
        assert nothing_left(proxy), "the fault has struck"


@pytest.mark.parametrize("number", range(len(PASSING)))
def test_of_a_create_whose_answer_fails_the_writer_still_knows_that_it_won(faulty, number):
    store, proxy = faulty
    fault = PASSING[number]
    proxy.faults[:] = [Fault("PUT", answer=fault.answer, lose_answer=fault.lose_answer)]
    assert store.create("entry", b"mine")
    assert nothing_left(proxy)
    assert not store.create("entry", b"mine") and store.read("entry") == b"mine"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", reset_after=2500),
        Fault("GET", change_answer=flipped),
        Fault("GET", change_answer=lambda body: body[:-100]),
        Fault("GET", change_answer=lambda body: body + b"more"),
    ],
    ids=["reset", "flipped", "shortened", "lengthened"],
)
def test_what_arrives_otherwise_than_it_was_sent_is_fetched_again(faulty, fault, data):
    store, proxy = faulty
    store.write("x", data)
    in_a_range = replace(fault, span="^bytes=0-")
    proxy.faults[:] = [in_a_range if data is LARGE else fault]
    assert store.read("x") == data
    assert nothing_left(proxy)
    proxy.faults[:] = [in_a_range]
    assert store.local("x", sha256(data)).read_bytes() == data
    assert nothing_left(proxy)


@pytest.mark.parametrize(
    ("data", "sent"),
    [(SMALL, "/x"), (LARGE, r"partNumber=1\b"), (LARGE, r"partNumber=3\b")],
    ids=["small", "first part", "last part"],
)
@pytest.mark.parametrize("way", ["write", "create"])
def test_what_is_changed_on_the_way_up_is_sent_again(faulty, way, data, sent):
    store, proxy = faulty
    for change in (flipped, lambda body: body[: len(body) // 2]):
        proxy.faults[:] = [Fault("PUT", sent, change_request=change)]
        assert getattr(store, way)(f"x{change is flipped}", data) in (None, True)
        assert nothing_left(proxy)
        assert store.read(f"x{change is flipped}") == data
    assert not list(store.unfinished())


@pytest.mark.parametrize("way", ["read", "local"])
def test_a_renewal_between_two_ranges_of_a_read_does_no_harm(faulty, way, request):
    """A copy of what went up in parts may have another ETag: ranges by the old one are refused, and begun anew."""
    store, proxy = faulty
    store.write("x", LARGE)
    etag = store.bucket.head("x")["ETag"]
    proxy.faults[:] = [Fault("GET", span="^bytes=10485760-", before=lambda: store.renew("x"))]
    before = len(proxy.requests)
    assert (store.read("x") if way == "read" else store.local("x", sha256(LARGE)).read_bytes()) == LARGE
    assert nothing_left(proxy), "it was renewed meanwhile"
    ranges = [asked for asked in proxy.requests[before:] if asked.span]
    assert len(ranges) == (3 if store.bucket.head("x")["ETag"] == etag else 6)
    assert (len(ranges) == 6) == ("moto" in request.node.name)


@pytest.mark.parametrize("way", ["read", "local"])
def test_what_is_written_between_two_ranges_of_a_read_is_not_mixed_with_what_was_there(faulty, way):
    store, proxy = faulty
    store.write("x", LARGE)
    other = LARGE[::-1]
    proxy.faults[:] = [Fault("GET", span="^bytes=10485760-", before=lambda: store.write("x", other))]
    assert (store.read("x") if way == "read" else store.local("x", sha256(other)).read_bytes()) == other
    assert nothing_left(proxy), "it was written meanwhile"


def test_every_flipped_byte_is_caught(faulty):
    store, proxy = faulty
    data = SMALL[:64]
    store.write("x", data)
    for at in range(len(data)):
        proxy.faults[:] = [
            Fault("GET", change_answer=lambda body, at=at: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        ]
        assert store.read("x") == data
        assert nothing_left(proxy)


def test_what_stays_damaged_is_refused(faulty):
    store, proxy = faulty
    store.write("x", SMALL)
    proxy.faults[:] = [Fault("GET", "x", change_answer=flipped)] * 100
    with pytest.raises(Damaged, match="x at .*damaged"):
        store.read("x")
    proxy.faults[:] = [Fault("GET", "x", change_answer=flipped)] * 100
    with pytest.raises(Damaged, match="damaged"):
        store.local("x", sha256(SMALL))
    proxy.faults.clear()
    assert store.local("x", sha256(SMALL)).read_bytes() == SMALL, "the cache kept nothing of it"


def test_a_damaged_cache_is_mended(faulty):
    store, _ = faulty
    store.write("x", SMALL)
    path = store.local("x", sha256(SMALL))
    path.write_bytes(flipped(SMALL))
    assert store.local("x", sha256(SMALL)).read_bytes() == SMALL


def test_what_does_not_pass_is_said_after_a_few_tries(faulty):
    store, proxy = faulty
    proxy.faults[:] = [Fault(answer=refusal(503, "SlowDown"))] * 50
    with pytest.raises(Outage, match=r"cannot read .*/x at http.*: SlowDown \(503\), 5 times; "):
        store.read("x")
    assert len(proxy.faults) == 45


def test_an_endpoint_that_has_answered_is_waited_for(faulty, monkeypatch):
    """More often than there are tries, for a time one can set; and it is said."""
    store, proxy = faulty
    said = []
    monkeypatch.setattr(transfer, "announce", said.append)
    monkeypatch.setattr(store.bucket, "wire", replace(store.bucket.wire, patience=None))
    monkeypatch.setenv("DDPM_PATIENCE", "60")
    store.write("x", SMALL)
    proxy.faults[:] = [Fault(answer=refusal(503, "SlowDown"))] * 12
    assert store.read("x") == SMALL and not proxy.faults
    assert len(said) == 2 and "SlowDown (503); waiting for up to 60 s" in said[0] and "is back" in said[1]
    monkeypatch.setenv("DDPM_PATIENCE", "0.1")
    proxy.faults[:] = [Fault(answer=refusal(503, "SlowDown"))] * 1000
    with pytest.raises(Outage, match=r"times \(waited 0.1 s; DDPM_PATIENCE says how long\)"):
        store.read("x")


def test_an_endpoint_that_answered_when_the_run_was_configured_is_waited_for(credentials, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(transfer, "_answered", set())
    monkeypatch.setattr(transfer, "announce", lambda text: None)
    store = S3Store("s3://bucket/x", Wire(tries=1, first_wait=0.01, patience=0.05))
    with pytest.raises(Outage, match="cannot be reached, 1 times; check the endpoint"):
        store.read("y")
    store.expect()
    with pytest.raises(Outage, match="waited 0.05 s"):
        store.read("y")


def test_an_outage_is_no_damage(faulty):
    """Whoever passes over what is damaged, or missing, must not take what cannot be reached for it."""
    store, proxy = faulty
    for uri in ("100", "200"):
        store.write(f"{uri}/facts.json", b"{}")
    checkpoint.point(store, "last", "200")
    proxy.faults[:] = [Fault(answer=refusal(503, "SlowDown"))] * 1000
    with pytest.raises(Outage):
        checkpoint.last_undamaged(store)


def test_an_upload_that_failed_is_taken_back(faulty):
    store, proxy = faulty
    proxy.faults[:] = [Fault("PUT", "partNumber=2", answer=refusal(403, "AccessDenied"))]
    with pytest.raises(WrongInput, match="AccessDenied.*permission"):
        store.write("large", LARGE)
    assert not store.exists("large") and not list(store.unfinished())


@pytest.mark.parametrize(
    ("status", "code", "right"),
    [
        (404, "NoSuchBucket", "create it"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", "permission"),
        (400, "ExpiredToken", "log in again"),
        (403, "QuotaExceeded", "no room"),
        (507, "XMinioStorageFull", "no room"),
        (403, "RequestTimeTooSkewed", "clock"),
    ],
)
def test_what_no_second_try_would_mend_is_one_line_at_once(faulty, status, code, right):
    store, proxy = faulty
    for work in (lambda: store.write("x", b"x"), lambda: store.read("x")):
        proxy.faults[:] = [Fault(answer=refusal(status, code))]
        before = len(proxy.requests)
        with pytest.raises(
            Outage if right in ("no room", "log in again") else WrongInput, match=f"{code}: .*{right}"
        ) as said:
            work()
        assert "\n" not in str(said.value) and "said by the server" not in str(said.value)
        assert len(proxy.requests) - before == 1, "no second try"


@pytest.mark.parametrize("work", ["now", "exists", "read", "write", "create", "entries"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, [], b"<html>log in</html>"), "what answers is no S3 server, or a page before one"),
        (Answer(301, [("Location", "https://127.0.0.1:1/b")], b""), "it sends every request elsewhere"),
    ],
    ids=["page", "redirection"],
)
def test_another_server_at_the_endpoints_address_is_one_line(faulty, work, answer, words):
    store, proxy = faulty
    proxy.faults[:] = [Fault(answer=answer) for _ in range(2000)]
    works = {
        "now": store.now, "exists": lambda: store.exists("x"), "read": lambda: store.read("x"),
        "write": lambda: store.write("x", b"x"), "create": lambda: store.create("x", b"x"),
        "entries": lambda: list(store.entries("")),
    }  # fmt: skip
    with pytest.raises(
        WrongInput, match=f"cannot .* at http://.*: {words}.*; set AWS_ENDPOINT_URL to the server's own"
    ):
        works[work]()


def test_wrong_keys_and_missing_buckets_are_told_apart_by_a_real_server(rclone, bucket, monkeypatch):
    store = bucket(rclone)
    with pytest.raises(WrongInput, match="NoSuchBucket: there is no such bucket"):
        S3Store("s3://no-such-bucket/x", store.bucket.wire).probe()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    with pytest.raises(WrongInput, match="SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY") as said:
        S3Store("s3://elsewhere/x", store.bucket.wire).create("y", b"")
    assert "wrong-and-secret" not in str(said.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown-key")
    with pytest.raises(WrongInput, match="InvalidAccessKeyId.*AWS_ACCESS_KEY_ID") as said:
        S3Store("s3://elsewhere/x", store.bucket.wire).probe()
    assert "unknown-key" not in str(said.value)


def test_credentials_come_by_the_standard_chain_only(rclone, bucket, monkeypatch, tmp_path):
    store = bucket(rclone)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(WrongInput, match="no credentials; set AWS_ACCESS_KEY_ID"):
        S3Store(store.root, store.bucket.wire).read("x")
    (tmp_path / "credentials").write_text(
        "[mine]\naws_access_key_id = an-access-key\naws_secret_access_key = a-very-secret-key\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    S3Store(store.root, store.bucket.wire).write("x", b"by profile")
    assert S3Store(store.root, store.bucket.wire).read("x") == b"by profile"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(WrongInput, match="AWS_PROFILE"):
        S3Store(store.root, store.bucket.wire)


def test_no_secret_is_logged_or_said(faulty, caplog):
    store, proxy = faulty
    caplog.set_level("DEBUG")
    texts = []
    for fault in (Fault(answer=refusal(403, "SignatureDoesNotMatch")), Fault(answer=refusal(403, "AccessDenied"))):
        proxy.faults[:] = [fault]
        with pytest.raises(WrongInput) as said:
            store.write("x", b"x")
        texts.append(repr(said.value))
    store.write("x", b"x")
    assert not any("a-very-secret-key" in text for text in [caplog.text, *texts])


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [("http://127.0.0.1:9", Outage), ("nonsense", WrongInput), ("http://user:hunter2@127.0.0.1:9", Outage)],
)
def test_an_endpoint_that_is_not_there_is_one_line(credentials, monkeypatch, endpoint, kind):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(transfer, "_answered", set())
    with pytest.raises(kind, match=r"endpoint|AWS_ENDPOINT_URL") as said:
        S3Store("s3://bucket/x", Wire(tries=2, first_wait=0.01)).read("y")
    assert "hunter2" not in str(said.value)


def test_a_full_cache_is_one_line(faulty, tmp_path, monkeypatch):
    store, _ = faulty
    store.write("x", SMALL)
    (tmp_path / "in-the-way").write_text("")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "in-the-way"))
    with pytest.raises(WrongInput, match="cannot write .*in-the-way"):
        store.local("x", sha256(SMALL))
