"""A stub of Kubernetes' API over a real socket: objects by their paths, which are valid by Kubernetes' own schemas."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import kubernetes_validate
from json_answer import answer

TOKEN = "a-service-account's-token"
VERSION = "1.34"


def config_map(name, data, namespace="kubeflow"):
    return _object("v1", "ConfigMap", name, namespace, data=data)


def secret(name, data, namespace="kubeflow"):
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return _object("v1", "Secret", name, namespace, type="Opaque", data=coded)


def quota(name, hard, namespace="kubeflow"):
    return _object("v1", "ResourceQuota", name, namespace, spec={"hard": hard})


def api_server(environment, namespace="kubeflow"):
    """Kubeflow Pipelines' own deployment."""
    container = {"name": "ml-pipeline-api-server", "image": "api-server:2.17.0", "env": environment}
    spec = {
        "selector": {"matchLabels": {"app": "ml-pipeline"}},
        "template": {"metadata": {"labels": {"app": "ml-pipeline"}}, "spec": {"containers": [container]}},
    }
    return _object("apps/v1", "Deployment", "ml-pipeline", namespace, spec=spec)


def node(name, gpus=0, labels=None, taints=(), cordoned=False, cpu="15890m", memory="65806864Ki"):
    room = {"cpu": cpu, "memory": memory, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    spec = {"taints": [*taints], **({"unschedulable": True} if cordoned else {})}
    found = _object("v1", "Node", name, "", spec=spec, status={"allocatable": room, "capacity": room})
    found["metadata"]["labels"] = {"kubernetes.io/hostname": name, **(labels or {})}
    return found


def _object(version, kind, name, namespace, **rest):
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where}, **rest}


class KubernetesStub:
    """Serves the objects until closed. Of `forbidden` kinds nobody may read any (403)."""

    def __init__(self, *objects, forbidden=()):
        self.objects = {}
        self.forbidden = {kind.lower() for kind in forbidden}
        self.calls = []
        for one in objects:
            self.add(one)
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                url = urlsplit(self.path)
                stub.calls.append(f"{self.command} {url.path}")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, facts = stub.asked(
                    self.command, url.path, dict(parse_qsl(url.query)), json.loads(body or "{}"),
                    self.headers.get("Authorization"),
                )  # fmt: skip
                answer(self, status, facts)

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, one):
        kubernetes_validate.validate(one, VERSION, strict=True)
        begin = "/api/v1" if one["apiVersion"] == "v1" else f"/apis/{one['apiVersion']}"
        where = f"/namespaces/{one['metadata']['namespace']}" if "namespace" in one["metadata"] else ""
        self.objects[f"{begin}{where}/{one['kind'].lower()}s/{one['metadata']['name']}"] = one

    def asked(self, method, path, query, body, authorization):
        """The answer to a request: here, only what is there is read."""
        return self.answer(path, authorization) if method == "GET" else self.status(405, "MethodNotAllowed")

    def answer(self, path, authorization):
        if authorization != f"Bearer {TOKEN}":
            return self.status(401, "Unauthorized")
        if any(part.removesuffix("s") in self.forbidden for part in path.split("/")):
            return self.status(403, "Forbidden")
        if path in self.objects:
            return 200, self.objects[path]
        if path.endswith(("/nodes", "/resourcequotas")):
            below = [one for key, one in self.objects.items() if key.rpartition("/")[0] == path]
            return 200, {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": below}
        return self.status(404, "NotFound")

    @staticmethod
    def status(code, reason, message=""):
        facts = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
        return code, {**facts, **({"message": message} if message else {})}

    def kubeconfig(self, path, token=TOKEN, namespace=""):
        """A file by which its client finds it."""
        where = {"namespace": namespace} if namespace else {}
        facts = {
            "apiVersion": "v1", "kind": "Config", "current-context": "stub",
            "clusters": [{"name": "stub", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "me", **where}}],
        }  # fmt: skip
        path.write_text(json.dumps(facts))
        return path

    def close(self):
        self.server.shutdown()
        self.server.server_close()
