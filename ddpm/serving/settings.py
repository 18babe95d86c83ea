"""What the server may be told: as a flag of `ddpm serve`, or, in a container, as $DDPM_SERVE_NAME."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddpm.fields import Typed, setting

VARIABLE = "DDPM_SERVE_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeSettings(Typed):
    """How `ddpm serve` serves pictures: to whom, and how much. Each is also $DDPM_SERVE_NAME; a run has none of them."""

    host: str = setting("127.0.0.1", "the address to listen at", pattern=".+", form="an address, as in 0.0.0.0")
    port: int = setting(8000, "the port to listen at", low=0, high=65535, zero="any that is free; it is said")
    browse: bool = setting(False, "open the page in this machine's browser, where there is one")
    follow: float = setting(
        10.0,
        "time between looks at the alias, to swap versions when it moves",
        unit="seconds",
        low=0,
        high=1_000_000,
        zero="never",
    )
    beside: str = setting("challenger", "alias of the version served beside, where there is one; empty: none")
    canary: float = setting(
        0.0, "share of the seeds that the version beside answers for, where nobody asks for an alias", low=0, high=1
    )
    batch: int = setting(
        0,
        "pictures that are drawn at once",
        low=0,
        high=4096,
        zero="measured at start, with the bytes of `ddpm sample`",
    )
    latency: float = setting(
        1.0,
        "a larger batch than `ddpm sample`'s is chosen only where drawing it takes no longer",
        unit="seconds",
        low=0,
        high=10_000,
    )
    most_n: int = setting(64, "pictures a request", low=1, high=10_000)
    most_steps: int = setting(1000, "steps of the sampler a request", low=1, high=1_000_000)
    most_frames: int = setting(64, "frames of a picture that appears", low=2, high=10_000)
    most_body: int = setting(65536, "size of a request's body", unit="bytes", low=64, high=2**30)
    most_waiting: int = setting(
        512, "pictures that wait; a request beyond is told when to come again", low=1, high=10**9
    )
    most_seconds: float = setting(
        60.0,
        "time for one request, waiting included; one that takes longer by itself is refused",
        unit="seconds",
        above=0,
        high=1_000_000,
    )
    tokens_file: str = setting(
        "",
        "file with a line NAME sha256:DIGEST for each bearer token; empty: $DDPM_SERVE_TOKENS holds such lines, if any",
    )
    per_minute: int = setting(0, "pictures a minute for each token", low=0, high=10**9, zero="any number")
    anyone: bool = setting(False, "answer without tokens at an address that others reach")
    allowed_hosts: str = setting(
        "", "names by which the server may be asked, separated by spaces, or *; empty: this machine's own, and host"
    )
    cors_origins: str = setting(
        "", "web pages that may ask from a browser, as in https://a.example; empty: its own alone"
    )

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def hosts(self) -> tuple[str, ...]:
        """By which names the server may be asked; `*` means any."""
        return tuple(self.allowed_hosts.split()) or (*LOOPBACK, self.host)


def from_environment(given: Mapping[str, Any]) -> ServeSettings:
    """The settings given, and over the defaults what the environment says. Raises WrongInput for what will not do."""
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(ServeSettings):
        told = os.environ.get(VARIABLE + field.name.upper())
        value = given.get(field.name)
        value = told if value is None else value
        if value is not None:
            chosen[field.name] = value
    return ServeSettings(**chosen)
