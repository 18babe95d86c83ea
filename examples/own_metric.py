"""A metric of one's own: how far the mean brightness of generated pictures is from that of real ones.

    python examples/own_metric.py MODEL-REFERENCE DATASET-URI report.html

A figure is one function and one entry. It is then in the report and on its page, and, where DDPM_EXTENSIONS names a module
that registers it, in `ddpm compare`, in a run's closing table and in MLflow.
"""

import sys
from pathlib import Path

import ddpm
from ddpm.evaluation.figures.sample import Sample, Value
from ddpm.evaluation.figures.table import Figure, register
from ddpm.settings import EvaluateSettings


def brightness(images):
    """What is kept of pictures uint8 [b,3,h,w] as they pass by: their mean brightness, 0 … 1, [b]."""
    return images.float().mean(dim=(1, 2, 3)) / 255


def difference(sample: Sample) -> Value:
    real = brightness(sample.reference.data.train.images)
    return Value(float((sample.looks["brightness"].mean() - real.mean()).abs()))


register(
    Figure(
        name="brightness", title="Brightness", meaning="difference of the mean brightness from real pictures",
        higher_is_better=False, measure=difference, look=brightness,
    )
)  # fmt: skip

reference, dataset, page = sys.argv[1:]
model = ddpm.open_model(reference)
report = ddpm.evaluate(
    model, dataset, EvaluateSettings(extractor="classifier", evaluate_n=64), model.quick(5, sample_batch=64)
)
Path(page).write_text(ddpm.report_page(report))
print(f"brightness differs by {report['brightness']:.3f}; the page is {page}")
