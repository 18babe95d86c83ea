"""Who is asked besides the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ddpm.errors import WrongInput
from ddpm.fields import Typed, require, setting
from ddpm.settings.words import LARGEST_SEED, MOST

LANGUAGES = ("en", "hu")  # in which the judge can be asked


@dataclass(frozen=True)
class JudgeSettings(Typed):
    """Who is asked, besides the metrics, how much pictures resemble the data set's subject. Off where there is no URL."""

    judge_url: str = setting("", "an OpenAI-compatible endpoint, as in https://host/v1; empty: nobody is asked")
    judge_model: str = setting("", "the model's name there; the key is read from $DDPM_JUDGE_KEY")
    judge_subject: str = setting("", "what the data set's pictures show, in judge_language, as in 'flowers'")
    judge_language: str = setting("en", "language of the question", choices=LANGUAGES)
    judge_n: int = setting(
        50, "generated pictures shown, among as many real ones and as many of something else", low=10, high=100_000
    )
    judge_other: str = setting(
        "", "a data set's URI: pictures of something else; empty: real ones with their tiles shuffled", place=True
    )
    judge_seed: int = setting(
        0, "seed of the order in which pictures are shown, and of their choice", low=0, high=LARGEST_SEED
    )
    judge_max_tokens: int = setting(
        16,
        "length of an answer; a model that thinks before it answers needs a thousand and more",
        unit="tokens",
        low=1,
        high=MOST,
    )
    judge_timeout: float = setting(60.0, "time for one request", unit="seconds", above=0, high=86_400)
    judge_retries: int = setting(
        3, "times that a picture is shown again after a refusal, an unreadable answer or a failure", low=0, high=1000
    )
    judge_concurrency: int = setting(2, "requests under way at a time", low=1, high=16)
    judge_per_minute: float = setting(60.0, "how fast they may be sent", unit="requests a minute", above=0, high=MOST)
    judge_requests: int = setting(500, "requests in all", low=1, high=10**9)
    judge_seconds: float = setting(1800.0, "time for all requests", unit="seconds", above=0, high=10**8)
    judge_input_price: float = setting(
        0.0, "price of a million tokens sent, in any currency", low=0, high=10**9, zero="free, or not known"
    )
    judge_output_price: float = setting(
        0.0, "price of a million tokens of answers", low=0, high=10**9, zero="free, or not known"
    )
    judge_budget: float = setting(
        1.0,
        "most that may be spent, in that currency: no request is sent that might exceed it; counts where prices are given",
        above=0,
        high=10**12,
    )

    def check(self) -> None:
        """A URL is kept with the run, where everybody reads it: it must hold no secret. It needs a model and a subject."""
        if not self.judge_url:
            return
        try:
            parts = urlsplit(self.judge_url)
        except ValueError as problem:
            raise WrongInput(
                f"judge_url: it is no URL: {problem}; write an endpoint's address, as in https://host/v1"
            ) from None
        plain = parts.scheme in ("http", "https") and parts.hostname and not parts.fragment
        if "@" in parts.netloc or parts.query:
            raise WrongInput(
                "judge_url: it must hold no user, password or query, for it is kept with the run; a key goes into $DDPM_JUDGE_KEY"
            )
        require(bool(plain), "judge_url", self.judge_url, "an endpoint's address, as in https://host/v1")
        for name, what in (
            ("judge_model", "a model of the endpoint"),
            ("judge_subject", "what the data set's pictures show, as in 'flowers'"),
        ):
            require(bool(getattr(self, name).strip()), name, getattr(self, name), what)
