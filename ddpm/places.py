"""Where things are kept when nobody says otherwise: below `var/` of the working folder, or where a cluster says."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ddpm.credentials import holds_password, instead_of, without_password
from ddpm.errors import WrongInput

# What a cluster gives its tasks, by the ConfigMap `ddpm`, and a team's server whoever exports them.
VARIABLES = {"store": "DDPM_STORE", "tracking_uri": "MLFLOW_TRACKING_URI", "study_storage": "DDPM_STUDY_STORAGE"}
# Where people see the pages of Kubeflow Pipelines and of MLflow, so that each can link the other; tasks may reach them elsewhere.
KFP_PAGES, MLFLOW_PAGES = "DDPM_KFP_URL", "DDPM_MLFLOW_URL"

# What begins as a URL does, and has no // behind its scheme: a path of such a name would be made of it, password and all.
HALF_A_URL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?=[/\\]|[^/]*@)|(?:postgresql|postgres|mysql|mariadb|mssql|oracle|sqlite)(?:\+[a-z0-9]+)?:|(?:s3|https?|file|models|runs):",
    re.IGNORECASE,
)
# What is never a reference, as `models:/NAME@ALIAS` and `digits:/path` are: places that are written to.
WRITTEN = (*VARIABLES, "out")

NAME_BYTES, PATH_BYTES = 255, 4000  # of one name of a path, and of the whole: what Linux takes, and some room


def local_path(text: str) -> Path:
    """A path of this machine as somebody wrote it, `~` included, made absolute. Raises WrongInput for one that none has."""
    short = text if len(text) <= 60 else f"{text[:57]}…"
    if not text.strip():
        raise WrongInput("a path is empty (a variable that is not set?); name one")
    if "\0" in text:
        raise WrongInput(f"{short!r} holds a NUL, which no path does")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError:
        raise WrongInput(f"'{short}': there is no user {Path(text).parts[0][1:]}; write the path out, from /") from None
    if any(len(os.fsencode(part)) > NAME_BYTES for part in path.parts) or len(os.fsencode(path)) > PATH_BYTES:
        raise WrongInput(
            f"'{short}' is no path: of those, a name has at most {NAME_BYTES} bytes, and the whole {PATH_BYTES}"
        )
    return path


def without_file_scheme(place: str) -> str:
    """`file:///path` as the path that it names; anything else as it is."""
    return place.removeprefix("file://") if place.startswith("file:///") else place


def require_place(name: str, text: str) -> None:
    """Raise WrongInput for a path or URL that cannot be one, is empty, or holds a password, which would be kept with it."""
    if not text.strip():
        raise WrongInput(f"{name}: it is empty (a variable that is not set?); name a place, or leave it out")
    try:
        if "://" not in text:
            if name.replace("-", "_") in WRITTEN and (half := HALF_A_URL.match(text)):
                raise WrongInput(
                    f"what begins with {half[0]} and no // behind it is no URL, and no path; write SCHEME://… or, where a file is called so, ./{half[0]}…"
                )
            local_path(text)
        parts = urlsplit(text if "://" in text else "")
        _ = parts.port
    except WrongInput as problem:
        raise WrongInput(f"{name}: {problem}") from None
    except ValueError:  # whose words repeat what stands where a port would: half a password, maybe
        raise WrongInput(
            f"{name}: it is no URL: its host or its port cannot be read; write SCHEME://HOST:PORT/…"
        ) from None
    if parts.scheme == "s3" and not parts.netloc:
        raise WrongInput(f"{name}: '{text}' names no bucket; write s3://BUCKET/PREFIX")
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise WrongInput(f"{name}: it names no host; write {parts.scheme}://HOST:PORT")
    if parts.scheme.partition("+")[0] == "sqlite" and (
        parts.netloc or not parts.path.strip("/") or _in_memory(parts.path, parts.query)
    ):
        raise WrongInput(
            f"{name}: it names no file of SQLite, and nothing would be kept; write sqlite:///absolute/path.db"
        )
    require_no_password(name, text)


def _in_memory(path: str, query: str) -> bool:
    """Whether this is SQLite's way to say that a database is none of the disk's."""
    return path.strip("/").removeprefix("file:") in ("", ":memory:") or "mode=memory" in query.lower()


def require_output(name: str, text: str) -> None:
    """Raise WrongInput unless the text is a path of this machine, to be written to: no URI, and not empty."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) and not holds_password(text):
        raise WrongInput(
            f"{name}: '{text}' is a URI, and what is written there is a file of this machine; write a path"
        )
    require_place(name, text)


def output_file(name: str, text: str) -> Path:
    """The file that is to be written. Raises WrongInput where it is a folder, or there is none that it could lie in."""
    require_output(name, text)
    path = local_path(text)
    if path.is_dir():
        raise WrongInput(f"{name}: {text} is a folder; name a file")
    if not path.parent.is_dir():
        raise WrongInput(f"{name}: there is no folder for {text}; make it, or name another")
    return path


def require_no_password(name: str, url: str) -> None:
    """Raise WrongInput where the URL has one, saying where it belongs."""
    if holds_password(url):
        raise WrongInput(
            f"{name}: it holds a password, which would be kept where others read it; write {without_password(url)}, and {instead_of(name, url)}"
        )


def cache_folder() -> Path:
    """Where downloads are kept, and the blobs of data sets that lie in S3: $DDPM_CACHE, or ~/.cache/ddpm.

    Where neither is told and the home cannot be written, as in a container whose root file system is read-only or whose
    user has none, it is a folder of the user's own among the temporary ones.
    Raises WrongInput for a URI: what is there is read in place.
    """
    if told := os.environ.get("DDPM_CACHE"):
        require_output("DDPM_CACHE", told)
        return Path(told)
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        folder = Path(home) / ".cache" / "ddpm"
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if os.access(there, os.W_OK):
            return folder
    return Path(tempfile.gettempdir()) / f"ddpm-cache-{os.getuid()}"


def default_places(var: Path | None = None) -> dict[str, str]:
    """store, tracking_uri and study_storage where nobody says otherwise: what the environment says, or below `var`."""
    var = (var or Path("var")).absolute()
    here = {
        "store": str(var / "store"),
        "tracking_uri": f"sqlite:///{var / 'mlflow' / 'mlflow.db'}",
        "study_storage": str(var / "optuna" / "journal.log"),
    }
    return {name: os.environ.get(VARIABLES[name]) or place for name, place in here.items()}


def told_place(name: str, place: str) -> str:
    """The place, where a flag or the environment says it; empty where it is what stands for one that nobody says."""
    unsaid = name in VARIABLES and not os.environ.get(VARIABLES[name]) and name != "store"
    return "" if unsaid and place == default_places()[name] else place


def kept_tracking() -> str:
    """MLflow's place, where there is one: what $MLFLOW_TRACKING_URI says, or the database below `var/`; else empty."""
    place = default_places()["tracking_uri"]
    return place if os.environ.get("MLFLOW_TRACKING_URI") or Path(place.removeprefix("sqlite:///")).exists() else ""


def fill_places(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with every place that is empty taken from the environment. Raises WrongInput where it is not there."""
    filled = dict(parameters)
    for name, variable in VARIABLES.items():
        if name in filled and not filled[name]:
            filled[name] = os.environ.get(variable, "")
            if not filled[name]:
                raise WrongInput(
                    f"{name}: missing; give it as a parameter, or {variable} in the cluster's ConfigMap ddpm"
                )
    return filled
