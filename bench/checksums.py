"""What it costs to verify the checksums of a pack when a process opens it for the first time.

    python bench/checksums.py

Verifies a file of decoded images several times, while it is in the system's cache of files; the median. One row.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from leafwing.files import are_intact, record_files
from leafwing.machine import versions
from rows import argument_parser, store


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--samples", type=int, default=20_000, help="number of images of 64x64x3 bytes")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, seconds = Path(name), []
        images = np.random.default_rng(0).integers(0, 256, (args.samples, 64, 64, 3), dtype=np.uint8)
        np.save(folder / "pictures.npy", images)
        record = folder / "checksums.json"
        record_files(folder, ["pictures.npy"], record)
        for _ in range(args.rounds):
            started = time.perf_counter()
            assert are_intact(folder, record)
            seconds.append(time.perf_counter() - started)
    middle = statistics.median(seconds)
    row = {
        "bench": "checksums",
        "samples": args.samples,
        "size": 64,
        "seconds": round(middle, 4),
        "megabytes_per_second": round(images.nbytes / 1e6 / middle),
        **versions(),
    }
    store(row, args.results)


if __name__ == "__main__":
    main()
