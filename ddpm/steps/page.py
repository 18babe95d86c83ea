"""The page of a report: in the store beside it, and as text for whoever else keeps it."""

from __future__ import annotations

import hashlib
from typing import Any

from ddpm.evaluation.page.render import render
from ddpm.store import Store, read_object


def publish(report: dict[str, Any], store: Store) -> tuple[str, str]:
    """The page, kept as `reports/KEY.DIGEST.html`, and its URI. Pictures are read from where the report says they are.

    The digest is the page's own: one report has several pages, with the judge's word or without, with a run's curves
    or without, and a later one must not take the place of one that somebody has a link to.
    """
    pictures = {name: read_object(uri) for name, uri in (report.get("pictures") or {}).items() if uri}
    page = render(report, pictures)
    key = f"{report['key']}.{hashlib.sha256(page.encode()).hexdigest()[:16]}.html"
    store.create(key, page.encode())
    return page, store.uri(key)
