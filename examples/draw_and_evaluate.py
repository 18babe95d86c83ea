"""A model's pictures, and how near they come to the data set's.

python examples/draw_and_evaluate.py models:/ddpm-digits@champion DATASET-URI grid.png
"""

import sys

import ddpm
from ddpm.settings import EvaluateSettings

reference, dataset, file = sys.argv[1:]

model = ddpm.open_model(reference)
ddpm.show(model.draw(range(16))).save(file)

# Few pictures and few steps, for a quick look; figures to rely on want as many as the data set has, and the model's own way.
settings = EvaluateSettings(extractor="classifier", evaluate_n=256)
report = ddpm.evaluate(model, dataset, settings, model.quick(10, sample_batch=64))
floor = report["noise_floor"]
print(
    f"{report['metric']} (n={report['n']}) {report['fid']:.3g}, and {floor['fid']:.3g} of real pictures; KID {report['kid']:.3g}"
)
