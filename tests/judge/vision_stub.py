"""A stub of an OpenAI-compatible vision endpoint over a real socket: it answers, refuses, babbles, stalls and fails."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


class VisionStub:
    """Serves until closed. `script` gives, for a request's number and its picture (uint8 [h,w,3]), what happens:

    a text (the answer), or a dict: status, error, headers, refusal, usage, raw, seconds.
    """

    def __init__(self, script):
        self.script, self.requests, self.headers, self.at = script, [], [], []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                stub.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *arguments):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, body):
        with self.lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(dict(request.headers))
            self.at.append(time.monotonic())
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        url = body["messages"][0]["content"][1]["image_url"]["url"]
        data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
        said = self.script(number, np.array(Image.open(io.BytesIO(data))))
        said = {"text": said} if isinstance(said, str) else said
        time.sleep(said.get("seconds", 0))
        with self.lock:
            self.under_way -= 1
        status = said.get("status", 200)
        if status == 200:
            message = {"role": "assistant", "content": said.get("text"), "refusal": said.get("refusal")}
            usage = said.get("usage", {"prompt_tokens": 100, "completion_tokens": 1})
            out = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        else:
            out = {"error": said.get("error", {"message": "no"})}
        data = said["raw"] if "raw" in said else json.dumps(out).encode()
        try:
            request.send_response(status)
            for name, value in {**said.get("headers", {}), "Content-Length": str(len(data))}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(data)
        except ConnectionError:
            return  # the client has gone: it was meant to
