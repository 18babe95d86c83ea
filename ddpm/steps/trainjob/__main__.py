"""One of the processes on the nodes (`rank.py`)."""

import sys

from ddpm.steps.trainjob.rank import main

main(*sys.argv[1:])
