"""From a folder of pictures to a trained, evaluated, registered and served diffusion model."""

import os

# OpenMP's threads wait for each other by spinning, which is fast until another program wants one of the cores: then
# most of the time goes into waiting for a thread that is not running. Sleeping costs little and degrades gently. It is
# read when torch is loaded, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
