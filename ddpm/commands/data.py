"""Data sets: ingest, list, verify, and what a store holds that nothing names."""

from __future__ import annotations

import argparse
import dataclasses

from ddpm.arguments import chosen_settings
from ddpm.commands.table import (
    A_DATASET,
    TEXT,
    Facts,
    command,
    dataset_of,
    flag,
    number,
    place,
    places,
    required,
    settings,
)
from ddpm.errors import Refused
from ddpm.settings import IngestSettings, pick
from ddpm.workplace import Workplace


@command(
    "publish pictures as a data set",
    place("source", help="a named source (digits, flowers102, dalle-dogs, celeba, cifar10; NAME:PATH from disk), a folder of pictures, archive:FILE, parquet:GLOB, s3://BUCKET/PREFIX, or a data set that is published (NAME@latest, NAME@DIGEST, or its URI)"),
    required(IngestSettings, "dataset_name", "--name"),
    number("--workers", "int", 0, "processes that decode", low=0, high=1024, zero="one a core"),
    places("store"),
    settings(IngestSettings, without=("source", "dataset_name")),
)  # fmt: skip
def ingest(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.data.catalogue import source_or_dataset
    from ddpm.steps.ingest import ingest

    chosen = pick(IngestSettings, chosen_settings(arguments))
    source = source_or_dataset(chosen.source, place.store, place.progress)
    return ingest(place, dataclasses.replace(chosen, source=source), arguments.workers)


@command(
    "the data sets of a store: name and digest, size, numbers of pictures and classes, when and from where",
    places("store"),
)
def datasets(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.data.catalogue import datasets, table

    found = datasets(place.store)
    if not found and not arguments.json:
        return {TEXT: f"there are no data sets in {place.store.root}; `ddpm ingest` publishes one"}
    return {"datasets": found} if arguments.json else {TEXT: table(found)}


@command(
    "read every byte of a data set again and check it against its manifest",
    place("dataset", help=f"the data set: {A_DATASET}"),
    places("store"),
)
def verify(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.data.verify import verify

    facts = verify(dataset_of(arguments, place), place.progress)
    if not facts["ok"]:
        first = facts["bad"][0]
        raise Refused(f"{len(facts['bad'])} bad objects, the first {first['object']}: {first['reason']}", facts)
    return facts


@command(
    "list what lies in a store and nothing names, and remove it if asked",
    places("store"),
    flag("--delete", action="store_true", help="remove it"),
    number("--older-than", "float", 24.0, "spare what is younger, in hours", "HOURS", low=0, high=10**6),
)
def gc(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.gc import gc

    return gc(place, arguments.delete, arguments.older_than)
