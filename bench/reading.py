"""What share of a training step goes into reading its batch?

    python bench/reading.py photos --size 64

Steps of `dcgan` and reads of batches of the same size are timed in turn in one process; medians. One JSON line goes to --results.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from leafwing import recipes
from leafwing.data import load
from leafwing.engine import Engine, choose
from leafwing.loop import Training
from leafwing.runs import versions
from rows import keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--size", default="64")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "reading.jsonl")
    given = parser.parse_args()
    data = load(given.source, size=None if given.source == "digits" else given.size)
    torch.manual_seed(0)
    options = recipes.describe("dcgan").resolve({"batch": given.batch})
    game = recipes.build("dcgan", recipes.find("dcgan"), data.spec, options)
    setup = choose()
    training = Training(
        game, lambda images, n: data.batch(0, images, n), Engine(game, setup), images=10**9, batch=given.batch
    )
    steps, reads = [], []
    for i, tick in enumerate(training.ticks(given.batch)):
        steps.append(given.batch / tick.images_per_second)
        started = time.perf_counter()
        for k in range(10):
            data.batch(1, (10 * i + k) * given.batch, given.batch)
        reads.append((time.perf_counter() - started) / 10)
        if i == given.rounds:
            break
    step, read = statistics.median(steps[1:]), statistics.median(reads[1:])
    row = {
        "bench": "reading",
        "shape": data.spec.shape,
        "samples": len(data),
        "batch": given.batch,
        "step_ms": round(1000 * step, 2),
        "read_ms": round(1000 * read, 4),
        "share": round(read / step, 5),
        "device": setup.device,
        "precision": setup.precision,
        "threads": setup.threads,
        **versions(),
    }
    keep(row, given.results)


if __name__ == "__main__":
    main()
