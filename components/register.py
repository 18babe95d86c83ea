"""The checkpoint and its report as a version in MLflow's registry."""

from kfp import dsl

from components import component


@component
def register(
    plan: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Artifact],
    checkpoint: dsl.Input[dsl.Artifact],
    report: dsl.Input[dsl.Artifact],
    version: dsl.Output[dsl.Artifact],
):
    from ddpm.steps import register as step

    step.in_pipeline(plan.path, dataset.path, checkpoint.path, report.path, output=version.path)
