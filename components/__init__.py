"""The KFP face of each function of `ddpm.steps`: one file a step, and nothing else in it.

Artifacts are small JSON pointers (URIs, digests, figures); bytes live in the object store.
"""

from functools import partial

from kfp import dsl

IMAGE = "free-midjourney:0.1.0"  # docker/Containerfile; `make compile IMAGE=…` and `make submit IMAGE=…` name another

# Nothing is installed at run time: the image holds it all, and the local runner uses this environment.
component = partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
