"""How many CPUs this process may really use: the smaller of its affinity and its control group's limit.

A container that is limited to one CPU of a large node must run one thread: more only wait for each other.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Return the number of whole CPUs that this process may use, at least 1."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _quota(cgroup)
    return max(1, min(available, int(quota)) if quota is not None else available)


def _quota(cgroup: Path) -> float | None:
    try:
        if (unified := cgroup / "cpu.max").is_file():
            quota, period = unified.read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        cpu = cgroup / "cpu"
        quota_us = int((cpu / "cpu.cfs_quota_us").read_text())
        period_us = int((cpu / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None
