"""How many CPU cores this process may use. Nothing here imports torch."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path


def cores() -> int:
    """CPU cores that this process may use: its affinity and the CPU quota of its control group (containers, Slurm) counted."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = quota()
    return count if limit is None else max(1, min(count, ceil(limit)))


def quota(groups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPU quota of this process's control group in cores; None where there is none.

    Args:
        groups: where control groups are mounted.
        process: which groups this process is in, as the kernel lists them.
    """
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, inner = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups if not controllers else groups / "cpu"
        place = root / inner.strip("/")
        for folder in (place, *place.parents):  # a parent's quota holds for its children too
            if (limit := _quota_of(folder)) is not None:
                found.append(limit)
            if folder == root:
                break
    return min(found, default=None)


def _quota_of(folder: Path) -> float | None:
    """The quota that a control group's folder states: version 2 in one file, version 1 in two."""
    try:
        if (both := folder / "cpu.max").is_file():
            allowed, period = both.read_text(encoding="utf-8").split()
        else:
            allowed, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None
