"""Does the cost of training grow as its arithmetic does, with the size of pictures, batches and data, and is its memory foreseen?

    python bench/growth.py

Recipes over 32 to 256 px and over batches of 16 to 512: seconds for each image and floating-point operation, relative to the
reference (`dcgan`, 64 px, a batch of 64), which is taken at the start, half-way and at the end; batches beside a batch of 64 of the
same pictures too; and the peak memory beside what `footprint` says, also for recipes of other kinds. Then data sets of 1,000 to
1,000,000 packed pictures: the first batch, the usual one, and the one in which an epoch ends. Every case has a process of its own,
because peak memory is a whole process's. One JSON line a case goes to --results; the last line holds the figures alone.
"""

from __future__ import annotations

import argparse
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
from leafwing.engine.footprint import FIRST_USE, estimate_footprint, resident_memory, size, state_tensors
from leafwing.engine.turns import WARM_UPS
from leafwing.runs import versions
from recipes import Side, alone, arithmetic, pictures, rounds, training_of
from rows import keep

REFERENCE = ("dcgan", 64, 64, 64)
# (recipe, size of the pictures, width, batch)
SIZES = [(recipe, px, 64, batch) for recipe in ("dcgan", "cgan") for px, batch in ((32, 64), (64, 64), (128, 16), (256, 16))]
# at the shapes of the reference, and of a network so small that calls and the optimiser count
BATCHES = [("dcgan", px, px, batch) for px in (64, 32) for batch in (16, 32, 64, 128, 256, 512)]
OTHERS = [
    ("wgan_gp", 32, 32, 64),
    ("r3gan", 32, 16, 32),
    ("gan", 32, 0, 128),
]  # for their memory: no norm, watched, no picture
SAMPLES = (1_000, 10_000, 100_000, 1_000_000)
MIB = 2**20


def train(case: tuple[str, int, int, int], how: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Trains a case for a while: speed, arithmetic, peak memory and what was foreseen of it."""
    recipe, px, width, batch = case
    setup = choose(**how)
    training = training_of(Side(recipe, {"width": width, "batch": batch}), pictures(px, 3), setup)
    engine, cuda = training.engine, setup.device.startswith("cuda")
    base = 0 if cuda else resident_memory() - size(state_tensors(engine)) + FIRST_USE
    rounds(training, 2 + WARM_UPS * setup.capture)
    found: list[float] = []
    until = time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < until:
        found.append(rounds(training, 1))
    peak = peak_memory(setup.device)  # read before anything but training has taken some
    started = time.perf_counter()
    foreseen = replace(estimate_footprint(engine, training.batches(0, 4), batch), base=base)
    took = time.perf_counter() - started
    flop, _ = arithmetic(training)
    parts = ("weights", "gradients", "optimiser", "data", "activations", "holes", "base", "total")
    return {
        "recipe": recipe,
        "size": px,
        "width": width,
        "batch": batch,
        "images_per_second": round(1 / statistics.median(found), 2),
        "mflop_per_image": round(flop / 1e6, 2),
        "gflops": round(flop / statistics.median(found) / 1e9, 2),
        "peak_mib": round(peak / MIB, 1),
        "foreseen_mib": {part: round(getattr(foreseen, part) / MIB, 1) for part in parts},
        "foreseen_ratio": round(foreseen.total / peak, 3),
        "foreseen_ratio_above_base": round((foreseen.total - base) / (peak - base), 3),
        "footprint_seconds": round(took, 2),
        "precision": setup.precision,
        "threads": setup.threads,
    }


def draw(samples: int, folder: str, batch: int = 64) -> dict[str, Any]:
    """Draws batches of a pack of 16 px that was just written: milliseconds, and the memory that it took."""
    spec = pictures(16, 3)
    path = Path(folder) / f"{samples}.npy"
    written = np.lib.format.open_memmap(path, "w+", np.uint8, (samples, 16, 16, 3))
    noise = np.random.default_rng(0).integers(0, 256, (1_000, 16, 16, 3), dtype=np.uint8)
    for start in range(0, samples, 1_000):
        written[start : start + 1_000] = noise
    del written
    labels = np.zeros(samples, np.int64)
    before, own = resident_memory(), private()
    data = Dataset(spec, np.load(path, mmap_mode="r"), labels, "none", str(path), {})

    def took(images: int) -> float:
        started = time.perf_counter()
        data.batch(0, images, batch)
        return 1000 * (time.perf_counter() - started)

    first = took(0)
    usual = [took(batch * k) for k in range(1, min(200, samples // batch))]
    end = took(samples - batch // 2)  # half of it is the next epoch's
    after = took(samples + batch)
    path.unlink()
    return {
        "samples": samples,
        "batch": batch,
        "first_ms": round(first, 3),
        "usual_ms": round(statistics.median(usual), 3),
        "epoch_ends_ms": round(end, 3),
        "after_ms": round(after, 3),
        "private_mib": round((private() - own) / MIB, 1),
        "mapped_mib": round((resident_memory() - before - private() + own) / MIB, 1),
    }


def private() -> int:
    """Bytes of memory that are this process's own, without the files that it has mapped; 0 where nothing tells."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="sizes, batches, others, samples; none: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--largest", type=int, default=256, help="pixels")
    parser.add_argument("--seconds", type=float, default=3.0, help="of training for each case, three rounds at the least")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "growth.jsonl")
    given = parser.parse_args()
    setup = choose(given.device, given.precision, given.threads or torch.get_num_threads())
    how = {"device": setup.device, "precision": setup.precision, "threads": setup.threads}
    wanted = {"sizes": SIZES, "batches": BATCHES, "others": OTHERS}
    chosen = given.parts or [*wanted, "samples"]
    cases = [(part, case) for part in wanted if part in chosen for case in wanted[part] if case[1] <= given.largest]
    half = len(cases) // 2
    reference = [("reference", REFERENCE)]
    rows = []
    for part, case in [*reference, *cases[:half], *reference, *cases[half:], *reference] if cases else []:
        rows.append((part, alone(train, case, how, given.seconds)))
        print(f"{part} {case}: {rows[-1][1]['images_per_second']} images/s", file=sys.stderr, flush=True)
    speed = statistics.median([row["gflops"] for part, row in rows if part == "reference"] or [1])
    batch_of_64 = {row["size"]: row["gflops"] for part, row in rows if part == "batches" and row["batch"] == 64}
    summary: dict[str, Any] = {}
    about = {"device": setup.device, **versions()}
    for part, row in rows:
        row["seconds_per_flop"] = round(speed / row["gflops"], 3)
        if part == "batches":
            row["beside_batch_of_64"] = round(batch_of_64[row["size"]] / row["gflops"], 3)
        keep({"bench": "growth", "case": part, **row, **about}, given.results)
        name = f"{row['recipe']} {row['size']} px, {row['batch']}"
        summary[f"{part}: {name}"] = (row["seconds_per_flop"], row["foreseen_ratio"])
    if "samples" in chosen:
        with tempfile.TemporaryDirectory() as folder:
            for samples in SAMPLES:
                row = alone(draw, samples, folder)
                keep({"bench": "growth", "case": "samples", **row, **about}, given.results)
                summary[f"{samples} samples"] = row["usual_ms"]
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
