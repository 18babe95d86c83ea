"""One question about one picture to an OpenAI-compatible endpoint, and what can come of it.

The wire is OpenAI's `POST URL/chat/completions`, as vLLM, llama.cpp, Ollama and the hosted services speak it. The key
goes into one header and nowhere else: redirections are not followed, since they would carry it to another host, and
what a server says is quoted without it.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

ANSWER_BYTES = 1 << 20  # more is no answer to this question
REFUSAL = re.compile(
    r"\b(i'?m sorry|i am sorry|i (can ?not|can'?t|am unable|won'?t)|sajn[aá]lom|nem tudok|nem tudom|nem áll módomban)\b"
)
QUOTED = 160  # characters of a server's words


class Unanswered(Exception):
    """The endpoint gave no answer. `kind` is refusals, failures or rate_limited; `wait` is what it asked for, in seconds."""

    def __init__(self, kind: str, words: str, wait: float | None = None) -> None:
        super().__init__(words)
        self.kind, self.wait = kind, wait


class Hopeless(Exception):
    """The endpoint will not answer the next question either: a wrong key, address or model, or no credit."""


@dataclass(frozen=True)
class Reply:
    """What was answered, and the tokens that were counted for it (None where the endpoint does not say)."""

    text: str
    refused: bool
    tokens_in: int | None
    tokens_out: int | None


class Endpoint:
    """Sends questions to `url`, each within `timeout` seconds. Safe to use from several threads."""

    def __init__(self, url: str, model: str, api_key: str, timeout: float, max_tokens: int) -> None:
        self.address = url.rstrip("/") + "/chat/completions"
        self.model, self.timeout = model, timeout
        self._key = api_key
        self._options: dict[str, float] = {"temperature": 0, "max_tokens": max_tokens}
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, question: str, png: bytes) -> Reply:
        """The answer to a question about a picture. Raises Unanswered, after which another try may help, or Hopeless."""
        options = dict(self._options)
        picture = "data:image/png;base64," + base64.b64encode(png).decode()
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}]
        body = {"model": self.model, "messages": [{"role": "user", "content": content}], **options}
        headers = {"Content-Type": "application/json", "User-Agent": "ddpm-judge"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.address, json.dumps(body).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                data = _read(response, time.monotonic() + self.timeout)
        except urllib.error.HTTPError as problem:
            with problem:
                raise self._said(problem, options) from None
        except (OSError, http.client.HTTPException) as problem:  # a timeout is an OSError
            raise Unanswered("failures", f"no answer: {self._without_key(str(problem) or repr(problem))}") from None
        return _reply(data)

    def _said(self, problem: urllib.error.HTTPError, options: dict[str, float]) -> Exception:
        """What an HTTP status other than 200 means."""
        status = problem.code
        try:
            data = problem.read(ANSWER_BYTES)
        except (OSError, http.client.HTTPException):
            data = b""
        error = _error_of(data)
        code, words = str(error.get("code") or ""), str(error.get("message") or "")
        said = f"HTTP {status}" + (f": {self._without_key(words)}" if words and status not in (401, 403) else "")
        if "content_filter" in code or "content_policy" in code:
            return Unanswered("refusals", said)
        if status == 429 and code != "insufficient_quota":
            return Unanswered("rate_limited", said, _retry_after(problem.headers))
        if status in (408, 409, 425) or status >= 500:
            return Unanswered("failures", said, _retry_after(problem.headers))
        if status in (400, 422) and self._does_without(options, f"{error.get('param')} {words}"):
            return Unanswered("failures", said, 0.0)  # the next one is asked otherwise
        if status in (401, 403):
            return Hopeless(f"{said}: the endpoint does not take the key; put its key into $DDPM_JUDGE_KEY")
        if status == 404:
            return Hopeless(f"{said}; check judge_url and judge_model ({self.model})")
        return Hopeless(said)

    def _does_without(self, options: dict[str, float], complaint: str) -> bool:
        """Whether the next request differs in what the endpoint complained of: newer models take neither of these."""
        if "max_tokens" in complaint and "max_tokens" in options:
            changed = {name: value for name, value in options.items() if name != "max_tokens"}
            self._options = {**changed, "max_completion_tokens": options["max_tokens"]}
            return True
        if "temperature" in complaint and "temperature" in options:
            self._options = {name: value for name, value in options.items() if name != "temperature"}
            return True
        return False

    def _without_key(self, words: str) -> str:
        words = " ".join(words.encode("utf-8", "replace").decode().split())  # JSON may hold half a character
        return (words.replace(self._key, "…") if self._key else words)[:QUOTED]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None  # the redirection is then an HTTPError like others


def _read(response: Any, deadline: float) -> bytes:
    """The body, all within the deadline: a socket's own timeout starts anew with every byte."""
    parts, size = [], 0
    while part := response.read1(65536):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError("timed out while the answer came")
        if size > ANSWER_BYTES:
            raise Unanswered("failures", f"the answer is longer than {ANSWER_BYTES} bytes")
    return b"".join(parts)


def _reply(data: bytes) -> Reply:
    try:
        answer = json.loads(data)
        choice = answer["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise Unanswered("failures", "what came is no chat completion") from None
    refused = bool(message.get("refusal")) or choice.get("finish_reason") == "content_filter"
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(text, refused or bool(REFUSAL.search(text.lower().replace("’", "'"))), *tokens)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _error_of(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    error = found.get("error", found) if isinstance(found, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to be left alone: a number, or a date (RFC 9110, 10.2.3)."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    if re.fullmatch("[0-9]+", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
