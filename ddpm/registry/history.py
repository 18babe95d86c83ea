"""The promotion log as one page: no script, no request, in the light or the dark as the reader has it."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from ddpm.legible import on_page
from ddpm.registry.log import Entry, Log, ShortFigures, standing

WORDS = {
    "promote": "became champion",
    "challenge": "stayed a challenger",
    "rollback": "is champion again",
    "gone": "was deleted in MLflow",
}


def page(name: str, log: Log) -> str:
    """The page of a model's log, the newest entry first, with what is damaged at its head. The same log, the same bytes."""
    environment = Environment(
        loader=PackageLoader("ddpm.registry", "."), autoescape=True, undefined=StrictUndefined, finalize=on_page,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    rows = [
        {
            "entry": entry,
            "words": WORDS[entry["action"]],
            "figures": _in_words(entry),
            "champion": _champion(log, entry),
        }
        for entry in reversed(log.entries)
    ]
    now = standing(log.entries) if not log.damaged else {}
    return environment.get_template("history.html.j2").render(name=name, rows=rows, now=now, log=log)


def _champion(log: Log, entry: Entry) -> int | None:
    """Who was champion from this entry on."""
    return standing([one for one in log.entries if one["number"] <= entry["number"]]).get("champion")


def _in_words(entry: Entry) -> str:
    found: ShortFigures | None = entry["figures"]
    if found is None:
        return ""
    pictures = f" (n={found['n']:,})" if "n" in found else ""
    return f"{found['metric']} {found['fid']:.4g} ± {found['fid_std']:.2g}, KID {found['kid']:.4g} ± {found['kid_std']:.2g}{pictures}"
