"""Where S3 is and who asks, by names of our own, so that a program beside ours is not sent there too.

On a Kubeflow cluster the task's environment is its launcher's as well, which reads AWS_* to keep KFP's own artifacts.
Elsewhere AWS_* will do. MLflow, where it keeps artifacts in S3 by itself, finds them by the same chain as we do.
"""

from __future__ import annotations

import os

PREFIX, STANDARD = "DDPM_S3_", "AWS_"
KEYS = ("DDPM_S3_ACCESS_KEY_ID", "DDPM_S3_SECRET_ACCESS_KEY", "DDPM_S3_SESSION_TOKEN")
PLACE = ("DDPM_S3_ENDPOINT_URL", "DDPM_S3_DEFAULT_REGION")


def adopt() -> None:
    """Take what is said by our names for AWS's, in this process and what it starts; ours count where both are said.

    A key of ours takes AWS's session token away, which belongs to another key.
    """
    if os.environ.get(KEYS[0]) and not os.environ.get(KEYS[2]):
        os.environ.pop(KEYS[2].replace(PREFIX, STANDARD), None)
    for name in (*KEYS, *PLACE):
        if told := os.environ.get(name):
            os.environ[name.replace(PREFIX, STANDARD)] = told
