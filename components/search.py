"""One worker of the search: it shares the study with the others and pulls trials from it."""

from kfp import dsl

from components import component


@component
def search(
    plan: dsl.Input[dsl.Artifact], dataset: dsl.Input[dsl.Artifact], worker: int, trials: dsl.Output[dsl.Artifact]
):
    from ddpm.steps import search as step

    step.in_pipeline(plan.path, dataset.path, worker=worker, output=trials.path)
