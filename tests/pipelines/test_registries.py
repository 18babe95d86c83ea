"""Whether an image is there: asked of a registry's own protocol, as anybody is, and by the login that Docker keeps."""

import base64
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from ddpm.errors import WrongInput
from pipelines import logins, registries
from pipelines.registries import look

DIGEST = "sha256:" + "0" * 64
PASSWORD, IDENTITY = "a:very-secret", "a-secret-identity"
ANN = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
SCOPE = {"service": ["r"], "scope": ["repository:team/ddpm:pull"]}


class Registry(BaseHTTPRequestHandler):
    """Has one image, `team/ddpm` of tag 1 and the digest; what is asked of it first is `needs`."""

    needs = (
        ""  # or "token", "login" (a token that is given to ann), "password", "elsewhere" (a token from another place)
    )
    seen = None  # a list: what came along with each request

    def do_HEAD(self):
        known = {f"/v2/team/ddpm/manifests/{reference}" for reference in ("1", DIGEST)}
        said = self.headers.get("Authorization", "")
        self.seen.append(said)
        right = {"": said, "password": f"Basic {ANN}", "token": "Bearer for-anybody"}.get(self.needs, "Bearer for-ann")
        if said == right and self.needs == "moving":
            self.send_response(307)
            self.send_header("Location", "/moved")
        elif said != right:
            realm = "http://r.example:1/token" if self.needs == "elsewhere" else f"http://{self.headers['Host']}/token"
            asks = 'Basic realm="r"' if self.needs == "password" else f'Bearer realm="{realm}",service="r"'
            self.send_response(401)
            self.send_header("WWW-Authenticate", asks)
        else:
            assert registries.KINDS[0] in self.headers["Accept"]
            self.send_response(200 if self.path in known else 404)
        self.end_headers()

    def do_GET(self):
        said = self.headers.get("Authorization", "")
        self.seen.append(said)
        if self.path == "/moved":  # to which urllib goes by GET
            return self.give("anything")
        assert urlsplit(self.path).path == "/token" and parse_qs(urlsplit(self.path).query) == SCOPE
        return self.give("for-ann" if said == f"Basic {ANN}" else "for-anybody" if self.needs == "token" else "")

    def do_POST(self):
        """As a registry's OAuth2: an identity token for one that reads."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        (identity,), (kind,) = asked.pop("refresh_token"), asked.pop("grant_type")
        assert asked == {**SCOPE, "client_id": ["ddpm"]} and kind == "refresh_token"
        self.give("for-ann" if identity == IDENTITY else "", "access_token")

    def give(self, token, name="token"):
        self.send_response(200 if token else 401)
        self.end_headers()
        self.wfile.write(json.dumps({name: token}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def registry(monkeypatch):
    """Its name; `needs` and `seen` are its class's."""
    monkeypatch.setattr(Registry, "needs", "")
    monkeypatch.setattr(Registry, "seen", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def docker(tmp_path, monkeypatch):
    """Writes Docker's configuration, of which there is none at first."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return lambda facts: (tmp_path / "config.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))


@pytest.mark.parametrize("needs", ["", "token"])
def test_one_that_is_there_and_one_that_is_not(registry, monkeypatch, needs):
    monkeypatch.setattr(Registry, "needs", needs)
    assert look(f"{registry}/team/ddpm:1") == look(f"{registry}/team/ddpm@{DIGEST}") == ""
    assert look(f"{registry}/team/ddpm:2@{DIGEST}") == "", "the digest counts"
    with pytest.raises(WrongInput, match=f"IMAGE: {registry} has no team/ddpm 2; push it, or name another"):
        look(f"{registry}/team/ddpm:2")
    with pytest.raises(WrongInput, match="has no team/ddpm latest"):
        look(f"{registry}/team/ddpm")


def test_what_is_not_known_is_said(registry, monkeypatch, tmp_path):
    monkeypatch.setattr(Registry, "needs", "password")
    assert look(f"{registry}/team/ddpm:1") == (
        f"image {registry}/team/ddpm:1: whether it is there is not known; {registry} answers 401 here, and there is no {tmp_path}/config.json with a login for it"
    )
    assert "127.0.0.1:1 does not answer here (" in look("127.0.0.1:1/team/ddpm:1")
    assert look("free-midjourney:0.1.0").startswith(
        "image free-midjourney:0.1.0: it names no registry, so that each node"
    )


def test_what_speaks_no_http_is_not_known(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak():
            caller, _ = server.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=speak, daemon=True).start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        assert f"whether it is there is not known, since {host} does not answer here (" in look(f"{host}/team/ddpm:1")


@pytest.mark.parametrize("needs", ["password", "login"])
@pytest.mark.parametrize(
    "entry", [{"auth": ANN}, {"username": "ann", "password": PASSWORD}, {"identitytoken": IDENTITY, "auth": ANN}]
)
def test_the_login_that_docker_keeps_is_used(registry, docker, monkeypatch, needs, entry):
    monkeypatch.setattr(Registry, "needs", needs)
    docker({"auths": {"other.example": {"auth": "b3RoZXI6cHc="}, f"https://{registry}/v1/": entry}})
    if needs == "password" and "identitytoken" in entry:  # which answers no such question
        assert f"{registry} answers 401 here, and the token of" in look(f"{registry}/team/ddpm:1")
        return
    assert look(f"{registry}/team/ddpm:1") == ""
    with pytest.raises(WrongInput, match="has no team/ddpm 2"):
        look(f"{registry}/team/ddpm:2")


def test_a_login_is_sent_to_its_own_registry_where_that_asks_and_is_never_shown(
    registry, docker, monkeypatch, tmp_path
):
    docker({"auths": {registry: {"auth": ANN}}})
    look(f"{registry}/team/ddpm:1")
    assert Registry.seen == [""], "what anybody may see needs no login"
    monkeypatch.setattr(Registry, "needs", "elsewhere")
    words = look(f"{registry}/team/ddpm:1")
    assert words.endswith(f"answers 401 here, and the login of {tmp_path}/config.json does not change that")
    assert not any(Registry.seen), "by http, to another machine, it would be there for all to read"
    monkeypatch.setattr(Registry, "needs", "moving")
    assert look(f"{registry}/team/ddpm:1") == ""
    assert Registry.seen[-3:] == [f"Basic {ANN}", "Bearer for-ann", ""], (
        "the address that it leads to is another's, maybe"
    )
    for wrong in ("YW5uOndyb25n", f"{ANN}\nX: y", "ann:pä"):
        docker({"auths": {registry: {"auth": wrong}}})
        monkeypatch.setattr(Registry, "needs", "login")
        words = look(f"{registry}/team/ddpm:1")
        assert f"{registry} answers 401 here, and " in words and wrong not in words and ANN not in words
    assert PASSWORD not in repr(registries.login_for(registry)) and ANN not in repr(registries.login_for(registry))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"credsStore": "desktop", "auths": {"REGISTRY": {}}}, "leaves its login to a credential helper, which is not asked"),
        ({"credHelpers": {"REGISTRY": "ecr-login"}}, "leaves its login to a credential helper, which is not asked"),
        ({"credHelpers": {"other.example": "ecr-login"}, "auths": {"other.example": {"auth": ANN}}}, "has no login for it"),
        ({"auths": []}, "has no login for it"),
        ("[]", "has no login for it"),
        ("{", "is no JSON"),
    ],
)  # fmt: skip
def test_why_there_is_no_login_is_said(registry, docker, monkeypatch, tmp_path, facts, said):
    monkeypatch.setattr(Registry, "needs", "login")
    docker((facts if isinstance(facts, str) else json.dumps(facts)).replace("REGISTRY", registry))
    assert look(f"{registry}/team/ddpm:1").endswith(f"answers 401 here, and {tmp_path}/config.json {said}")


def test_a_token_that_is_no_json_of_ours_is_no_token(registry, monkeypatch):
    monkeypatch.setattr(Registry, "needs", "token")
    monkeypatch.setattr(
        Registry,
        "give",
        lambda self, token: (self.send_response(200), self.end_headers(), self.wfile.write(b"[" * 100_000)),
    )
    assert "answers 401 here" in look(f"{registry}/team/ddpm:1")


def test_a_registry_is_told_of_without_what_its_address_holds():
    kept = {"https://ann:secret@reg.example/v2": {"auth": ANN}, "other.example": {"auth": ANN}}
    assert logins.registries_in(json.dumps({"auths": kept})) == ["other.example", "reg.example"]


@pytest.mark.parametrize("name", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_docker_hub_has_several_names(docker, name):
    docker({"auths": {name: {"auth": ANN}}})
    assert registries.login_for("docker.io").basic == ANN


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("a/b:1", ("", "a/b", "1")),
        ("docker.io/postgres:15", ("docker.io", "library/postgres", "15")),
        ("docker.io/team/ddpm", ("docker.io", "team/ddpm", "latest")),
        (f"r.example:5000/x/y@{DIGEST}", ("r.example:5000", "x/y", DIGEST)),
        ("localhost/x:2", ("localhost", "x", "2")),
        ("registry:5000/x", ("registry:5000", "x", "latest")),
    ],
)
def test_an_image_s_name(image, parts):
    assert registries._parts(registries.check_image(image)) == parts
