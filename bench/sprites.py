"""How well does the oracle of the world `sprites` read, and when does it fail?

    python bench/sprites.py
    python bench/sprites.py --sheet sprites.png

Pictures of each of --sizes are read as they are, with Gaussian noise of standard deviation 0.1, 0.2 and 0.3 in [-1, 1], and blurred
by a Gaussian of 0.5, 1 and 2 pixels of a picture of 32 (so 2, 4 and 8 of one of 128). All are rounded to 256 levels first, as a
saved picture is. Numbers are shares of pictures whose shape, colour, size (how_large), place, background, or all of these (caption)
are read right, however sure the oracle is; `sure` is the share of readings that count, and `angle` the median error in degrees of
shapes that turn. The cases `blank`, `static`, `ghosts` and `two sprites` are pictures that show no one sprite: there only `sure` says
something, and the less the better. A ghost is the mean of two pictures; some keep one clear sprite.
One JSON line a case goes to --results. --sheet draws a sheet to look at instead, and measures nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from leafwing.runs import versions
from leafwing.sprites import pictures, read, scenes
from leafwing.sprites.draw import draw, edges
from leafwing.sprites.scene import Scenes
from leafwing.sprites.words import WORDS
from rows import keep


def blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian of so many pixels; beyond its edge a picture goes on as it ends."""
    reach = int(np.ceil(3 * sigma))
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    for axis in (1, 2):
        pads = [(reach, reach) if i == axis else (0, 0) for i in range(4)]
        padded = np.pad(x, pads, mode="edge")
        parts = (w * np.take(padded, range(i, i + x.shape[axis]), axis) for i, w in enumerate(bell / bell.sum()))
        x = sum(parts, start=np.zeros_like(x))
    return x


def changes(found: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures as they are, and worse: the name of a case, pictures uint8."""
    yield "clean", found
    random = np.random.Generator(np.random.Philox(seed))
    for sd in (0.1, 0.2, 0.3):
        yield f"noise {sd}", rounded(found + 127.5 * sd * random.standard_normal(found.shape, np.float32))
    for sigma in (0.5, 1.0, 2.0):
        yield f"blur {sigma}", rounded(blurred(found.astype(np.float32), sigma * found.shape[1] / 32))


def nothings(found: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures that show no one sprite: a plain colour, noise, means of two pictures."""
    random = np.random.Generator(np.random.Philox(seed))
    n, size = found.shape[:2]
    yield "blank", np.repeat(np.repeat(random.integers(0, 256, (n, 1, 1, 3), np.uint8), size, 1), size, 2)
    yield "static", random.integers(0, 256, found.shape, np.uint8)
    other = np.roll(found, 1, axis=0)
    yield "ghosts", ((found.astype(np.uint16) + other) // 2).astype(np.uint8)


def twins(some: Scenes, size: int) -> np.ndarray:
    """Each sprite twice: once in its place, and once moved by half the picture."""
    one = draw(some, size)
    ground = one[:, :1, :1].astype(np.int16)
    other = np.roll(one, (size // 2, size // 2), axis=(1, 2))
    return np.where((one != ground).any(axis=3, keepdims=True), one, other)


def rounded(levels: np.ndarray) -> np.ndarray:
    """Levels as a saved picture has them."""
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def measured(found: np.ndarray, some: Scenes | None) -> dict[str, float | list[float]]:
    """What the oracle makes of pictures, beside the scenes that they were drawn from."""
    started = time.perf_counter()
    reading = read(found)
    seconds = time.perf_counter() - started
    row: dict[str, float | list[float]] = {}
    if some is not None:
        every = np.ones(len(some), bool)
        for part in WORDS:
            right = getattr(reading.scenes, part) == getattr(some, part)
            row["how_large" if part == "size" else part] = round(float(right.mean()), 4)
            every &= right
        row["caption"] = round(float(every.mean()), 4)
        turns = some.shape > 0
        row["angle"] = round(float(np.median(np.abs(reading.scenes.angle - some.angle)[turns])), 2)
    row["sure"] = round(float(reading.sure.mean()), 4)
    row["confidence"] = [round(float(value), 3) for value in np.quantile(reading.confidence, (0.01, 0.5, 0.99))]
    return {**row, "ms": round(1000 * seconds / len(found), 2)}


def sheet(path: Path) -> None:
    """A row for each shape and colour: at 16, 32 and 64 pixels, its outline, and its caption."""
    every = scenes(2592, seed=1)
    rows = [np.flatnonzero((every.shape == i % 6) & (every.colour == (i + i // 6) % 6))[i] for i in range(12)]
    some, side = every.rows(np.array(rows)), 128
    page = Image.new("RGB", (4 * side + 480, len(some) * (side + 4)), "white")
    write = ImageDraw.Draw(page)
    columns = [draw(some, 16), draw(some, 32), draw(some, 64), np.repeat(edges(some, 64), 3, axis=3)]
    for i, caption in enumerate(some.captions):
        for j, column in enumerate(columns):
            page.paste(
                Image.fromarray(column[i]).resize((side - 4, side - 4), Image.Resampling.NEAREST), (j * side, i * (side + 4))
            )
        write.text((4 * side + 8, i * (side + 4) + side // 2 - 6), str(caption), fill="black")
    page.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="draw a sheet of examples here instead")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "sprites.jsonl")
    given = parser.parse_args()
    if given.sheet:
        return sheet(given.sheet)
    for size in given.sizes:
        found, some = pictures(given.n, size, given.seed)
        about = {"bench": "sprites", "size": f"{size}x{size}x3", "samples": given.n, "seed": given.seed}
        for case, worse in changes(found, given.seed):
            keep({**about, "case": case, **measured(worse, some), **versions()}, given.results)
        for case, nothing in (*nothings(found, given.seed), ("two sprites", twins(some, size))):
            keep({**about, "case": case, **measured(nothing, None), **versions()}, given.results)


if __name__ == "__main__":
    main()
