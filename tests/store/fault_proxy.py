"""A proxy between a client and an S3 server that misbehaves as it is told.

Faults are queued; each request that one fits takes it from the queue. What is forwarded keeps its Host header, so that
signatures hold.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes
    span: str = ""  # its Range header


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Fault:
    """What happens to one request whose method and path fit. Only what is given happens."""

    method: str = ""  # any
    path: str = ""  # a pattern to be found in it
    span: str = ""  # the same for the Range header
    before: Callable[[], object] = bool  # done before the request is passed on
    answer: Answer | None = None  # sent instead of asking the server
    lose_answer: bool = False  # the server does what is asked, and its answer never arrives
    change_request: Callable[[bytes], bytes] = bytes
    change_answer: Callable[[bytes], bytes] = bytes
    reset_after: int | None = None  # bytes of the answer's body, and then the connection breaks
    silent: bool = False  # the server does what is asked, and nothing comes until the client gives up

    def fits(self, request: Request) -> bool:
        found = re.search(self.path, request.path) and re.search(self.span, request.span)
        return self.method in ("", request.method) and found is not None


def refusal(status: int, code: str) -> Answer:
    """An S3 error as a server sends it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said by the server</Message></Error>".encode()
    return Answer(status, [("Content-Type", "application/xml")], body)


def flipped(data: bytes) -> bytes:
    """One bit of its middle is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


class FaultProxy:
    """Listens on a port of its own while the context lasts. `faults` is the queue, `requests` what came."""

    def __init__(self, server: str) -> None:
        self.server, self.faults, self.requests = server, [], []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _take(self, request: Request) -> Fault:
        with self._lock:
            self.requests.append(request)
            found = next((fault for fault in self.faults if fault.fits(request)), None)
            if found is None:
                return Fault()
            self.faults.remove(found)
            return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 2**16

            def handle_expect_100(self) -> bool:
                super().handle_expect_100()
                self.wfile.flush()
                return True

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, self.path, body, self.headers.get("Range") or "")
                fault = proxy._take(request)
                fault.before()
                answer = fault.answer or proxy._forward(request, fault.change_request(request.body), dict(self.headers))
                if fault.silent:
                    self.connection.recv(1)  # returns when the client hangs up
                if fault.silent or fault.lose_answer:
                    return self._reset()
                body = fault.change_answer(answer.body)
                self.send_response_only(answer.status)
                for name, value in answer.headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                head = self.command == "HEAD"
                length = next((v for k, v in answer.headers if k.lower() == "content-length"), "0")
                self.send_header("Content-Length", length if head else str(len(body)))
                self.end_headers()
                if not head:
                    self.wfile.write(body[: fault.reset_after])
                if fault.reset_after is not None:
                    self.wfile.flush()
                    self._reset()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def _reset(self) -> None:
                """With SO_LINGER at nought, closing sends RST."""
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

            def finish(self) -> None:
                try:
                    super().finish()
                except (OSError, ValueError):  # the connection was reset on purpose, or the client gave up waiting
                    self.close_connection = True

            def log_message(self, *words: object) -> None:
                """Nothing: what is told of is `requests`."""

        return Handler

    def _forward(self, request: Request, body: bytes, headers: dict[str, str]) -> Answer:
        to = urlsplit(self.server)
        connection = http.client.HTTPConnection(to.hostname, to.port, timeout=30)
        try:
            headers = {k: v for k, v in headers.items() if k.lower() not in ("expect", "connection", "content-length")}
            if body or request.method in ("PUT", "POST"):
                headers["Content-Length"] = str(len(body))
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()
