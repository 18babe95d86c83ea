"""A thousand requests made up from the server's own OpenAPI, malformed ones among them: none fails, none hangs."""

import pytest

from ddpm.settings import DrawSettings


@pytest.fixture(scope="module")
def quick(checkpoint):
    """A server whose pictures cost two steps where nobody says more, and at most three."""
    import dataclasses

    from sites import running

    with running(checkpoint, most_steps=3, most_n=4, most_frames=8) as site:
        served = site.server.versions.by_alias["model"]
        model = dataclasses.replace(served.model, drawing=DrawSettings(sampler="ddim", sampling_steps=2))
        site.server.versions.by_alias = {"model": dataclasses.replace(served, model=model)}
        yield site


def test_no_request_is_answered_by_an_error_of_the_server(quick):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
    schema = schemathesis.openapi.from_url(f"{quick.address}/openapi.json")
    statuses = []
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/v1/images", "/v1/images/{seed}.png", "/v1/model"}
    drawing = [
        operation
        for operation in operations
        if "{version}" not in operation.path and ("{seed}" in operation.path or operation.method == "post")
    ]

    for operation in drawing:

        @settings(
            max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )  # fmt: skip
        @_given(operation)
        def ask(case):
            answer = case.call(timeout=60)
            statuses.append(answer.status_code)
            case.validate_response(answer, checks=checks)

        ask()
    assert len(statuses) >= 1000 and max(statuses) < 500
    assert {200, 422} <= set(statuses)


def _given(operation):
    from hypothesis import given
    from schemathesis.generation import GenerationMode

    strategy = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) | operation.as_strategy()
    return given(case=strategy)
