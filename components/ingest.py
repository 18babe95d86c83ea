"""Pictures to a published data set."""

from kfp import dsl

from components import component


@component
def ingest(plan: dsl.Input[dsl.Artifact], dataset: dsl.Output[dsl.Artifact]):
    from ddpm.steps import ingest as step

    step.in_pipeline(plan.path, output=dataset.path)
