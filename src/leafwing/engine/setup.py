"""What this machine has, and what is chosen from it: device, precision, threads, memory layout, capture."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from leafwing.errors import LeafwingError
from leafwing.machine import cores

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
LAYOUTS = ("auto", "channels_last", "contiguous")


@dataclass(frozen=True)
class Setup:
    """Where and how a game is trained.

    Args:
        device: cpu, cuda or mps.
        precision: fp32, or bf16 (autocast around networks; costs, optimisers and turns that differentiate twice stay fp32).
        threads: CPU threads; part of a run's identity, because sums split over threads round differently.
        layout: how pictures and convolutions lie in memory: channels_last or contiguous.
        fused: optimisers step in one kernel.
        keep_freed: freed memory is kept for the next step instead of handed back (glibc).
        products: convolutions of small maps are computed as matrix products, in bf16.
        capture: turns are recorded as CUDA graphs and replayed.
        compile: networks go through `torch.compile`.
        micro_batch: real images that pass the networks at a time; 0 for the whole batch.
        resident: whether the data live on the device: True, False, or None for where they fit.
        why: what decided each of them, in words.
    """

    device: str
    precision: str
    threads: int
    layout: str = "channels_last"
    fused: bool = True
    keep_freed: bool = True
    products: bool = False
    capture: bool = False
    compile: bool = False
    micro_batch: int = 0
    resident: bool | None = None
    why: Mapping[str, str] = field(default_factory=dict, compare=False)


def choose(
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    *,
    layout: str = "auto",
    fused: bool | None = None,
    keep_freed: bool | None = None,
    products: bool | None = None,
    capture: bool | None = None,
    compile: bool | None = None,
    micro_batch: int | None = None,
    resident: bool | None = None,
) -> Setup:
    """Resolve what was left open from what this machine has.

    Raises:
        LeafwingError: a device, precision, layout or count that does not exist, here or at all.
    """
    why: dict[str, str] = {}

    def decide(name: str, asked: bool | None, otherwise: bool, because: str) -> bool:
        why[name] = because if asked is None else "as asked"
        return otherwise if asked is None else asked

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = device.partition(":")[0]
    if device == "auto":
        device = kind = next(name for name in ("cuda", "mps", "cpu") if available[name])
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
    if layout not in LAYOUTS:
        raise LeafwingError(f"no layout {layout!r}; choose from {', '.join(LAYOUTS)}")
    why["layout"] = "convolutions are faster in it" if layout == "auto" else "as asked"
    if threads is not None and threads < 1:
        raise LeafwingError(f"threads {threads}: at least 1 is needed")
    if threads is None:
        threads, why["threads"] = min(torch.get_num_threads(), cores()), "one for each core that this process may use"
    else:
        why["threads"] = "as asked"
    if micro_batch is not None and micro_batch < 0:
        raise LeafwingError(f"micro-batch {micro_batch}: a number of images, or 0 for the whole batch")
    why["micro_batch"] = "the whole batch at a time, less if memory does not suffice" if micro_batch is None else "as asked"
    why["resident"] = ("on the device where they fit" if kind != "cpu" else "in memory") if resident is None else "as asked"
    if capture and kind != "cuda":
        raise LeafwingError(f"only CUDA captures turns, not {device}: leave --capture away")
    fuses = kind in ("cpu", "cuda")
    amx = kind == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    because = "the library's are slow on AMX" if precision == "bf16" else "only in bf16"
    return Setup(
        device,
        precision,
        threads,
        "channels_last" if layout == "auto" else layout,
        decide("fused", fused, fuses, f"{kind} {'has' if fuses else 'has not'} optimisers in one kernel"),
        decide("keep_freed", keep_freed, True, "every step asks for the same blocks again"),
        decide("products", products, amx and precision == "bf16", because if amx else f"{device} has no AMX"),
        decide(
            "capture", capture, kind == "cuda", "turns are launched at once" if kind == "cuda" else f"{kind} has no graphs"
        ),
        decide("compile", compile, False, "compiling takes long, and on a CPU brings little"),
        micro_batch or 0,
        resident,
        why,
    )


def native_bf16(device: str) -> bool:
    """Whether bf16 is fast on this device. Emulated on a CPU it is 2 to 30 times slower than fp32."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False


def speed_of_threads(*counts: int, seconds: float = 0.05) -> dict[int, float]:
    """How fast small matrix products are just now with each of these numbers of threads: products per second.

    Threads wait for each other at the end of every operation. Where another program holds one of the cores, all wait for the
    thread that shares it, and two threads are slower than one.
    """
    before = torch.get_num_threads()
    speed: dict[int, float] = {}
    a = torch.ones(256, 256)
    try:
        for number in counts:
            torch.set_num_threads(number)
            torch.mm(a, a)
            done, started = 0, time.perf_counter()
            while (passed := time.perf_counter() - started) < seconds:
                torch.mm(a, a)
                done += 1
            speed[number] = done / passed
    finally:
        torch.set_num_threads(before)
    return speed


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
