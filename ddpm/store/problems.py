"""What goes wrong with S3: whether to try again, and if not, one line that says what is wrong and what would be right.

A line holds the server's error code and no message of its own: servers quote keys and signatures in those.
"""

from __future__ import annotations

from typing import Any

from ddpm.errors import Outage, WrongInput

AGAIN = frozenset((
    "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests",
    "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "RequestTimeout", "InternalError",
    "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict", "BadDigest", "IncompleteBody",
    "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
    "EntityTooSmall",  # we send no small parts: one was cut on the way
))  # fmt: skip
AGAIN_STATUS = frozenset((408, 429, 500, 502, 503, 504))
NO_ROOM = ("QuotaExceeded", "InsufficientStorage", "InsufficientCapacity", "XMinioStorageFull", "EntityTooLarge")
RIGHT = {
    "NoSuchBucket": "there is no such bucket; create it, or name another one",
    "InvalidBucketName": "that is no bucket's name; write s3://BUCKET/PREFIX",
    "InvalidAccessKeyId": "the endpoint does not know the access key; check AWS_ACCESS_KEY_ID, or the profile",
    "SignatureDoesNotMatch": "the secret key is not the access key's; check AWS_SECRET_ACCESS_KEY, or the profile",
    "InvalidToken": "the session token is not valid; check AWS_SESSION_TOKEN, or log in again",
    "ExpiredToken": "the session has expired; log in again",
    "AccessDenied": "these credentials have no permission for it; ask for it, or use other ones",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_DEFAULT_REGION to it",
    "PermanentRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION to it",
}
BY_STATUS = {401: "AccessDenied", 403: "AccessDenied", 301: "PermanentRedirect"}


class TryAgain(Exception):
    """What a second try may mend. The text goes into the line that is said, as a `kind`, when the last one has failed."""

    def __init__(self, text: str, kind: type[WrongInput | Outage] = Outage) -> None:
        super().__init__(text)
        self.kind = kind


class NoS3(Exception):
    """An answer that S3 does not give: that of another server at the endpoint's address. The text says what is wrong."""


def require_s3_answer(parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """Raise NoS3 for an answer in which nothing stands that S3 always says, as in a web page's. Botocore calls this."""
    if parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 300:
        return
    says = parsed.keys() - {"ResponseMetadata"} if model.name == "ListObjectsV2" else parsed.get("ETag")
    if not says:
        raise NoS3(f"what answers is no S3 server, or a page before one; {THE_ENDPOINT}")


ANSWERS = ("ListObjectsV2", "HeadObject", "GetObject", "PutObject")  # that `require_s3_answer` looks at
THE_ENDPOINT = "set AWS_ENDPOINT_URL to the server's own address (http://HOST:PORT)"


def code_of(problem: Any) -> str:
    """A ClientError's code; for an answer without a body, as to HEAD, the one that its status stands for."""
    code = str(problem.response.get("Error", {}).get("Code", ""))
    status = status_of(problem)
    return BY_STATUS.get(status, code) if code in ("", str(status)) or not code.isalnum() else code


def status_of(problem: Any) -> int:
    return int(problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def may_mend(problem: Exception) -> str:
    """What is to be said of a problem that may pass by itself; empty for one that will not."""
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    if isinstance(problem, TryAgain):
        return str(problem)
    if isinstance(problem, aws.ClientError):
        code = code_of(problem)
        passing = code in AGAIN or status_of(problem) in AGAIN_STATUS
        return f"{code or 'status'} ({status_of(problem)})" if passing and code not in NO_ROOM else ""
    if isinstance(problem, (aws.ReadTimeoutError, aws.ConnectTimeoutError)):
        return "no answer in time"
    if isinstance(problem, aws.EndpointConnectionError):
        return "the endpoint cannot be reached"
    if isinstance(
        problem, (aws.HTTPClientError, aws.IncompleteReadError, aws.ResponseStreamingError, HTTPError, OSError)
    ):
        return "the connection broke off"
    if isinstance(problem, ResponseParserError):
        return "the answer was no S3 answer"
    return ""


def may_be_of_tls(problem: Exception) -> bool:
    """Whether it is what comes of TLS at one end of a connection alone: a connection that breaks, or a bad request."""
    from botocore import exceptions as aws

    if isinstance(problem, aws.ClientError):
        return status_of(problem) == 400 and code_of(problem) in ("", "400")
    nobody = isinstance(problem, (aws.EndpointConnectionError, aws.ConnectTimeoutError))
    return isinstance(problem, (aws.HTTPClientError, aws.ConnectionError)) and not nobody


def has_no_room(problem: Exception) -> bool:
    from botocore.exceptions import ClientError

    return isinstance(problem, ClientError) and (code_of(problem) in NO_ROOM or status_of(problem) == 507)


def kind_of(problem: Exception) -> type[WrongInput | Outage]:
    """Of a problem that no second try would mend: an outage where the same command carries on once it has passed."""
    from botocore import exceptions as aws

    expired = isinstance(problem, (aws.TokenRetrievalError, aws.UnauthorizedSSOTokenError)) or (
        isinstance(problem, aws.ClientError) and code_of(problem) == "ExpiredToken"
    )
    return Outage if expired or has_no_room(problem) else WrongInput


def said(problem: Exception) -> str:
    """What is wrong and what would be right, for a problem that no second try would mend."""
    from botocore import exceptions as aws

    if isinstance(problem, aws.ClientError):
        code = code_of(problem)
        if has_no_room(problem):
            return f"{code}: there is no room; make some, or raise the quota"
        return f"{code}: {RIGHT.get(code, 'check the bucket, the endpoint and the permissions')}"
    if isinstance(problem, (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError)):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(problem, (aws.TokenRetrievalError, aws.UnauthorizedSSOTokenError)):
        return RIGHT["ExpiredToken"]
    if isinstance(problem, aws.ParamValidationError):
        return RIGHT["InvalidBucketName"]
    return f"{type(problem).__name__}; check the endpoint and the credentials"
