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


LEFT = 499  # the caller has: nobody reads the answer, and it is counted as this


def as_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {
        "type": "about:blank",
        "title": "Caller Left" if status == LEFT else HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return Response(json.dumps(body), status, dict(headers or {}), media_type="application/problem+json")


def one_sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first of pydantic's errors: where, and what would be right."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    if first["type"] == "json_invalid":
        return 'the body is not JSON; send an object, as in {"seed": 7}'
    return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def handle_problems(app: FastAPI) -> None:
    """Let the application answer every error so."""

    def problem(_: Request, found: Exception) -> Response:
        assert isinstance(found, Problem)
        return as_response(found.status, found.detail, found.headers)

    def invalid(_: Request, found: Exception) -> Response:
        assert isinstance(found, RequestValidationError)
        return as_response(422, one_sentence(found.errors()))

    def wrong(_: Request, found: Exception) -> Response:
        return as_response(422, str(found))

    def http(_: Request, found: Exception) -> Response:
        assert isinstance(found, StarletteHTTPException)
        words = {
            400: 'the body cannot be read as JSON; send an object, as in {"seed": 7}',
            404: "there is nothing at this path; /openapi.json says what there is",
            405: "this path does not take that method",
        }
        return as_response(found.status_code, words.get(found.status_code, str(found.detail)), found.headers)

    def bug(_: Request, found: Exception) -> Response:
        log.error("a request failed", exc_info=found)
        return as_response(500, "the server failed at this; its log says why")

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(WrongInput, wrong)
    app.add_exception_handler(StarletteHTTPException, http)
    app.add_exception_handler(Exception, bug)
