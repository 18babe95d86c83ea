"""Kubeflow Pipelines: that it answers, and whether it keeps to what the compiled file asks for."""

from __future__ import annotations

import re

from ddpm.errors import WrongInput
from pipelines.doctor.finding import Findings, ok, unknown, wrong
from pipelines.server import Unreachable, check_endpoint, token_now

# What drivers before these versions pass over without a word.
NEEDED = {
    (2, 15): "optional Secrets and ConfigMaps are not optional to it, and a task without one never starts",
    (2, 16): "it ignores the security context, and tasks run as root or are refused",
}


def look(endpoint: str) -> Findings:
    if not endpoint:
        yield unknown("Kubeflow Pipelines: no ENDPOINT=http://HOST:PORT is given, nor KFP_ENDPOINT")
        return
    try:
        told = str(check_endpoint(endpoint, token_now()).get("tag_name", "unknown"))
    except (Unreachable, WrongInput) as problem:
        yield wrong(f"Kubeflow Pipelines: {problem}")
        return
    found = re.match(r"v?(\d+)\.(\d+)", told)
    if not found:
        yield unknown(
            f"Kubeflow Pipelines at {endpoint} answers, and does not say its version; 2.16 or later is needed"
        )
        return
    lacking = [words for version, words in NEEDED.items() if (int(found[1]), int(found[2])) < version]
    if lacking:
        yield wrong(f"Kubeflow Pipelines {told} is too old: {'; '.join(lacking)}. Upgrade it to 2.16 or later")
    else:
        yield ok(f"Kubeflow Pipelines {told} at {endpoint}")
