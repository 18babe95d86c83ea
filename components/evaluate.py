"""The report of the final checkpoint, and the same as a page."""

from kfp import dsl

from components import component


@component
def evaluate(
    plan: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Artifact],
    checkpoint: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
):
    from ddpm.steps import evaluate as step

    step.in_pipeline(plan.path, dataset.path, checkpoint.path, page=page.path, output=report.path)
