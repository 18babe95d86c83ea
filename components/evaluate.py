"""FID and KID of the final checkpoint, with their protocol."""

from kfp import dsl

from components import component


@component
def evaluate(
    plan: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Artifact],
    checkpoint: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
):
    from ddpm.steps import evaluate as step

    step.task(plan.path, dataset.path, checkpoint.path, report.path)
