"""A prefix of a bucket, and one request to it: tried again where that may help, or said in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.errors import WrongInput
from ddpm.store.base import Archived, Missing
from ddpm.store.problems import THE_ENDPOINT, NoS3, code_of, kind_of, said
from ddpm.store.transfer import Wire, endpoint_of, open_client, retried

T = TypeVar("T")
GONE = ("NoSuchKey", "404", "NotFound", "NoSuchUpload")
TAKEN = ("PreconditionFailed", "412")


class Bucket:
    """Where a store's objects lie. Credentials and endpoint come from the standard AWS chain."""

    def __init__(self, root: str, wire: Wire | None = None) -> None:
        parts = urlsplit(root)
        if not parts.netloc:
            raise WrongInput(f"'{root}' names no bucket; write s3://BUCKET/PREFIX")
        self.root = root.rstrip("/")
        self.name, self.prefix = parts.netloc, root.removeprefix(f"s3://{parts.netloc}").strip("/")
        self.wire = wire or Wire()
        self.client = open_client(self.wire)

    @property
    def endpoint(self) -> str:
        return endpoint_of(self.client)

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    def name_of(self, key: str) -> str:
        """A key of the store as the bucket has it. Those of other programs may begin with a slash, or hold '..'."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def key_of(self, name: str) -> str:
        return name[len(self.prefix) + 1 :] if self.prefix else name

    def at(self, key: str) -> dict[str, str]:
        """What names an object in a request."""
        return {"Bucket": self.name, "Key": self.name_of(key)}

    def tried(self, verb: str, key: str, work: Callable[[int], T]) -> T:
        """`work(attempt)` with retries; what they do not mend is raised as Missing, Archived, WrongInput or Outage.

        A condition that is not met is the caller's to understand: botocore's error.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        what = f"cannot {verb} {self.uri(key)} at {self.endpoint}"
        try:
            return retried(self.wire, self.endpoint, what, work)
        except ClientError as problem:
            if code_of(problem) in GONE:
                raise Missing(f"there is no object {self.uri(key)}") from None
            if code_of(problem) == "InvalidObjectState":
                raise Archived(f"{self.uri(key)} is archived; restore it first") from None
            if code_of(problem) in TAKEN:
                raise
            raise kind_of(problem)(f"{what}: {said(problem)}") from None
        except NoS3 as problem:
            raise WrongInput(f"{what}: {problem}") from None
        except RecursionError:  # botocore asks for the bucket's region, is redirected, asks for its region …
            raise WrongInput(f"{what}: it sends every request elsewhere (a redirection); {THE_ENDPOINT}") from None
        except BotoCoreError as problem:
            raise kind_of(problem)(f"{what}: {said(problem)}") from None

    def ask(self, verb: str, operation: str, key: str, **arguments: Any) -> Any:
        """One operation on one object."""
        call = getattr(self.client, operation)
        return self.tried(verb, key, lambda _: call(**self.at(key), **arguments))

    def head(self, key: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("read", "head_object", key)
        return answer
