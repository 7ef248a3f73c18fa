"""How fast are samples made in bulk, and written as PNG files, and in how much memory?

    python bench/sampling.py

10,000 samples of 64 px of an untrained `dcgan`. Made: all at once in fp32, as one call of `Model.sample` does; in blocks in fp32; in
blocks in bf16 with channels last. Written: by one thread, and by as many as `write_pngs` takes. Both: all at once and by one thread;
in blocks and by threads, in fp32 and bf16. Each case runs in processes of its own, because peak memory and the allocator's settings
are a whole process's; the cases take turns, and medians are kept. One JSON line a case goes to --results. Cases in bf16 are left out
where the hardware does not compute it.
"""

from __future__ import annotations

import argparse
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
from leafwing.engine import choose, keep_freed_memory, native_bf16, peak_memory, synchronise
from leafwing.game import DataSpec
from leafwing.model import Model
from leafwing.runs import versions
from rows import keep

SPEC = DataSpec(64, 64, 3)
# case: (precision or nothing made, in blocks, written by threads or by one or not at all)
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
    """`dcgan` as it starts, with the running statistics of one batch: without them its samples would be plain grey."""
    torch.manual_seed(0)
    options = recipes.describe("dcgan").resolve({"width": width})
    game = recipes.build("dcgan", recipes.find("dcgan"), SPEC, options)
    model = Model(game, SPEC, device, precision)
    net = game.players["G"].net.requires_grad_(False).to(device)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    net(model.latents(64, seed=1))
    net.eval()
    if precision == "bf16":  # as `Model.load` does
        net.to(memory_format=torch.channels_last)
    return model


def measure(case: str, n: int, width: int, device: str, cores: int, where: str | None) -> tuple[float, int, int]:
    """Seconds of one case, and the process's peak memory before and after in bytes (of the device on CUDA)."""
    precision, blocks, threads = CASES[case]
    torch.set_num_threads(cores)
    model = untrained(width, device, precision or "fp32")
    some = collect(model.stream(model.latents(256)), 256, SPEC)
    if blocks:
        keep_freed_memory()
    latents = model.latents(n)
    synchronise(device)
    before = peak_memory(device)
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        started = time.perf_counter()
        if precision is None:
            named = ((folder / f"{i:06d}.png", pixels) for i, pixels in zip(range(n), itertools.cycle(some)))
            pictures.write_pngs(named, None if threads else 1)
        elif threads is None:
            if blocks:
                collect(model.stream(latents), n, SPEC)
            else:
                pictures.to_pixels(model.generate(latents))
        else:
            made = model.stream(latents) if blocks else iter([model.generate(latents)])
            pictures.write_pngs(image_files(made, folder, []), None if threads else 1)
        seconds = time.perf_counter() - started
    return seconds, before, peak_memory(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--folder", default=None, help="a folder on the disk to write to; the system's temporary one if not said"
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "sampling.jsonl")
    given = parser.parse_args()
    setup = choose(given.device)
    cases = [case for case, (precision, _, _) in CASES.items() if precision != "bf16" or native_bf16(setup.device)]
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    peaks: dict[str, tuple[int, int]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for _, case in itertools.product(range(given.repetitions), cases):
            found = pool.submit(measure, case, given.n, given.width, setup.device, setup.threads, given.folder).result()
            seconds[case].append(found[0])
            peaks[case] = found[1:]
    for case in cases:
        took = statistics.median(seconds[case])
        row = {
            "bench": "sampling",
            "case": case,
            "samples": given.n,
            "shape": SPEC.shape,
            "width": given.width,
            "seconds": round(took, 2),
            "slowest": round(max(seconds[case]), 2),
            "fastest": round(min(seconds[case]), 2),
            "images_per_second": round(given.n / took, 1),
            "peak_mib": round(peaks[case][1] / 2**20),
            "peak_mib_before": round(peaks[case][0] / 2**20),
            "device": setup.device,
            "threads": setup.threads,
            **versions(),
        }
        keep(row, given.results)


if __name__ == "__main__":
    main()
