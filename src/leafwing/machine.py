"""This machine: CPU cores available to this process, and the versions that a run records. Imports torch only for the latter."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from math import ceil
from pathlib import Path


def cores() -> int:
    """CPU cores available to this process, according to its affinity and the CPU quota of its control group (containers, Slurm)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = quota()
    return count if limit is None else max(1, min(count, ceil(limit)))


def quota(groups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPU quota of this process's control group, in cores; None without a quota.

    Args:
        groups: mount point of the control groups.
        process: the kernel's list of the groups of this process.
    """
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, inner = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups if not controllers else groups / "cpu"
        group = root / inner.strip("/")
        for folder in (group, *group.parents):  # a parent's quota applies to its children too
            if (limit := _quota_of(folder)) is not None:
                quotas.append(limit)
            if folder == root:
                break
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    """The quota of one control group: one file in version 2 of the kernel interface, two files in version 1."""
    try:
        if (both := folder / "cpu.max").is_file():
            allowed, period = both.read_text(encoding="utf-8").split()
        else:
            allowed, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None


def versions() -> dict[str, str | None]:
    """The versions of leafwing (with its commit), Python and torch, and the machine: system, processor and GPU, if there is one."""
    import torch

    from leafwing import __version__

    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "leafwing": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        **gpu,
    }


@cache
def processor() -> str:
    """The name of the CPU model, if the system reports it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        name = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    except OSError:
        name = ""
    return name or platform.processor() or platform.machine()


@cache
def commit() -> str | None:
    """The commit of leafwing's source tree, followed by + if files are modified; None for an installed copy."""
    here = Path(__file__).resolve().parent
    if not (here.parent.parent / ".git").exists():
        return None
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if status.strip() else "")
