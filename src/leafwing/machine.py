"""This machine: CPU cores and memory available to this process; the versions that a run records. Imports torch only for these."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path


def cores() -> int:
    """CPU cores available to this process, according to its affinity and the CPU quota of its control group (containers, Slurm)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = quota()
    return count if limit is None else max(1, min(count, ceil(limit)))


def load() -> tuple[float, int] | None:
    """The average number of programs that wanted a core in the last minute, and the cores of the whole machine; None if not known."""
    try:
        return os.getloadavg()[0], os.cpu_count() or 1
    except (AttributeError, OSError):  # Windows
        return None


def is_busy(now: tuple[float, int] | None) -> bool:
    """Whether more programs want a core than there are cores, by `load`; False if it is not known."""
    return now is not None and now[0] > now[1]


def quota(groups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPU quota of this process's control group, in cores; None without a quota.

    Args:
        groups: mount point of the control groups.
        process: the kernel's list of the groups of this process.
    """
    quotas = [limit for group in control_groups("cpu", groups, process) if (limit := _quota_of(group)) is not None]
    return min(quotas, default=None)


def control_groups(controller: str, groups: Path, process: Path) -> Iterator[Path]:
    """The folders of the control groups of this process that have a controller, with their parents, whose limits apply too.

    Args:
        controller: cpu or memory.
        groups, process: see `quota`.
    """
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, inner = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = groups if not controllers else groups / controller
        group = root / inner.strip("/")
        for folder in (group, *group.parents):
            yield folder
            if folder == root:
                break


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


def available_memory(groups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes of memory that this process can still use, by the system and by the limits of its control group; None: not known.

    Args:
        groups, process: see `quota`.
    """
    free = [_free_in(group) for group in control_groups("memory", groups, process)]
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    known = [value for value in free if value is not None]
    return min(known) if known else _half_of_memory()


def _half_of_memory() -> int | None:
    """Half of all memory in bytes, where the system does not say how much is free (macOS); None: not known (Windows)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _free_in(group: Path) -> int | None:
    """Bytes that a control group may still use, with the files' cache that it can give up; None without a limit."""
    names = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for limit, usage in names:
        with suppress(OSError, ValueError):  # no such file, or "max"
            free = int((group / limit).read_text()) - int((group / usage).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return max(0, free + int(stat.get("inactive_file", 0)))
    return None


def versions() -> dict[str, str | None]:
    """The versions of leafwing (with its commit), Python and torch, and the machine: system, processor and GPUs, if there are any."""
    import torch

    from leafwing import __version__

    gpus = dict.fromkeys(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    gpu = {"gpu": ", ".join(gpus)} if gpus else {}
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
    """The commit of leafwing's source tree, followed by + if files other than rows of benchmarks are modified; None for a copy."""
    here = Path(__file__).resolve().parent
    if not (here.parent.parent / ".git").exists():
        return None
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = [*git, "status", "--porcelain", "-uno", ":(top)", ":(top,exclude)bench/results"]
        status = subprocess.run(changed, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if status.strip() else "")
