"""The share of a training step that goes into reading its batch.

    python bench/reading.py photos --size 64

Steps of `dcgan` and reads of batches of the same size are timed in turn in one process; medians. One row.
"""

from __future__ import annotations

import statistics
import time

import torch

from leafwing import recipes
from leafwing.data import load
from leafwing.engine import Engine, choose
from leafwing.loop import Training
from leafwing.machine import versions
from rows import argument_parser, store


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", help="folder of images or built-in data set")
    parser.add_argument("--size", default="64", help="image size in pixels")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    parser.add_argument("--rounds", type=int, default=10, help="number of rounds")
    args = parser.parse_args()
    data = load(args.source, size=None if args.source == "digits" else args.size)
    torch.manual_seed(0)
    options = recipes.describe("dcgan").resolve({"batch": args.batch})
    game = recipes.build("dcgan", recipes.find("dcgan"), data.spec, options)
    setup = choose()
    training = Training(game, data.batches(0, setup.device), Engine(game, setup), images=10**9, batch=args.batch)
    steps, reads = [], []
    for i, tick in enumerate(training.ticks(args.batch)):
        steps.append(args.batch / tick.images_per_second)
        started = time.perf_counter()
        for k in range(10):
            data.batch(1, (10 * i + k) * args.batch, args.batch)
        reads.append((time.perf_counter() - started) / 10)
        if i == args.rounds:
            break
    step, read = statistics.median(steps[1:]), statistics.median(reads[1:])
    row = {
        "bench": "reading",
        "shape": data.spec.shape,
        "samples": len(data),
        "batch": args.batch,
        "step_ms": round(1000 * step, 2),
        "read_ms": round(1000 * read, 4),
        "share": round(read / step, 5),
        "device": setup.device,
        "precision": setup.precision,
        "threads": setup.threads,
        **versions(),
    }
    store(row, args.results)


if __name__ == "__main__":
    main()
