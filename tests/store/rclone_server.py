"""rclone's S3 server: real signatures, multipart and ranges; no conditions."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path


@contextlib.contextmanager
def serving(folder, *keys):
    """The address of one that keeps its buckets as folders of `folder`, and lets in who has one of the `keys`, KEY,SECRET."""
    command = [Path(sys.executable).parent / "rclone", "serve", "s3", "--addr", "127.0.0.1:0"]
    command += [word for key in keys for word in ("--auth-key", key)]
    command += ["--vfs-cache-mode", "off", "--config", "/dev/null", folder]
    log = folder.with_suffix(".log")
    with open(log, "wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        while not (found := re.search(r"Starting s3 server on \[(http://[0-9.:]+)/\]", log.read_text())):
            assert server.poll() is None, log.read_text()
            time.sleep(0.02)
        yield found[1]  # a port that it chose itself: nobody else can have taken it
    finally:
        server.terminate()
        server.wait(timeout=20)
