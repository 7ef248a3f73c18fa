"""Accuracy of the oracle of the data set `sprites`, on clean and degraded images.

    python bench/sprites.py
    python bench/sprites.py --sheet sprites.png

Images of each of --sizes are read unchanged, with Gaussian noise of standard deviation 0.1, 0.2 and 0.3 in [-1, 1], and with a
Gaussian blur of 0.5, 1 and 2 pixels for images of 32 px (2, 4 and 8 for 128 px). All are first rounded to 256 levels, like saved
images. Rows hold the shares of images whose shape, colour, size (how_large), place, background, or all of these (caption) are
read correctly, regardless of confidence; `sure` is the share of readings with sufficient confidence, and `angle` the median error in
degrees for shapes that are rotated. The cases `blank`, `static`, `ghosts` and `two sprites` do not show a single sprite: only
`sure` is meaningful there, and should be low. A ghost is the mean of two images; some keep one clear sprite. One row per case.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from leafwing.machine import versions
from leafwing.sprites import pictures, read, scenes
from leafwing.sprites.draw import draw, edges
from leafwing.sprites.scene import Scenes
from leafwing.sprites.words import WORDS
from rows import argument_parser, store


def blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur; `sigma` in pixels. The edge pixels are repeated."""
    reach = int(np.ceil(3 * sigma))
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    for axis in (1, 2):
        pads = [(reach, reach) if i == axis else (0, 0) for i in range(4)]
        padded = np.pad(x, pads, mode="edge")
        parts = (w * np.take(padded, range(i, i + x.shape[axis]), axis) for i, w in enumerate(bell / bell.sum()))
        x = sum(parts, start=np.zeros_like(x))
    return x


def changes(images: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Clean and degraded images, uint8, with the name of the case."""
    yield "clean", images
    random = np.random.Generator(np.random.Philox(seed))
    for sd in (0.1, 0.2, 0.3):
        yield f"noise {sd}", rounded(images + 127.5 * sd * random.standard_normal(images.shape, np.float32))
    for sigma in (0.5, 1.0, 2.0):
        yield f"blur {sigma}", rounded(blurred(images.astype(np.float32), sigma * images.shape[1] / 32))


def no_sprites(images: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Images without a single sprite: a plain colour, noise, means of two images."""
    random = np.random.Generator(np.random.Philox(seed))
    n, size = images.shape[:2]
    yield "blank", np.repeat(np.repeat(random.integers(0, 256, (n, 1, 1, 3), np.uint8), size, 1), size, 2)
    yield "static", random.integers(0, 256, images.shape, np.uint8)
    other = np.roll(images, 1, axis=0)
    yield "ghosts", ((images.astype(np.uint16) + other) // 2).astype(np.uint8)


def two_sprites(truth: Scenes, size: int) -> np.ndarray:
    """Each sprite twice: at its position, and shifted by half the image."""
    single = draw(truth, size)
    background = single[:, :1, :1].astype(np.int16)
    other = np.roll(single, (size // 2, size // 2), axis=(1, 2))
    return np.where((single != background).any(axis=3, keepdims=True), single, other)


def rounded(levels: np.ndarray) -> np.ndarray:
    """Rounded to the 256 levels of a saved image."""
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def measure(images: np.ndarray, truth: Scenes | None) -> dict[str, float | list[float]]:
    """Accuracy of the oracle on images of known scenes; without scenes only its confidence."""
    started = time.perf_counter()
    reading = read(images)
    seconds = time.perf_counter() - started
    row: dict[str, float | list[float]] = {}
    if truth is not None:
        all_correct = np.ones(len(truth), bool)
        for part in WORDS:
            correct = getattr(reading.scenes, part) == getattr(truth, part)
            row["how_large" if part == "size" else part] = round(float(correct.mean()), 4)
            all_correct &= correct
        row["caption"] = round(float(all_correct.mean()), 4)
        turns = truth.shape > 0
        row["angle"] = round(float(np.median(np.abs(reading.scenes.angle - truth.angle)[turns])), 2)
    row["sure"] = round(float(reading.sure.mean()), 4)
    row["confidence"] = [round(float(value), 3) for value in np.quantile(reading.confidence, (0.01, 0.5, 0.99))]
    return {**row, "ms": round(1000 * seconds / len(images), 2)}


def sheet(path: Path) -> None:
    """Draw a sheet with a row per shape and colour: at 16, 32 and 64 pixels, the outline, and the caption."""
    every = scenes(2592, seed=1)
    rows = [np.flatnonzero((every.shape == i % 6) & (every.colour == (i + i // 6) % 6))[i] for i in range(12)]
    chosen, side = every.rows(np.array(rows)), 128
    page = Image.new("RGB", (4 * side + 480, len(chosen) * (side + 4)), "white")
    drawing = ImageDraw.Draw(page)
    columns = [draw(chosen, 16), draw(chosen, 32), draw(chosen, 64), np.repeat(edges(chosen, 64), 3, axis=3)]
    for i, caption in enumerate(chosen.captions):
        for j, column in enumerate(columns):
            page.paste(
                Image.fromarray(column[i]).resize((side - 4, side - 4), Image.Resampling.NEAREST), (j * side, i * (side + 4))
            )
        drawing.text((4 * side + 8, i * (side + 4) + side // 2 - 6), str(caption), fill="black")
    page.save(path)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--n", type=int, default=2000, help="number of samples")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128], help="image sizes in pixels")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--sheet", type=Path, help="draw a sheet of examples to this file instead")
    args = parser.parse_args()
    if args.sheet:
        return sheet(args.sheet)
    for size in args.sizes:
        images, truth = pictures(args.n, size, args.seed)
        about = {"bench": "sprites", "size": f"{size}x{size}x3", "samples": args.n, "seed": args.seed}
        for case, changed in changes(images, args.seed):
            store({**about, "case": case, **measure(changed, truth), **versions()}, args.results)
        for case, changed in (*no_sprites(images, args.seed), ("two sprites", two_sprites(truth, size))):
            store({**about, "case": case, **measure(changed, None), **versions()}, args.results)


if __name__ == "__main__":
    main()
