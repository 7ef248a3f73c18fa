"""Which feature network detects defects of images? How the one of `own` was chosen.

    python bench/features.py photos
    python bench/features.py

Real images are split into two parts of --n. One is changed as generators typically fail, each defect at two strengths; its FID to
the other part is divided by the FID between the unchanged parts. 1 means that a defect goes undetected. In a good network no value
is near 1, and stronger defects have higher values. Values are medians over --splits random splits. Networks: `pixels`; `own`
untrained; `own`; and `own` trained on only one of its two tasks, rotations or pairs. Without a source: the built-in digits without
labels. `own` is trained on all images, both parts included, as in an evaluation without held-out ones. One row per network.
"""

from __future__ import annotations

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
from leafwing.game import DataSpec
from leafwing.machine import versions
from leafwing.metrics import own
from leafwing.metrics.features import Features, load_features
from leafwing.metrics.fid import frechet_distance
from leafwing.pixels import images_to_tensor
from rows import argument_parser, store

FeatureFunction = Callable[[Tensor], np.ndarray]


def blurred(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur; `sigma` in pixels."""
    reach = math.ceil(3 * sigma)
    bell = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weight = (bell / bell.sum()).expand(x.shape[1], 1, 1, -1)
    for kernel in (weight, weight.transpose(2, 3)):
        pads = (reach, reach, 0, 0) if kernel is weight else (0, 0, reach, reach)
        x = F.conv2d(F.pad(x, pads, mode="reflect"), kernel, groups=x.shape[1])
    return x


def swapped(x: Tensor, times: int, random: torch.Generator) -> Tensor:
    """Two of the sixteen tiles of each image swapped, a number of times."""
    tiles = x.unflatten(2, (4, -1)).unflatten(4, (4, -1)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).clone()
    index = torch.arange(len(x))
    for _ in range(times):
        a, b = torch.rand(len(x), 16, generator=random).argsort(1)[:, :2].T
        tiles[index, a], tiles[index, b] = tiles[index, b], tiles[index, a].clone()
    return tiles.unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def warped(x: Tensor, share: float, random: torch.Generator) -> Tensor:
    """A smooth random deformation; `share` of the image size."""
    n, _, height, width = x.shape
    offsets = F.interpolate(torch.randn(n, 2, 6, 6, generator=random), (height, width), mode="bicubic") * 2 * share
    identity = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, identity + offsets.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False)


def changes(x: Tensor, seed: int) -> Iterator[tuple[str, float, Tensor]]:
    """Typical defects of generators, each at two strengths: name, amount, changed images."""
    random = torch.Generator().manual_seed(seed)
    n, channels, side = len(x), x.shape[1], x.shape[2]
    for amount in (0.06, 0.25):
        yield "noise", amount, x + amount * torch.randn(x.shape, generator=random)
    for amount in (0.008, 0.025):
        yield "blur", amount, blurred(x, amount * side)
    for amount in (0.1, 0.4):
        yield "ghost", amount, (1 - amount) * x + amount * x[torch.randperm(n, generator=random)]
    for amount in (1, 3):
        yield "tiles", amount, swapped(x, amount, random)
    for amount in (0.015, 0.05):
        yield "warp", amount, warped(x, amount, random)
    for amount in (0.3, 0.05):
        yield "few", amount, x[torch.randint(int(amount * n), (n,), generator=random)]
    order = x.mean((1, 2, 3)).argsort()
    for amount in (0.7, 0.5):
        yield "darker ones alone", amount, x[order[torch.randint(int(amount * n), (n,), generator=random)]]
    for amount in (0.05, 0.1):
        squares = (torch.arange(side)[:, None] + torch.arange(side)) % 2 * 2 - 1
        yield "chequers", amount, x + amount * squares
    for amount in (0.05, 0.15):
        tint = torch.tensor([1.0, -0.5, -0.5][:channels]).view(1, channels, 1, 1)
        yield "tint", amount, x + amount * tint


def first_output(network: Features) -> FeatureFunction:
    """The features of a network, without its class probabilities."""
    return lambda x: network(x)[0]


def networks(data: Dataset, scratch: Path) -> Iterator[tuple[str, FeatureFunction, float]]:
    """Each feature network: name, function, seconds of its training."""
    tasks: dict[str, dict[str, Any]] = {
        "own": {"VERSION": own.VERSION},
        "turns alone": {"CONTRAST": 0.0},
        "pairs alone": {"CONTRAST": 1.0, "rotate": lambda images, turns: images},
        "untrained": {"STEPS": 30, "RATE": 0.0},
    }
    pixels = load_features("pixels", data)
    yield "pixels", first_output(pixels), 0.0
    for name, constants in tasks.items():
        started = time.perf_counter()
        with mock.patch.multiple(own, **constants):
            network = load_features("own", data, cache=scratch / name)
        yield name, first_output(network), time.perf_counter() - started


def sensitivity(features: FeatureFunction, pictures: Tensor, n: int, splits: int) -> tuple[float, dict[str, list[float]]]:
    """FID between two unchanged parts, and for each defect its FIDs relative to that: medians over the splits."""
    baseline, ratios = [], dict[tuple[str, float], list[float]]()
    for seed in range(splits):
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
        real, other = features(pictures[order[:n]]), pictures[order[n : 2 * n]]
        baseline.append(frechet_distance(real, features(other)))
        for name, amount, changed in changes(other, seed):
            rounded = (changed.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
            ratios.setdefault((name, amount), []).append(frechet_distance(real, features(rounded)) / baseline[-1])
    sensitivities: dict[str, list[float]] = {}
    for (name, _), values in ratios.items():
        sensitivities.setdefault(name, []).append(round(statistics.median(values), 2))
    return statistics.median(baseline), sensitivities


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", nargs="?", default="digits", help="built-in data set or folder of images")
    parser.add_argument("--size", default=None, help="image size in pixels")
    parser.add_argument("--n", type=int, default=800, help="images per part")
    parser.add_argument("--splits", type=int, default=3, help="random splits into two parts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load(args.source, size=args.size)
    data = replace(data, spec=DataSpec({"image": data.spec.fields["image"]}), columns={"image": data.array})
    pictures = images_to_tensor(data.array)
    about = {
        "bench": "features",
        "pictures": args.source if args.source == "digits" else "given",
        "samples": args.n,
        "size": f"{data.spec.height}x{data.spec.width}x{data.spec.channels}",
        "splits": args.splits,
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name, features, seconds in networks(data, Path(scratch)):
            baseline, sensitivities = sensitivity(features, pictures, args.n, args.splits)
            store(
                {**about, "case": name, "trained_in": round(seconds, 1), "alike": baseline, **sensitivities, **versions()},
                args.results,
            )


if __name__ == "__main__":
    main()
