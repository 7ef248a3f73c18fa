"""What this machine has, and what is chosen from it: device, precision, memory layout, threads."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from leafwing.errors import LeafwingError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Setup:
    """Where and how accurately a game is trained.

    Args:
        device: cpu, cuda or mps.
        precision: fp32, or bf16 (autocast around networks; costs, optimisers and turns that differentiate twice stay fp32).
        threads: CPU threads; part of a run's identity, because sums split over threads round differently.
        why: what decided each of them, in words.
    """

    device: str
    precision: str
    threads: int
    why: Mapping[str, str] = field(default_factory=dict, compare=False)


def choose(device: str = "auto", precision: str = "auto", threads: int | None = None) -> Setup:
    """Resolve `auto` from what this machine has.

    Raises:
        LeafwingError: a device or precision that does not exist, here or at all.
    """
    why: dict[str, str] = {}
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = device.partition(":")[0]
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
        why["device"] = f"the first that this machine has of cuda, mps, cpu: {device}"
    elif kind not in available:
        raise LeafwingError(f"no device {device!r}; choose from {', '.join(DEVICES)}")
    elif not available[kind]:
        here = ", ".join(name for name, has in available.items() if has)
        raise LeafwingError(f"this machine (or this build of torch) has no {kind}; it has: {here}")
    else:
        why["device"] = "as asked"
    if precision not in PRECISIONS:
        raise LeafwingError(f"no precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    if precision == "auto":
        native = native_bf16(device)
        precision = "bf16" if native else "fp32"
        why["precision"] = f"{device} {'computes' if native else 'does not compute'} bf16 in hardware"
    else:
        why["precision"] = "as asked"
    if threads is not None and threads < 1:
        raise LeafwingError(f"threads {threads}: at least 1 is needed")
    why["threads"] = "as asked" if threads else "one for each core"
    return Setup(device, precision, threads or torch.get_num_threads(), why)


def native_bf16(device: str) -> bool:
    """Whether bf16 is fast on this device. Emulated on a CPU it is 2 to 30 times slower than fp32."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks instead of handing each back to the kernel; elsewhere do nothing.

    Every step frees and asks again for the same blocks; with glibc's defaults that is some 300,000 page faults a step.
    """
    if not sys.platform.startswith("linux"):
        return
    mmap_threshold, trim_threshold = -3, -1
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):  # another C library: musl has no such knob
        return


def synchronise(device: str) -> None:
    """Wait until the device has finished what was asked of it; for clocks, never inside a turn."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def memory(device: str) -> int:
    """Peak memory in bytes: of the device on CUDA, of the process elsewhere; 0 where nothing tells."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
