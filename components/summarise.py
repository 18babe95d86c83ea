"""The exit task: whatever happened before, it gathers the run's facts by its name."""

from kfp import dsl

from components import component


@component
def summarise(
    run_name: str, run_id: str, store: str, status: dsl.PipelineTaskFinalStatus, note: dsl.Output[dsl.Markdown]
):
    from ddpm.steps import summarise as step

    step.in_pipeline(run_name or run_id, store, status.state, status.error_message, run_id, note.path)
