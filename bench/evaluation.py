"""How long does an evaluation take, and in how much memory?

    python bench/evaluation.py photos
    python bench/evaluation.py

5,000 samples of a `dcgan` of 64 px against 5,000 real pictures, by fid, kid and prdc, with each feature network that needs no
download; `own` is trained the first time and found in the cache the second. For comparison, the memory in which the same network
trains with batches of 64. Without a source 5,000 pictures of coloured noise are made: the time is the same. Each case runs in a
process of its own, because peak memory is a whole process's. One JSON line a case goes to --results.
"""

from __future__ import annotations

import argparse
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
from leafwing.runs import versions
from rows import keep

METRICS = "fid,kid,prdc"
CASES = {
    "pixels": ("pixels", METRICS),
    "own, trained": ("own", METRICS),
    "own, cached": ("own", METRICS),
    "no network": ("pixels", "swd"),
}


def noise(folder: Path, n: int) -> Path:
    """So many pictures that look like nothing."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(n):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.png")
    return folder


def train(source: str, out: str, width: int, threads: int) -> int:
    """A few rounds; the process's peak memory in bytes."""
    leafwing.train(source, "dcgan", images=1280, size=64, width=width, device="cpu", threads=threads, out=out)
    return peak_memory("cpu")


def measure(run: str, case: str, n: int, threads: int) -> tuple[float, dict[str, float], int]:
    """Seconds in all and by metric, and the process's peak memory in bytes."""
    torch.set_num_threads(threads)
    features, metrics = CASES[case]
    started = time.perf_counter()
    rows = evaluate(run, features=features, metrics=metrics, n=n, again=True)
    return time.perf_counter() - started, {row["by"]: row["seconds"] for row in rows}, peak_memory("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--n", type=int, default=5_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "evaluation.jsonl")
    given = parser.parse_args()
    threads = choose("cpu").threads
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        os.environ["LEAFWING_CACHE"] = f"{scratch}/cache"  # the first process is started after this
        source, run = given.source or str(noise(Path(scratch) / "noise", given.n)), f"{scratch}/run"
        about: dict[str, Any] = {
            "bench": "evaluation",
            "samples": given.n,
            "size": 64,
            "width": given.width,
            "pictures": "own" if given.source else "noise",
            "device": "cpu",
            "threads": threads,
        }
        peak = pool.submit(train, source, run, given.width, threads).result()
        keep({**about, "case": "training", "peak_mib": round(peak / 2**20), **versions()}, given.results)
        for case in CASES:
            seconds, each, peak = pool.submit(measure, run, case, given.n, threads).result()
            row = {"case": case, "seconds": round(seconds, 1), "by_metric": each, "peak_mib": round(peak / 2**20)}
            keep({**about, **row, **versions()}, given.results)


if __name__ == "__main__":
    main()
