"""Speed and memory of generating many samples and writing them as PNG files.

    python bench/sampling.py

10,000 samples of 64 px of an untrained `dcgan`. Generation: all at once in fp32, like one call of `Model.sample`; in blocks in fp32;
in blocks in bf16 with channels last. Writing: with one thread, and with the default threads of `write_images`. Both: all at once with
one thread; in blocks with threads, in fp32 and bf16. Each case runs in its own processes, because peak memory and allocator settings
belong to a process; the cases alternate, and rows hold medians. Cases in bf16 are skipped where the hardware does not support it.
One row per case. And a row with the time of a single sample, as interactive use needs it; `--only-single` measures nothing else.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import nn

from leafwing import pictures, recipes
from leafwing.commands.sample import collect, image_files
from leafwing.engine import choose, fast_bf16, keep_freed_memory, peak_memory, synchronise
from leafwing.game import DataSpec
from leafwing.machine import versions
from leafwing.model import Model
from rows import argument_parser, store

SPEC = DataSpec.images(64, 64)
KIND = SPEC.fields["image"]
SINGLE_CALLS = 50
# case: (precision, or None without generation; whether in blocks; whether several threads write, or None without writing)
CASES: dict[str, tuple[str | None, bool, bool | None]] = {
    "make, at once, fp32": ("fp32", False, None),
    "make, blocks, fp32": ("fp32", True, None),
    "make, blocks, bf16": ("bf16", True, None),
    "write, 1 thread": (None, False, False),
    "write, threads": (None, False, True),
    "make and write, at once, fp32, 1 thread": ("fp32", False, False),
    "make and write, blocks, fp32, threads": ("fp32", True, True),
    "make and write, blocks, bf16, threads": ("bf16", True, True),
}


def untrained(width: int, device: str, precision: str) -> Model:
    """An untrained `dcgan`, with the running statistics of one batch, without which its samples would be plain grey."""
    torch.manual_seed(0)
    options = recipes.describe("dcgan").resolve({"width": width})
    game = recipes.build("dcgan", recipes.find("dcgan"), SPEC, options)
    model = Model(game, SPEC, device, precision)
    net = game.players["G"].net.requires_grad_(False).to(device)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net(model.latents(64, seed=1))
    net.eval()
    if precision == "bf16":  # like `Model.load`
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def measure(case: str, n: int, width: int, device: str, cores: int, parent: str | None) -> tuple[float, int, int]:
    """Seconds of one case, and peak memory before and after in bytes: of the process, or of the device on CUDA."""
    precision, blocks, threads = CASES[case]
    torch.set_num_threads(cores)
    model = untrained(width, device, precision or "fp32")
    examples = collect(model.stream(model.latents(256)), 256, KIND)
    if blocks:
        keep_freed_memory()
    latents = model.latents(n)
    synchronise(device)
    before = peak_memory(device)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        started = time.perf_counter()
        if precision is None:
            files = ((folder / f"{i:06d}.png", pixels) for i, pixels in zip(range(n), itertools.cycle(examples)))
            pictures.write_images(files, None if threads else 1)
        elif threads is None:
            if blocks:
                collect(model.stream(latents), n, KIND)
            else:
                pictures.to_pixels(model.generate(latents))
        else:
            batches = model.stream(latents) if blocks else iter([model.generate(latents)])
            pictures.write_images(image_files(batches, KIND, folder, [], ".png"), None if threads else 1)
        seconds = time.perf_counter() - started
    return seconds, before, peak_memory(device)


def time_single(width: int, device: str, cores: int) -> list[float]:
    """Milliseconds of each of several calls for one sample, after a few to warm up."""
    torch.set_num_threads(cores)
    model = untrained(width, device, "fp32")
    milliseconds = []
    for seed in range(SINGLE_CALLS + 5):
        started = time.perf_counter()
        model.sample(1, seed)
        synchronise(device)
        milliseconds.append(1_000 * (time.perf_counter() - started))
    return milliseconds[5:]


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--n", type=int, default=10_000, help="number of samples")
    parser.add_argument("--width", type=int, default=64, help="width of the networks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--repetitions", type=int, default=3, help="number of repetitions")
    parser.add_argument("--folder", default=None, help="folder to write to; by default a temporary folder of the system")
    parser.add_argument("--only-single", action="store_true", help="measure only the time of a single sample")
    args = parser.parse_args()
    setup = choose(args.device)
    context = multiprocessing.get_context("spawn")
    common = {"shape": SPEC.shape, "width": args.width, "device": setup.device, "threads": setup.threads, **versions()}
    with ProcessPoolExecutor(1, context) as pool:
        times = pool.submit(time_single, args.width, setup.device, setup.threads).result()
    summary = {"median": statistics.median(times), "slowest": max(times), "fastest": min(times)}
    single = {f"milliseconds_{name}": round(value, 2) for name, value in summary.items()}
    store(
        {"bench": "sampling", "case": "one sample, fp32", "samples": 1, "calls": len(times), **single, **common},
        args.results,
    )
    if args.only_single:
        return
    cases = [case for case, (precision, _, _) in CASES.items() if precision != "bf16" or fast_bf16(setup.device)]
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    peaks: dict[str, tuple[int, int]] = {}
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for _, case in itertools.product(range(args.repetitions), cases):
            elapsed, before, after = pool.submit(
                measure, case, args.n, args.width, setup.device, setup.threads, args.folder
            ).result()
            seconds[case].append(elapsed)
            peaks[case] = before, after
    for case in cases:
        elapsed = statistics.median(seconds[case])
        row = {
            "bench": "sampling",
            "case": case,
            "samples": args.n,
            "seconds": round(elapsed, 2),
            "slowest": round(max(seconds[case]), 2),
            "fastest": round(min(seconds[case]), 2),
            "images_per_second": round(args.n / elapsed, 1),
            "peak_mib": round(peaks[case][1] / 2**20),
            "peak_mib_before": round(peaks[case][0] / 2**20),
            **common,
        }
        store(row, args.results)


if __name__ == "__main__":
    main()
