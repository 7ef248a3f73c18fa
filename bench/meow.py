"""The Meow run: 209 epochs over 9,304 images at 64 px, width 128. It took the article's author two to three hours.

    python bench/meow.py photos
    python bench/meow.py --images 1.94M

Without a source, 9,304 images of coloured noise are generated; the time is the same. The seconds are those of the whole command,
including reading the images, checkpoints and sample grids.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import leafwing
from leafwing.engine import choose
from leafwing.machine import versions
from rows import argument_parser, store

PICTURES, EPOCHS = 9_304, 209


def noise(folder: Path) -> Path:
    """A folder of as many images of coloured noise as the article had photos."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(PICTURES):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg", quality=90)
    return folder


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", nargs="?", help="folder of images; by default noise")
    parser.add_argument("--images", help="training length in images, if less than all")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    parser.add_argument("--width", type=int, default=128, help="width of the networks")
    parser.add_argument("--max-width", type=int, default=1024, help="maximum width of the networks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--out", type=Path, help="path at which to keep the run folder")
    args = parser.parse_args()
    setup = choose(args.device)
    with tempfile.TemporaryDirectory() as scratch:
        source = args.source or noise(Path(scratch) / "noise")
        started = time.perf_counter()
        run = leafwing.train(
            source,
            "dcgan",
            size=64,
            images=args.images or PICTURES * EPOCHS,
            device=setup.device,
            batch=args.batch,
            width=args.width,
            max_width=args.max_width,
            lr_d=5e-5,
            out=args.out or Path(scratch) / "run",
        )
        seconds = time.perf_counter() - started
        last = run.records()[-1]
        row = {
            "bench": "meow",
            "pictures": "given" if args.source else "noise",
            "images": last["images"],
            "seconds": round(seconds, 1),
            "training_seconds": last["seconds"],
            "images_per_second": round(last["images"] / last["seconds"], 1),
            "memory_mib": round(last["memory"] / 2**20),
            "batch": args.batch,
            "width": args.width,
            **{key: getattr(run.settings.machine, key) for key in ("device", "precision", "threads", "capture")},
            **versions(),
        }
    store(row, args.results)


if __name__ == "__main__":
    main()
