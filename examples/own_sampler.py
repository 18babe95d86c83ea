"""A sampler of one's own: the midpoint method, beside DDIM.

python examples/own_sampler.py MODEL-REFERENCE grid.png
"""

import sys
from itertools import pairwise

import torch

import ddpm
from ddpm.model.sampling import Sampler, register


def midpoint(denoise, x, sigmas, draw, watch=None):
    """The midpoint method of second order, on the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma."""
    for sigma, to in pairwise(sigmas):
        if watch:
            watch(x, sigma)
        slope = (x - denoise(x, sigma)) / sigma
        if to == 0:
            return x - sigma * slope
        middle = (sigma * to).sqrt()
        between = x + (middle - sigma) * slope
        x = x + (to - sigma) * (between - denoise(between, middle)) / middle
    return x


register("midpoint", Sampler(midpoint, evaluations=2))  # from here on settings and `draw` take it by its name

reference, file = sys.argv[1:]
model = ddpm.open_model(reference)
rows = [
    model.draw(range(8), model.drawing_with(sampler=sampler, sampling_steps=steps))
    for sampler, steps in (("ddim", 19), ("midpoint", 10))
]
ddpm.show(torch.cat(rows), columns=8).save(file)
print(f"{file}: DDIM above, midpoint below, 19 evaluations of the network each")
