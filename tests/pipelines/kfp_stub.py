"""A stub of the Kubeflow Pipelines v2beta1 API: the calls that submitting and scheduling make, over a real socket.

Like the server it refuses parameters that the pipeline does not declare, or of another type.

`recorded` are answers that a real server, of KFP 2.17, gave when it was asked for a run (kfp-2.17/, without what nobody
here reads).
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from json_answer import answer

API = "/apis/v2beta1"
CREATED = "2026-01-01T00:00:00Z"
FAULTS = {
    "BROKEN": (503, {"error": "try again"}),
    "EXPIRED": (401, {"error": "who are you?"}),
    "GONE": (404, {"error": "not found"}),
}


def recorded(name):
    """The run as a real server had it."""
    return json.loads((Path(__file__).parent / "kfp-2.17" / f"{name}.json").read_text())


KINDS = {"STRING": (str,), "NUMBER_INTEGER": (int,), "NUMBER_DOUBLE": (int, float), "BOOLEAN": (bool,), "LIST": (list,)}


def mistaken(body):
    """What the server says of a run's or a schedule's parameters; empty where they are those of its pipeline."""
    spec = body["pipeline_spec"].get("pipeline_spec", body["pipeline_spec"])
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, value in body["runtime_config"].get("parameters", {}).items():
        if name not in declared:
            return f"parameter {name} is not required by pipeline"
        kinds = KINDS[declared[name]["parameterType"]]
        if not isinstance(value, kinds) or isinstance(value, bool) != (kinds == (bool,)):
            return f"invalid pipeline job inputs: {name}"
    return ""


class KubeflowStub:
    """Serves until closed.

    `states` are what a run is at each look, the last one for good: a state, a whole answer, or BROKEN (503), EXPIRED (401)
    and GONE (404). A retry that is asked for goes on with `retried`. `on_run` is called with a new run's parameters.
    """

    def __init__(self, states, token="", refuse=None, retried=(), version=None):
        self.states, self.token, self.refuse, self.version = list(states), token, refuse, version
        self.on_run = lambda parameters: None
        self.retried = [list(states) for states in retried]
        self.experiments, self.runs, self.schedules, self.calls, self.looks = [], [], [], [], 0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                stub.answer(self, None)

            def do_POST(self):
                stub.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}"))

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, body):
        path, asked = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        named = [one["stringValue"] for text in asked.get("filter", ()) for one in json.loads(text)["predicates"]]
        self.calls.append(f"{request.command} {path}")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return answer(request, 401, {"error": "who are you?"})
        if path == f"{API}/healthz":
            told = {} if self.version is None else {"commit_sha": "0" * 40, "tag_name": self.version}
            return answer(request, 200, {"multi_user": False, **told})
        if path == f"{API}/experiments" and body is None:
            return answer(
                request, 200, {"experiments": [one for one in self.experiments if one["display_name"] in named]}
            )
        if path == f"{API}/experiments":
            self.experiments.append(
                {**body, "experiment_id": f"experiment-{len(self.experiments) + 1}", "created_at": CREATED}
            )
            return answer(request, 200, self.experiments[-1])
        if path == f"{API}/runs" and body is not None:
            if self.refuse:
                return answer(request, *self.refuse)
            if words := mistaken(body):
                return answer(request, 400, {"message": words})
            self.runs.append({**body, "run_id": "run-1", "created_at": CREATED})
            self.on_run(body["runtime_config"]["parameters"])
            return answer(request, 200, {**self.runs[-1], "state": "PENDING"})
        if path == f"{API}/recurringruns" and body is not None:
            if words := (self.refuse and self.refuse[1]["message"]) or mistaken(body):
                return answer(request, 400, {"message": words})
            made = {**body, "recurring_run_id": f"schedule-{len(self.schedules)}", "created_at": CREATED}
            self.schedules.append(made)
            return answer(request, 200, made)
        if path == f"{API}/recurringruns":
            there = [one for one in self.schedules if [one["experiment_id"]] == asked["experiment_id"]]
            return answer(request, 200, {"recurringRuns": [one for one in there if one["display_name"] in named]})
        if path == f"{API}/runs" and body is None:
            found = self.run("SUCCEEDED")
            return answer(request, 200, {"runs": [found] if found["display_name"] in named else []})
        if path == f"{API}/runs/run-1:retry" and body is not None:
            self.states, self.looks = self.retried.pop(0), 0
            return answer(request, 200, {})
        if path == f"{API}/runs/run-1":
            state = self.states[min(self.looks, len(self.states) - 1)]
            self.looks += 1
            if isinstance(state, str) and state in FAULTS:
                return answer(request, *FAULTS[state])
            return answer(request, 200, self.run(state))
        return answer(request, 404, {"error": f"no {path}"})

    def run(self, state):
        """The run in this state, or as in this whole answer."""
        known = self.runs[0] if self.runs else {"display_name": "r1", "created_at": CREATED}
        whole = state if isinstance(state, dict) else {"state": state}
        given = {
            **known.get("runtime_config", {}).get("parameters", {}),
            **whole.get("runtime_config", {}).get("parameters", {}),
        }
        return {**known, **whole, "run_id": "run-1", "runtime_config": {"parameters": given}}
