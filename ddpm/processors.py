"""How many processors this process may use, which in a container are fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def processors() -> int:
    """Those that it may run on, and no more than its container's share of their time; at least one."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(mine, share() or mine))


def share() -> int:
    """The limit that a container's share of the processors' time comes to, rounded up; 0 where there is none."""
    for place in ("cpu.max", "cpu/cpu.cfs_quota_us"):
        try:
            quota, *rest = (GROUPS / place).read_text().split()
            period = rest[0] if rest else (GROUPS / "cpu" / "cpu.cfs_period_us").read_text()
        except (OSError, ValueError):  # another kind of group, or none
            continue
        if quota.isdigit() and int(period):  # not "max", nor -1
            return math.ceil(int(quota) / int(period))
    return 0
