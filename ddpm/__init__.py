"""From a folder of pictures to a trained, evaluated, registered and served diffusion model."""

import os

# OpenMP's threads wait for each other by spinning: where another program wants a core too, they keep it from the thread
# that they wait for. Sleeping is as fast on an idle machine and degrades gently. Read when torch is loaded, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
