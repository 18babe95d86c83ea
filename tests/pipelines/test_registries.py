"""Whether an image is there: asked of a registry's own protocol, as anybody is."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ddpm.errors import WrongInput
from pipelines import registries
from pipelines.registries import look

DIGEST = "sha256:" + "0" * 64


class Registry(BaseHTTPRequestHandler):
    """Has one image, `team/ddpm` of tag 1 and the digest; what is asked of it first is `needs`."""

    needs = ""  # or "token", "password"

    def do_HEAD(self):
        known = {f"/v2/team/ddpm/manifests/{reference}" for reference in ("1", DIGEST)}
        asked = {
            "token": f'Bearer realm="http://127.0.0.1:{self.server.server_port}/token",service="r"',
            "password": 'Basic realm="r"',
        }
        if self.needs and self.headers.get("Authorization") != "Bearer for-anybody":
            self.send_response(401)
            self.send_header("WWW-Authenticate", asked[self.needs])
        else:
            assert registries.KINDS[0] in self.headers["Accept"]
            self.send_response(200 if self.path in known else 404)
        self.end_headers()

    def do_GET(self):
        assert self.path == "/token?service=r&scope=repository%3Ateam%2Fddpm%3Apull"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"token": "for-anybody"}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(Registry, "needs", "")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("needs", ["", "token"])
def test_one_that_is_there_and_one_that_is_not(registry, monkeypatch, needs):
    monkeypatch.setattr(Registry, "needs", needs)
    assert look(f"{registry}/team/ddpm:1") == look(f"{registry}/team/ddpm@{DIGEST}") == ""
    assert look(f"{registry}/team/ddpm:2@{DIGEST}") == "", "the digest counts"
    with pytest.raises(WrongInput, match=f"IMAGE: {registry} has no team/ddpm 2; push it, or name another"):
        look(f"{registry}/team/ddpm:2")
    with pytest.raises(WrongInput, match="has no team/ddpm latest"):
        look(f"{registry}/team/ddpm")


def test_what_is_not_known_is_said(registry, monkeypatch):
    monkeypatch.setattr(Registry, "needs", "password")
    assert look(f"{registry}/team/ddpm:1") == (
        f"image {registry}/team/ddpm:1: whether it is there is not known; {registry} answers 401 here"
    )
    assert "127.0.0.1:1 does not answer here (" in look("127.0.0.1:1/team/ddpm:1")
    assert look("free-midjourney:0.1.0").startswith(
        "image free-midjourney:0.1.0: it names no registry, so that each node"
    )


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("a/b:1", ("", "a/b", "1")),
        ("docker.io/postgres:15", ("docker.io", "library/postgres", "15")),
        ("docker.io/team/ddpm", ("docker.io", "team/ddpm", "latest")),
        (f"r.example:5000/x/y@{DIGEST}", ("r.example:5000", "x/y", DIGEST)),
        ("localhost/x:2", ("localhost", "x", "2")),
    ],
)
def test_an_image_s_name(image, parts):
    assert registries._parts(image) == parts
