"""Errors as problem+json (RFC 9457): what is wrong, in one sentence, and what would be right."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, StarletteHTTPException
from fastapi.responses import Response
from pydantic import BaseModel

from ddpm.errors import WrongInput

log = logging.getLogger("ddpm.serving")


class Problem(Exception):
    """A request that is not answered as it was asked. `again`: in how many seconds it may be asked again."""

    def __init__(
        self, status: int, detail: str, again: float | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
        if again is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(again)))


class ProblemBody(BaseModel):
    """What is wrong, in one sentence (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


def refusal(text: str) -> dict[str, Any]:
    """An answer with a problem, as OpenAPI shows it."""
    return {"model": ProblemBody, "description": text, "content": {"application/problem+json": {}}}


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: refusal("the body is no JSON"),
    401: refusal("no token, or a wrong one"),
    408: refusal("the body did not come"),
    413: refusal("the body is too large"),
    421: refusal("not this server's name"),
    422: refusal("what was asked for will not do"),
    429: refusal("too much is waiting; Retry-After says when to ask again"),
    503: refusal("it took too long, or the server is stopping"),
}
BINARY = "inference-header-content-length"  # of a body that has binary tensors behind its JSON
V2 = "/v2/"  # where a problem's sentence is said as KServe's protocol has it, too
LEFT = 499  # the caller has: nobody reads the answer, and it is counted as this


def as_response(status: int, detail: str, path: str, headers: Mapping[str, str] | None = None) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": "Caller Left" if status == LEFT else HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if path.startswith(V2):
        body["error"] = detail
    return Response(json.dumps(body), status, dict(headers or {}), media_type="application/problem+json")


def one_sentence(errors: Sequence[Mapping[str, Any]], path: str) -> str:
    """The first of pydantic's errors: where, and what would be right."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    if first["type"] == "json_invalid":
        return f"the body is not JSON; send an object, {_as_in(path)}"
    if where == "body":
        return f"the body is no JSON object; send one, with Content-Type: application/json, {_as_in(path)}"
    return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _as_in(path: str) -> str:
    return "as /openapi.json shows it" if path.startswith(V2) else 'as in {"seed": 7}'


def handle_problems(app: FastAPI) -> None:
    """Let the application answer every error so."""

    def problem(request: Request, found: Exception) -> Response:
        assert isinstance(found, Problem)
        return as_response(found.status, found.detail, request.url.path, found.headers)

    def invalid(request: Request, found: Exception) -> Response:
        assert isinstance(found, RequestValidationError)
        says = one_sentence(found.errors(), request.url.path)
        if BINARY in request.headers:
            says = "binary tensors are not spoken here; send the tensors in JSON alone, with binary_data=False"
        return as_response(422, says, request.url.path)

    def wrong(request: Request, found: Exception) -> Response:
        return as_response(422, str(found), request.url.path)

    def http(request: Request, found: Exception) -> Response:
        assert isinstance(found, StarletteHTTPException)
        words = {
            400: f"the body cannot be read as JSON; send an object, {_as_in(request.url.path)}",
            404: "there is nothing at this path; /openapi.json says what there is",
            405: "this path does not take that method",
        }
        says = words.get(found.status_code, str(found.detail))
        return as_response(found.status_code, says, request.url.path, found.headers)

    def bug(request: Request, found: Exception) -> Response:
        log.error("a request failed", exc_info=found)
        return as_response(500, "the server failed at this; its log says why", request.url.path)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(WrongInput, wrong)
    app.add_exception_handler(StarletteHTTPException, http)
    app.add_exception_handler(Exception, bug)
