"""docker/compose.yaml as Compose reads it: with its variables filled in, and what each service would run."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "docker" / "compose.yaml"
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<words>[^}]*))?\})")


class Unset(ValueError):
    """A variable that must be set is empty."""


def variables(text=None):
    """The file's variables, as (name, "-" or "?" or nothing, the words after it)."""
    found = VARIABLE.finditer(FILE.read_text() if text is None else text)
    return [(one["name"], one["kind"] or "", one["words"] or "") for one in found if one["name"]]


def filled(part, given):
    """Any part of the file with `$$`, `${NAME:-else}` and `${NAME:?why}` replaced. Raises Unset."""
    if isinstance(part, dict):
        return {name: filled(value, given) for name, value in part.items()}
    if isinstance(part, list):
        return [filled(value, given) for value in part]
    return VARIABLE.sub(lambda found: _value(found, given), part) if isinstance(part, str) else part


def _value(found, given):
    if found[0] == "$$":
        return "$"
    if value := given.get(found["name"]):
        return value
    if found["kind"] == "?":
        raise Unset(f"{found['name']}: {found['words']}")
    return found["words"] or ""


def services(given):
    """Every service, with the variables filled in."""
    return filled(yaml.safe_load(FILE.read_text()), given)["services"]


def settings(text):
    """What an .env file says."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)
