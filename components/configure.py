"""The run's settings, checked before anything else starts."""

from kfp import dsl

from components import component


@component
def configure(
    run_name: str,
    store: str,
    tracking_uri: str,
    study_storage: str,
    source: str,
    dataset_name: str,
    image_size: int,
    held_out: float,
    max_pictures: int,
    min_side: int,
    drop_duplicates: bool,
    quarantine_limit: float,
    base_channels: int,
    blocks: int,
    attention_resolution: int,
    dropout: float,
    objective: str,
    schedule: str,
    timesteps: int,
    epochs: int,
    batch_size: int,
    warmup_images: int,
    decay_fraction: float,
    ema_half_life: int,
    flip: bool,
    precision: str,
    guard_factor: float,
    patience: int,
    held_out_every: int,
    checkpoint_seconds: float,
    train_seed: int,
    trials: int,
    trial_epochs: int,
    mults_choices: str,
    founding_lr: float,
    lr_low: float,
    lr_high: float,
    prune_every: int,
    score_n: int,
    score_steps: int,
    extractor: str,
    layer: int,
    weights: str,
    weights_sha256: str,
    n: int,
    sampler: str,
    sampling_steps: int,
    sample_batch: int,
    sample_seed: int,
    model_name: str,
    run_id: str,
    plan: dsl.Output[dsl.Artifact],
):
    settings = {name: value for name, value in locals().items() if name not in ("plan", "run_id")}
    from ddpm.steps import configure as step

    step.task({**settings, "run_name": run_name or run_id}, plan.path)
