"""The trials' winner, trained on to the full budget, and the study that chose it as a page; of a second set, without trials,
the winner's network trained on that."""

from typing import List

from kfp import dsl

from components import component


@component
def train(
    plan: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Artifact],
    checkpoint: dsl.Output[dsl.Artifact],
    study: dsl.Output[dsl.HTML],
    trials: dsl.Input[List[dsl.Artifact]] | None = None,
):
    from ddpm.steps import train as step

    step.in_pipeline(plan.path, dataset.path, study=study.path, output=checkpoint.path)
