"""Passwords in URLs. No place is kept with one, and none is shown: a run's places stand in its plan, in MLflow and in its log.

What needs a password takes it from the environment, which nobody records: `instead_of` says which variables.
"""

from __future__ import annotations

import re

# A password begins at the colon after the user, and may hold anything, also @ and /: it ends at the last @ of the word.
# Of a server's address, digits up to a slash are a port.
_PASSWORD = re.compile(
    r"(?P<begin>(?:(?i:https?)://[^\s:/?#@\[\]]*(?=:(?!\d{1,5}(?:[/?#\s]|$)))|(?!(?i:https?):)\b[A-Za-z][A-Za-z0-9+.-]*://[^\s:/?#@\[\]]*(?=:)|"
    # and what was meant for a URL, with one slash or none behind its scheme
    r"\b(?:[A-Za-z][A-Za-z0-9+.-]*:/|(?i:postgres(?:ql)?|mysql|mariadb|mssql|oracle|https?|s3)(?:\+[a-z0-9]+)?:)(?!/)[^\s:/?#@\[\]]*(?=:(?!\d{1,5}(?:[/?#\s]|$))))):\S*@"
)
_TOKEN = re.compile(r"(?P<begin>(?i:https?)://)[^\s:/?#@]+@")  # http has no use for a user but to let somebody in
_QUERY = re.compile(
    r"(?P<begin>(?:[?&#;](?:[a-z_-]*(?:pass_?word|passwd|pwd|pass|token|secret|signature|credential|(?:api|secret|access|private|subscription)[_-]?key)|auth|sig|hmac|jwt|key|odbc_connect)|\bpassword)=)[^&\s'\"]+",
    re.IGNORECASE,
)
_DATABASES = ("postgresql", "mysql", "mariadb", "mssql", "oracle")


def masked(text: str) -> str:
    """The text with every password of a URL in it replaced by an ellipsis."""
    text = _PASSWORD.sub(r"\g<begin>:…@", text)
    text = _TOKEN.sub(r"\g<begin>…@", text)
    return _QUERY.sub(r"\g<begin>…", text)


def holds_password(url: str) -> bool:
    """Whether whoever reads this URL could let himself in by it."""
    whole = _whole(url)
    return masked(whole) != whole and ("://" in whole or _PASSWORD.search(whole) is not None)


def masked_url(url: str) -> str:
    """The same of one URL, in whose password a space ends nothing."""
    return masked(_whole(url)) if holds_password(url) else url


def _whole(url: str) -> str:
    return re.sub(r"\s", "_", url)


def without_password(url: str) -> str:
    """The URL as it is to be kept; a user stays where a database needs one."""
    if not holds_password(url):
        return url
    url = _whole(url)
    url = _PASSWORD.sub(r"\g<begin>@", url)
    url = _TOKEN.sub(r"\g<begin>", url.replace("://@", "://"))
    return re.sub(r"[?&#;]$", "", re.sub(r"([?&#;])&+", r"\1", _QUERY.sub(lambda found: found["begin"][0], url)))


def instead_of(name: str, url: str) -> str:
    """Where the password of such a URL belongs, in words; `name` is the setting that was given it."""
    scheme = url.partition("://")[0].lower()
    if scheme.startswith("postgresql"):
        return "put it into $PGPASSWORD or ~/.pgpass"
    if scheme.startswith(("mysql", "mariadb")):
        return "put it into a file for ?read_default_file=/path/my.cnf"
    if scheme.startswith(_DATABASES):
        return "put it where the database's driver reads it from"
    if scheme == "s3":
        return "put it into $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, or ~/.aws"
    if scheme in ("http", "https") and name != "tracking_uri":
        return "give a file or an s3:// URI where it is to be read from: nothing here logs in to a web site"
    if scheme in ("http", "https"):
        return "put the name and the password into $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD, or a token into $MLFLOW_TRACKING_TOKEN"
    return "leave it out"
