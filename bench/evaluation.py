"""Time and memory of an evaluation.

    python bench/evaluation.py photos
    python bench/evaluation.py

5,000 samples of a `dcgan` of 64 px are compared with 5,000 real images by fid, kid and prdc, with each feature network that needs
no download; `own` is trained in the first case and cached in the second. For comparison: the peak memory of training the same
network with batches of 64. Without a source, 5,000 images of coloured noise are generated; the time is the same. Each case runs in
its own process, because peak memory belongs to a process. One row per case.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import leafwing
from leafwing.commands import evaluate
from leafwing.engine import choose, peak_memory
from leafwing.machine import versions
from rows import argument_parser, store

METRICS = "fid,kid,prdc"
CASES = {
    "pixels": ("pixels", METRICS),
    "own, trained": ("own", METRICS),
    "own, cached": ("own", METRICS),
    "no network": ("pixels", "swd"),
}


def noise(folder: Path, n: int) -> Path:
    """A folder of n images of coloured noise."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(n):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.png")
    return folder


def train(source: str, out: str, width: int, threads: int) -> int:
    """Train a few rounds; returns the peak memory of the process in bytes."""
    leafwing.train(source, "dcgan", images=1280, size=64, width=width, device="cpu", threads=threads, out=out)
    return peak_memory("cpu")


def measure(run: str, case: str, n: int, threads: int) -> tuple[float, dict[str, float], int]:
    """Total seconds, seconds by metric, and the peak memory of the process in bytes."""
    torch.set_num_threads(threads)
    features, metrics = CASES[case]
    started = time.perf_counter()
    rows = evaluate(run, features=features, metrics=metrics, n=n, recompute=True, with_scale=False)
    return time.perf_counter() - started, {row["by"]: row["seconds"] for row in rows}, peak_memory("cpu")


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", nargs="?", help="folder of images; by default noise")
    parser.add_argument("--n", type=int, default=5_000, help="number of samples")
    parser.add_argument("--width", type=int, default=64, help="width of the networks")
    args = parser.parse_args()
    threads = choose("cpu").threads
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        os.environ["LEAFWING_CACHE"] = f"{scratch}/cache"  # set before the first process starts
        source, run = args.source or str(noise(Path(scratch) / "noise", args.n)), f"{scratch}/run"
        common: dict[str, Any] = {
            "bench": "evaluation",
            "samples": args.n,
            "size": 64,
            "width": args.width,
            "pictures": "own" if args.source else "noise",
            "device": "cpu",
            "threads": threads,
        }
        peak = pool.submit(train, source, run, args.width, threads).result()
        store({**common, "case": "training", "peak_mib": round(peak / 2**20), **versions()}, args.results)
        for case in CASES:
            seconds, seconds_by_metric, peak = pool.submit(measure, run, case, args.n, threads).result()
            row = {
                "case": case,
                "seconds": round(seconds, 1),
                "by_metric": seconds_by_metric,
                "peak_mib": round(peak / 2**20),
            }
            store({**common, **row, **versions()}, args.results)


if __name__ == "__main__":
    main()
