"""The Meow run: 209 epochs over 9,304 pictures at 64 px, width 128. The article: two to three hours.

    python bench/meow.py photos
    python bench/meow.py --images 1.94M

Without a source 9,304 pictures of coloured noise are made: the time is the same, the pictures show nothing. The seconds are those
from the command to its end: packing, checkpoints and sample grids included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import leafwing
from leafwing.engine import choose
from leafwing.runs import versions
from rows import keep

PICTURES, EPOCHS = 9_304, 209


def noise(folder: Path) -> Path:
    """As many pictures as the article had."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(PICTURES):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg", quality=90)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--images", help="fewer than all, to try it out")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--max-width", type=int, default=1024)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="keep the run folder here")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "meow.jsonl")
    given = parser.parse_args()
    setup = choose(given.device)
    with tempfile.TemporaryDirectory() as scratch:
        source = given.source or noise(Path(scratch) / "noise")
        started = time.perf_counter()
        run = leafwing.train(
            source,
            "dcgan",
            size=64,
            images=given.images or PICTURES * EPOCHS,
            device=setup.device,
            batch=given.batch,
            width=given.width,
            max_width=given.max_width,
            lr_d=5e-5,
            out=given.out or Path(scratch) / "run",
        )
        seconds = time.perf_counter() - started
        last = run.records()[-1]
        row = {
            "bench": "meow",
            "pictures": "given" if given.source else "noise",
            "images": last["images"],
            "seconds": round(seconds, 1),
            "training_seconds": last["seconds"],
            "images_per_second": round(last["images"] / last["seconds"], 1),
            "memory_mib": round(last["memory"] / 2**20),
            "batch": given.batch,
            "width": given.width,
            **{key: getattr(run.settings.machine, key) for key in ("device", "precision", "threads", "capture")},
            **versions(),
        }
    keep(row, given.results)


if __name__ == "__main__":
    main()
