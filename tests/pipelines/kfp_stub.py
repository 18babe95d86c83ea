"""A stub of the Kubeflow Pipelines v2beta1 API: the calls that submitting makes, over a real socket."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

API = "/apis/v2beta1"
CREATED = "2026-01-01T00:00:00Z"


class KubeflowStub:
    """Serves until closed. `states` are what a run's state is at each look, the last one for good."""

    def __init__(self, states, token="", refuse=None):
        self.states, self.token, self.refuse = list(states), token, refuse
        self.experiments, self.runs, self.calls, self.looks = [], [], [], 0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                stub.answer(self, None)

            def do_POST(self):
                stub.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, body):
        path = urlsplit(request.path).path
        self.calls.append(f"{request.command} {path}")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.send(request, 401, {"error": "who are you?"})
        if path == f"{API}/healthz":
            return self.send(request, 200, {"multi_user": False})
        if path == f"{API}/experiments" and body is None:
            return self.send(request, 200, {"experiments": self.experiments})
        if path == f"{API}/experiments":
            self.experiments.append({**body, "experiment_id": "experiment-1", "created_at": CREATED})
            return self.send(request, 200, self.experiments[-1])
        if path == f"{API}/runs" and body is not None:
            if self.refuse:
                return self.send(request, *self.refuse)
            self.runs.append({**body, "run_id": "run-1", "created_at": CREATED})
            return self.send(request, 200, {**self.runs[-1], "state": "PENDING"})
        if path == f"{API}/runs/run-1":
            state = self.states[min(self.looks, len(self.states) - 1)]
            self.looks += 1
            if state == "BROKEN":
                return self.send(request, 503, {"error": "try again"})
            return self.send(request, 200, {**self.runs[0], "state": state})
        return self.send(request, 404, {"error": f"no {path}"})

    @staticmethod
    def send(request, status, facts):
        data = json.dumps(facts).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
