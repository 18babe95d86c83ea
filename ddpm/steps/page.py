"""The page of a report: in the store beside it, and as text for whoever else keeps it."""

from __future__ import annotations

from typing import Any

from ddpm.evaluation.report import render
from ddpm.store import Store, read_object


def publish(report: dict[str, Any], store: Store) -> str:
    """Write `reports/KEY.html` and return the page. The report's pictures are read from where it says they are."""
    pictures = {name: read_object(uri) for name, uri in (report.get("pictures") or {}).items() if uri}
    page = render(report, pictures)
    store.write(f"{report['key']}.html", page.encode())
    return page
