"""Detects the hardware and chooses the settings for it: device, precision, threads, memory layout, capture."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from leafwing.errors import InvalidOption, LeafwingError
from leafwing.machine import cores, processor

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
LAYOUTS = ("auto", "channels_last", "contiguous")
REQUESTED = "as requested"


@dataclass(frozen=True)
class Setup:
    """The device on which a game is trained, and the execution settings.

    Args:
        device: cpu, cuda or mps.
        precision: fp32, or bf16 (autocast around networks; losses, optimisers and turns that differentiate twice stay fp32). On
            NVIDIA GPUs convolutions in fp32 are in TF32, as cuDNN does by default; not those of samples and metrics.
        threads: CPU threads; recorded with a run, because the rounding of sums depends on them.
        layout: memory format of images and convolutions: channels_last or contiguous.
        fused: optimisers step in one kernel.
        keep_freed: freed memory is kept for the next step instead of returned to the system (glibc).
        products: convolutions of small maps are computed as matrix products, in bf16.
        capture: turns are captured as CUDA graphs and replayed.
        compile: networks are compiled with `torch.compile`.
        micro_batch: real images per forward pass; 0 for the whole batch.
        resident: whether the data is stored on the device: True, False, or None for "if it fits".
        why: the reason for each choice.
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
    device: str | torch.device = "auto",
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
    """Chooses the settings that are "auto" or None from this machine's hardware.

    Raises:
        LeafwingError: a device, precision, layout or number is invalid or not available on this machine.
    """
    why: dict[str, str] = {}

    def decide(name: str, requested: bool | None, default: bool, reason: str) -> bool:
        why[name] = reason if requested is None else REQUESTED
        return default if requested is None else requested

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = str(device)  # also a torch.device
    kind = device.partition(":")[0]
    if device == "auto":
        device = kind = next(name for name in ("cuda", "mps", "cpu") if available[name])
        why["device"] = f"the first available of cuda, mps, cpu: {device}"
    elif kind not in available:
        raise LeafwingError(f"no device {device!r}; choose from {', '.join(DEVICES)}")
    elif not available[kind]:
        names = ", ".join(name for name, is_available in available.items() if is_available)
        raise InvalidOption(
            "device", device, f"not available on this machine or in this build of PyTorch; available: {names}"
        )
    elif device != kind and device not in (devices := [f"cuda:{number}" for number in range(torch.cuda.device_count())]):
        raise InvalidOption(
            "device", device, f"no such device; choose from {', '.join([kind, *devices * (kind == 'cuda')])}"
        )
    else:
        why["device"] = REQUESTED
    if precision not in PRECISIONS:
        raise LeafwingError(f"no precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "bf16" if fast_bf16(device) else "fp32"
        why["precision"] = f"the faster of fp32 and bf16 on {processor() if device == 'cpu' else device}"
    else:
        why["precision"] = REQUESTED
    if layout not in LAYOUTS:
        raise LeafwingError(f"no layout {layout!r}; choose from {', '.join(LAYOUTS)}")
    why["layout"] = "convolutions are faster" if layout == "auto" else REQUESTED
    if threads is not None and threads < 1:
        raise LeafwingError(f"threads {threads}: must be at least 1")
    if threads is None:
        threads, why["threads"] = min(torch.get_num_threads(), cores()), "one for each core that this process may use"
    else:
        why["threads"] = REQUESTED
    if micro_batch is not None and micro_batch < 0:
        raise LeafwingError(f"micro-batch {micro_batch}: must be a number of images, or 0 for the whole batch")
    why["micro_batch"] = "the whole batch, unless memory is too small" if micro_batch is None else REQUESTED
    why["resident"] = ("on the device if they fit" if kind != "cpu" else "in memory") if resident is None else REQUESTED
    if capture and kind != "cuda":
        raise LeafwingError(f"only CUDA captures turns, not {device}: omit --capture")
    can_fuse = kind in ("cpu", "cuda")
    amx = kind == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    reason = "PyTorch's convolutions are slow on AMX" if precision == "bf16" else "only in bf16"
    use_products = decide("products", products, amx and precision == "bf16", reason if amx else f"{device} has no AMX")
    if use_products and (precision != "bf16" or compile):
        use_products, why["products"] = False, "not with --compile" if compile else "only in bf16"
    return Setup(
        device,
        precision,
        threads,
        "channels_last" if layout == "auto" else layout,
        decide("fused", fused, can_fuse, f"{kind} has {'' if can_fuse else 'no '}fused optimisers"),
        decide("keep_freed", keep_freed, True, "every step allocates the same blocks again"),
        use_products,
        decide("capture", capture, kind == "cuda", "one launch per turn" if kind == "cuda" else f"{kind} has no graphs"),
        decide("compile", compile, False, "compilation is slow, and gains little on a CPU"),
        micro_batch or 0,
        resident,
        why,
    )


def fast_bf16(device: str) -> bool:
    """Whether bf16 is faster than fp32 on the device. Emulated on a CPU, it is 2 to 30 times slower.

    A CPU needs AMX, or the bf16 instructions of AVX-512. The latter gain on AMD; Intel's processors, as in virtual machines that hide
    AMX, are slower with them than in fp32 (bench/levers.py).
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and "Intel" not in processor()))
    return False


def measure_thread_speeds(*counts: int, seconds: float = 0.05) -> dict[int, float]:
    """Small matrix products per second at present, for each of these numbers of threads.

    Threads wait for each other at the end of every operation. If another program occupies a core, all wait for the thread on that
    core, and two threads can be slower than one.
    """
    threads = torch.get_num_threads()
    speeds: dict[int, float] = {}
    a = torch.ones(256, 256)
    try:
        for number in counts:
            torch.set_num_threads(number)
            torch.mm(a, a)
            done, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < seconds:
                torch.mm(a, a)
                done += 1
            speeds[number] = done / elapsed
    finally:
        torch.set_num_threads(threads)
    return speeds


@contextmanager
def isolated() -> Iterator[None]:
    """Torch's random state, default type and number of threads are the same afterwards as before. Inside, the default type is float32
    and gradients are computed, whatever the caller has set."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    was_initialised = torch.cuda.is_initialized()
    torch.set_default_dtype(torch.float32)
    try:
        devices = range(torch.cuda.device_count()) if was_initialised else ()
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        if torch.cuda.is_initialized() and not was_initialised:
            torch.cuda.manual_seed_all(torch.initial_seed())  # as it would have begun
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def full_fp32() -> Iterator[None]:
    """Inside, convolutions in fp32 keep all digits on NVIDIA GPUs; by default cuDNN rounds what they multiply to 10 bits (TF32)."""
    kinds = [getattr(torch.backends.cudnn, name) for name in ("conv", "rnn")]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


@contextmanager
def inference_in(precision: str, device: torch.device) -> Iterator[None]:
    """Networks inside compute samples in this precision: bf16 under autocast, or all of fp32."""
    with full_fp32(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Torch's random state on the CPU and on a device starts at a seed, and is restored afterwards.

    `torch.manual_seed` would also seed the other devices, on which a training may be running.
    """
    seed, device = seed & (1 << 63) - 1, torch.device(device)
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            elif mps is not None:
                torch.mps.manual_seed(seed)
            yield
    finally:
        if mps is not None:
            torch.mps.set_rng_state(mps)


def keep_freed_memory() -> None:
    """Makes glibc keep freed blocks instead of returning them to the kernel; does nothing with other C libraries.

    Every step frees and allocates the same blocks; with glibc's defaults that causes about 300,000 page faults per step.
    """
    if not sys.platform.startswith("linux"):
        return
    mmap_threshold, trim_threshold = -3, -1
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):  # another C library, such as musl
        return


def synchronise(device: str) -> None:
    """Waits until the device has finished its work. For timing; never called within a turn."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def peak_memory(device: str) -> int:
    """Peak memory in bytes: of the device on CUDA, else of the process; 0 if unknown."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
