"""Which feature network notices what is wrong with pictures? How that of `own` was chosen.

    python bench/features.py photos
    python bench/features.py

Real pictures are cut into two parts of --n. One is changed in ways that generators get wrong, each more and less; FID of the other to
it is divided by FID of the other to the unchanged part. 1 means that a change goes unnoticed; a network is good when no number is near
1 and more of a change gives more. Numbers are medians over --splits choices of the parts. Networks: `pixels`; `own` before training;
`own` as it is; and taught one task alone, to tell turns or to find pairs. Without a source: the built-in digits without their labels.
`own` learns from all pictures, both parts included, as it does in an evaluation without held-out ones. One JSON line a network goes
to --results.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.data import Dataset, load
from leafwing.metrics import own
from leafwing.metrics.features import load_features
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.samples import to_floats
from leafwing.runs import versions
from rows import keep

See = Callable[[Tensor], np.ndarray]


def blurred(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian of so many pixels."""
    reach = math.ceil(3 * sigma)
    bell = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weight = (bell / bell.sum()).expand(x.shape[1], 1, 1, -1)
    for turn in (weight, weight.transpose(2, 3)):
        pads = (reach, reach, 0, 0) if turn is weight else (0, 0, reach, reach)
        x = F.conv2d(F.pad(x, pads, mode="reflect"), turn, groups=x.shape[1])
    return x


def swapped(x: Tensor, times: int, random: torch.Generator) -> Tensor:
    """So many times two of the sixteen tiles of each picture change places."""
    tiles = x.unflatten(2, (4, -1)).unflatten(4, (4, -1)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).clone()
    every = torch.arange(len(x))
    for _ in range(times):
        a, b = torch.rand(len(x), 16, generator=random).argsort(1)[:, :2].T
        tiles[every, a], tiles[every, b] = tiles[every, b], tiles[every, a].clone()
    return tiles.unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def warped(x: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Moved about smoothly, by such a share of a side."""
    n, _, height, width = x.shape
    move = F.interpolate(torch.randn(n, 2, 6, 6, generator=random), (height, width), mode="bicubic") * 2 * share
    still = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, still + move.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False)


def changes(x: Tensor, seed: int) -> Iterator[tuple[str, float, Tensor]]:
    """What generators get wrong, more and less: a name, how much, the pictures."""
    random = torch.Generator().manual_seed(seed)
    n, channels, side = len(x), x.shape[1], x.shape[2]
    for much in (0.06, 0.25):
        yield "noise", much, x + much * torch.randn(x.shape, generator=random)
    for much in (0.008, 0.025):
        yield "blur", much, blurred(x, much * side)
    for much in (0.1, 0.4):
        yield "ghost", much, (1 - much) * x + much * x[torch.randperm(n, generator=random)]
    for much in (1, 3):
        yield "tiles", much, swapped(x, much, random)
    for much in (0.015, 0.05):
        yield "warp", much, warped(x, much, random)
    for much in (0.3, 0.05):
        yield "few", much, x[torch.randint(int(much * n), (n,), generator=random)]
    order = x.mean((1, 2, 3)).argsort()
    for much in (0.7, 0.5):
        yield "darker ones alone", much, x[order[torch.randint(int(much * n), (n,), generator=random)]]
    for much in (0.05, 0.1):
        squares = (torch.arange(side)[:, None] + torch.arange(side)) % 2 * 2 - 1
        yield "chequers", much, x + much * squares
    for much in (0.05, 0.15):
        tint = torch.tensor([1.0, -0.5, -0.5][:channels]).view(1, channels, 1, 1)
        yield "tint", much, x + much * tint


def networks(data: Dataset, scratch: Path) -> Iterator[tuple[str, See, float]]:
    """Each network with the seconds that it took to train."""
    tasks: dict[str, dict[str, Any]] = {
        "own": {"VERSION": own.VERSION},
        "turns alone": {"CONTRAST": 0.0},
        "pairs alone": {"CONTRAST": 1.0, "turned": lambda pictures, turns: pictures},
        "untrained": {"STEPS": 30, "RATE": 0.0},
    }
    pixels = load_features("pixels", data)
    yield "pixels", lambda x: pixels(x)[0], 0.0
    for name, changed in tasks.items():
        started = time.perf_counter()
        with mock.patch.multiple(own, **changed):
            network = load_features("own", data, cache=scratch / name)
        yield name, lambda x, network=network: network(x)[0], time.perf_counter() - started


def noticed(see: See, pictures: Tensor, n: int, splits: int) -> tuple[float, dict[str, list[float]]]:
    """FID of two unchanged parts, and of each change the ratios to that, less and more of it: medians over the splits."""
    alike, ratios = [], dict[tuple[str, float], list[float]]()
    for seed in range(splits):
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
        real, other = see(pictures[order[:n]]), pictures[order[n : 2 * n]]
        alike.append(frechet_distance(real, see(other)))
        for name, much, made in changes(other, seed):
            rounded = (made.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
            ratios.setdefault((name, much), []).append(frechet_distance(real, see(rounded)) / alike[-1])
    found: dict[str, list[float]] = {}
    for (name, _), values in ratios.items():
        found.setdefault(name, []).append(round(statistics.median(values), 2))
    return statistics.median(alike), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="digits")
    parser.add_argument("--size", default=None)
    parser.add_argument("--n", type=int, default=800)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "features.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load(given.source, size=given.size)
    data = replace(data, labels=None, spec=replace(data.spec, labels=(), fields=("image",)))
    pictures = to_floats(data.array)
    about = {
        "bench": "features",
        "pictures": given.source if given.source == "digits" else "given",
        "samples": given.n,
        "size": f"{data.spec.height}x{data.spec.width}x{data.spec.channels}",
        "splits": given.splits,
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name, see, seconds in networks(data, Path(scratch)):
            alike, found = noticed(see, pictures, given.n, given.splits)
            keep(
                {**about, "case": name, "trained_in": round(seconds, 1), "alike": alike, **found, **versions()},
                given.results,
            )


if __name__ == "__main__":
    main()
