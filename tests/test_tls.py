"""http:// where TLS is spoken, and https:// where it is not: wrong input at once, and no outage that one would wait for."""

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ddpm.errors import WrongInput
from ddpm.store import S3Store
from ddpm.store.transfer import Wire
from ddpm.tls import mistaken, speaks_tls
from ddpm.tracking import client
from pipelines.server import Unreachable, check_endpoint

POLITE = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


def certificate(folder):
    """A self-signed one, and its key, in a file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "both.pem").write_bytes(private + signed.public_bytes(pem))
    return folder / "both.pem"


@pytest.fixture(scope="module", params=["curt", "polite"])
def tls(request, tmp_path_factory):
    """The address of a server that speaks TLS alone; a polite one says so to whoever does not, as servers in Go do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path_factory.mktemp("tls")))
    door = socket.create_server(("127.0.0.1", 0))

    def answer(line):
        with line:
            line.settimeout(10)
            try:
                if request.param == "polite" and line.recv(1, socket.MSG_PEEK) != b"\x16":
                    line.recv(65536)
                    line.sendall(POLITE)
                else:
                    context.wrap_socket(line, server_side=True).close()
            except OSError:  # what does not speak TLS
                pass

    def work():
        while True:
            try:
                line = door.accept()[0]
            except OSError:  # the door is closed
                return
            threading.Thread(target=answer, args=(line,), daemon=True).start()

    threading.Thread(target=work, daemon=True).start()
    yield f"http://127.0.0.1:{door.getsockname()[1]}"
    door.close()


@pytest.fixture
def plain():
    """The address of a server that does not."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(client, "_answered", set())
    monkeypatch.setattr("ddpm.store.transfer._answered", set())
    monkeypatch.setattr("ddpm.tls.SECONDS", 2.0)
    for name, value in {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def read_s3(address, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    S3Store("s3://bucket/x", Wire(tries=2, first_wait=0.01)).read("y")


def test_tls_is_told_from_what_is_none(tls, plain, monkeypatch):
    assert speaks_tls(tls) and mistaken(tls, "") == "it speaks TLS; write https:// where http:// is"
    monkeypatch.setattr("ddpm.tls.SECONDS", 0.2)
    assert not speaks_tls(f"http://{plain}") and not speaks_tls("http://127.0.0.1:9") and not speaks_tls("http://[x")
    assert mistaken(tls.replace("http:", "https:"), "") == "", "as it should be"


def test_http_where_tls_is_spoken_is_wrong_input(tls, monkeypatch):
    with pytest.raises(WrongInput, match="cannot be used .it speaks TLS; write https:// where http:// is"):
        client.open_client(tls)
    with pytest.raises(WrongInput, match="it speaks TLS; write https:// where http:// is in AWS_ENDPOINT_URL"):
        read_s3(tls, monkeypatch)
    with pytest.raises(WrongInput, match=f"endpoint: {tls}: it speaks TLS; write https://"):
        check_endpoint(tls, "")


def test_https_where_tls_is_not_spoken_is_wrong_input(plain, monkeypatch):
    with pytest.raises(WrongInput, match="it does not speak TLS; write http:// where https:// is in AWS_ENDPOINT_URL"):
        read_s3(f"https://{plain}", monkeypatch)
    with pytest.raises(WrongInput, match="it does not speak TLS; write http:// where https:// is"):
        check_endpoint(f"https://{plain}", "")


def test_nobody_there_is_an_outage_still():
    with pytest.raises(Unreachable, match="no server answers"):
        check_endpoint("http://127.0.0.1:9", "")
