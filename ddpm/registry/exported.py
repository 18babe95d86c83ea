"""What an exported folder tells of its model, besides how it draws: figures, a card, and where it comes from."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypedDict

from ddpm.errors import WrongInput
from ddpm.evaluation.report import Report
from ddpm.places import without_file_scheme
from ddpm.registry.card import Provenance
from ddpm.registry.folder import CARD, REPORT, Folder, open_folder, report_in
from ddpm.registry.version import is_exported
from ddpm.settings import FORMAT_VERSION


class ProvenanceFile(TypedDict):
    """provenance.json."""

    format_version: int
    provenance: dict[str, str]


README, PROVENANCE = "README.md", "provenance.json"
PLACE = re.compile(r'- From: (?!models:/)|\s*"checkpoint": ')  # how a card's line begins that says where a file lies


def exported(reference: str) -> Folder | None:
    """The exported folder that a reference names; None for any other reference."""
    path = without_file_scheme(reference)
    return open_folder(Path(path), reference) if is_exported(path) else None


def report_of(folder: Folder) -> Report | None:
    """The figures of a registered version that was exported; None of anything else. Raises Damaged for what is no report."""
    return report_in(folder) if folder.has(REPORT) else None


def card_of(folder: Folder) -> str:
    """Its card: a Space has one beside its model, any other folder as its README."""
    return next((folder.text(file) for file in (CARD, README) if folder.has(file)), "")


def recorded_provenance(folder: Folder) -> Provenance | None:
    """Where the version comes from that was exported; None where nobody wrote it down, as earlier releases did not."""
    if not folder.has(PROVENANCE):
        return None
    facts = folder.json(PROVENANCE, ProvenanceFile)
    if facts["format_version"] != FORMAT_VERSION:
        raise WrongInput(
            f"model: {folder.name}: its {PROVENANCE} has format_version {facts['format_version']}; this release reads {FORMAT_VERSION}"
        )
    told = facts["provenance"]
    return Provenance(**{field.name: told.get(field.name, "") for field in fields(Provenance)})


def provenance_file(provenance: Provenance) -> bytes:
    facts: ProvenanceFile = {"format_version": FORMAT_VERSION, "provenance": asdict(provenance)}
    return json.dumps(facts, indent=1, sort_keys=True).encode()


def without_places(card: str) -> str:
    """A card without the lines that say where on a machine its checkpoint lies."""
    return "".join(line for line in card.splitlines(keepends=True) if not PLACE.match(line))
