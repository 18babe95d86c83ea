"""The version against the champion: it takes the alias only if it is better under the same measurement."""

from kfp import dsl

from components import component


@component
def promote(
    plan: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Artifact],
    version: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.Artifact],
):
    from ddpm.steps import promote as step

    step.in_pipeline(plan.path, dataset.path, version.path, output=decision.path)
