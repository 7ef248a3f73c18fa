"""Does the cost of training grow with its arithmetic, over image sizes, batches and amounts of data? Is its memory estimate right?

    python bench/growth.py

Recipes at 32 to 256 px and with batches of 16 to 512: seconds per image and per floating-point operation, relative to the reference
(`dcgan`, 64 px, a batch of 64), which is measured at the start, halfway and at the end; batches also relative to a batch of 64 at
the same size; and peak memory compared with `footprint`, also for other kinds of recipes. Then data sets of 1,000 to 1,000,000
images in the cache: the first batch, a typical batch, and the batch at the end of an epoch. Every case runs in its own process,
because peak memory belongs to a process. One row per case; the last line of output is a summary.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leafwing.data import Dataset
from leafwing.engine import choose, peak_memory
from leafwing.engine.footprint import FIRST_USE, estimate_footprint, resident_memory, state_tensors, total_bytes
from leafwing.engine.turns import WARM_UPS
from leafwing.machine import versions
from recipes import Side, alone, arithmetic, pictures, rounds, training_of
from rows import argument_parser, store

REFERENCE = ("dcgan", 64, 64, 64)
# (recipe, image size, width, batch)
SIZES = [(recipe, px, 64, batch) for recipe in ("dcgan", "cgan") for px, batch in ((32, 64), (64, 64), (128, 16), (256, 16))]
# with the shapes of the reference, and of a network so small that overheads matter
BATCHES = [("dcgan", px, px, batch) for px in (64, 32) for batch in (16, 32, 64, 128, 256, 512)]
OTHERS = [
    ("wgan_gp", 32, 32, 64),
    ("r3gan", 32, 16, 32),
    ("gan", 32, 0, 128),
]  # for their memory: no normalisation, double backward, no convolutions
SAMPLES = (1_000, 10_000, 100_000, 1_000_000)
MIB = 2**20


def train(case: tuple[str, int, int, int], setup_options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Train a case for a while: speed, arithmetic, peak memory and its estimate."""
    recipe, px, width, batch = case
    setup = choose(**setup_options)
    training = training_of(Side(recipe, {"width": width, "batch": batch}), pictures(px, 3), setup)
    engine, cuda = training.engine, setup.device.startswith("cuda")
    base = 0 if cuda else resident_memory() - total_bytes(state_tensors(engine)) + FIRST_USE
    rounds(training, 2 + WARM_UPS * setup.capture)
    seconds_per_image: list[float] = []
    until = time.perf_counter() + seconds
    while len(seconds_per_image) < 3 or time.perf_counter() < until:
        seconds_per_image.append(rounds(training, 1))
    peak = peak_memory(setup.device)  # read before anything but training uses memory
    started = time.perf_counter()
    estimate = replace(estimate_footprint(engine, training.batches(0, 4), batch), base=base)
    elapsed = time.perf_counter() - started
    flop, _ = arithmetic(training)
    parts = ("weights", "gradients", "optimiser", "data", "activations", "holes", "base", "total")
    return {
        "recipe": recipe,
        "size": px,
        "width": width,
        "batch": batch,
        "images_per_second": round(1 / statistics.median(seconds_per_image), 2),
        "mflop_per_image": round(flop / 1e6, 2),
        "gflops": round(flop / statistics.median(seconds_per_image) / 1e9, 2),
        "peak_mib": round(peak / MIB, 1),
        "foreseen_mib": {part: round(getattr(estimate, part) / MIB, 1) for part in parts},
        "foreseen_ratio": round(estimate.total / peak, 3),
        "foreseen_ratio_above_base": round((estimate.total - base) / (peak - base), 3),
        "footprint_seconds": round(elapsed, 2),
        "precision": setup.precision,
        "threads": setup.threads,
    }


def read_batches(samples: int, folder: str, batch: int = 64) -> dict[str, Any]:
    """Read batches from a newly written cache of 16 px images: milliseconds, and memory."""
    spec = pictures(16, 3)
    path = Path(folder) / f"{samples}.npy"
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (samples, 16, 16, 3))
    noise = np.random.default_rng(0).integers(0, 256, (1_000, 16, 16, 3), dtype=np.uint8)
    for start in range(0, samples, 1_000):
        pixels[start : start + 1_000] = noise
    del pixels
    labels = np.zeros(samples, np.int64)
    before, private_before = resident_memory(), private()
    columns = {"image": np.load(path, mmap_mode="r"), "label": labels}
    data = Dataset(spec, columns, "none", str(path), {})

    def milliseconds(images: int) -> float:
        started = time.perf_counter()
        data.batch(0, images, batch)
        return 1000 * (time.perf_counter() - started)

    first = milliseconds(0)
    usual = [milliseconds(batch * k) for k in range(1, min(200, samples // batch))]
    end = milliseconds(samples - batch // 2)  # half of it belongs to the next epoch
    after = milliseconds(samples + batch)
    path.unlink()
    return {
        "samples": samples,
        "batch": batch,
        "first_ms": round(first, 3),
        "usual_ms": round(statistics.median(usual), 3),
        "epoch_ends_ms": round(end, 3),
        "after_ms": round(after, 3),
        "private_mib": round((private() - private_before) / MIB, 1),
        "mapped_mib": round((resident_memory() - before - private() + private_before) / MIB, 1),
    }


def private() -> int:
    """Bytes of private memory of this process, without memory-mapped files; 0 where it is unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("parts", nargs="*", help="sizes, batches, others, samples; by default all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--largest", type=int, default=256, help="maximum image size in pixels")
    parser.add_argument("--seconds", type=float, default=3.0, help="training time per case, at least three rounds")
    args = parser.parse_args()
    setup = choose(args.device, args.precision, args.threads or torch.get_num_threads())
    setup_options = {"device": setup.device, "precision": setup.precision, "threads": setup.threads}
    groups = {"sizes": SIZES, "batches": BATCHES, "others": OTHERS}
    selected = args.parts or [*groups, "samples"]
    cases = [(part, case) for part in groups if part in selected for case in groups[part] if case[1] <= args.largest]
    half = len(cases) // 2
    reference = [("reference", REFERENCE)]
    rows = []
    for part, case in [*reference, *cases[:half], *reference, *cases[half:], *reference] if cases else []:
        rows.append((part, alone(train, case, setup_options, args.seconds)))
        print(f"{part} {case}: {rows[-1][1]['images_per_second']} images/s", file=sys.stderr, flush=True)
    speed = statistics.median([row["gflops"] for part, row in rows if part == "reference"] or [1])
    batch_of_64 = {row["size"]: row["gflops"] for part, row in rows if part == "batches" and row["batch"] == 64}
    summary: dict[str, Any] = {}
    common = {"device": setup.device, **versions()}
    for part, row in rows:
        row["seconds_per_flop"] = round(speed / row["gflops"], 3)
        if part == "batches":
            row["beside_batch_of_64"] = round(batch_of_64[row["size"]] / row["gflops"], 3)
        store({"bench": "growth", "case": part, **row, **common}, args.results)
        name = f"{row['recipe']} {row['size']} px, {row['batch']}"
        summary[f"{part}: {name}"] = (row["seconds_per_flop"], row["foreseen_ratio"])
    if "samples" in selected:
        with tempfile.TemporaryDirectory() as folder:
            for samples in SAMPLES:
                row = alone(read_batches, samples, folder)
                store({"bench": "growth", "case": "samples", **row, **common}, args.results)
                summary[f"{samples} samples"] = row["usual_ms"]
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
