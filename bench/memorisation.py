"""Does the memorisation report detect copies, and only copies? Planted copies, perfect generators, and trained GANs.

    python bench/memorisation.py planted --seeds 20
    python bench/memorisation.py planted cats --seeds 10 --training 2000 --without-twins
    python bench/memorisation.py planted --shares 0 --training 16 64 256 900 --seeds 200
    python bench/memorisation.py subset cats cats16 --pictures 16
    python bench/memorisation.py runs runs/cats16 runs/cats64
    python bench/memorisation.py recognised cats --size 64

`planted`: some images are the training set, others are the samples of a perfect generator; a share of those is replaced by copies of
training images, half of them mirrored, each shifted by up to two pixels, with noise (its standard deviation for pixels in [-1, 1]).
By default the images are the built-in digits. A row counts the conclusions over seeds, which choose the images and the copies.
`subset` copies some images of a folder, chosen by a seed, into a new folder. `runs` examines every checkpoint of runs, against
their training and held-out images, with 1,000 samples of each of two seeds.

`recognised` asks which distance recognises changed copies: crops, mirror images, other colours, other light, noise. A copy is
recognised if its original is the nearest training image, and closer, compared with the next ten, than all but 2% of one half of the
held-out images; `false` is the share of the other half that is as close. Distances: those of the report, and two of the features of
`lite0`, of images and their mirror images: `lite0 mean`, the cosine distance of the means of stage 5, standardised; `lite0 maps`, the
L1 distance of stages 1 to 5, normalised at each position as in a perceptual loss, then averaged over 4x4 cells.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import leafwing
from leafwing.data import Dataset, load
from leafwing.machine import versions
from leafwing.metrics.copying import closeness
from leafwing.metrics.memorisation import MemorisationReport, examine
from leafwing.metrics.neighbours import COMPARISONS, nearest, sketches
from leafwing.metrics.photographs import BATCH, at_size
from leafwing.networks import lite0
from leafwing.pixels import to_floats
from rows import Help, argument_parser, store

TWIN = 0.6
FALSE_ALARMS = 0.02
"""Share of held-out images that is as close to a training image as the least close copy that counts as recognised."""
SAMPLES = 1_000


def floats(data: Dataset) -> Tensor:
    """All images of a data set as float32 (n, channels, height, width) in [-1, 1]."""
    return to_floats(torch.from_numpy(data.pictures(np.arange(len(data)))).permute(0, 3, 1, 2))


def pictures(source: str, **options: Any) -> Tensor:
    """All images of a source, in the same form."""
    return floats(load(source, **options))


def without_twins(images: Tensor) -> Tensor:
    """The images without near-duplicates: of two images much closer to each other than to the next ten, one stays."""
    neighbours = nearest(sketches(images.split(512)), images.split(512), 11, torch.arange(len(images)))["moved"]
    ratios, keep = closeness(neighbours.distances), np.ones(len(images), bool)
    for i in np.argsort(ratios):
        if ratios[i] < TWIN and keep[neighbours.indices[i, 0]]:
            keep[i] = False
    return images[torch.from_numpy(keep)]


def copies(originals: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Noisy copies, half of them mirrored, each shifted by up to two pixels in both directions."""
    result = originals.clone()
    flipped = torch.rand(len(result), generator=random) < 0.5
    result[flipped] = result[flipped].flip(3)
    height, width = result.shape[2:]
    padded = F.pad(result, (2, 2, 2, 2), mode="replicate")
    offsets = torch.randint(0, 5, (len(result), 2), generator=random).tolist()
    result = torch.stack([padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(offsets)])
    return (result + noise * torch.randn(result.shape, generator=random)).clamp(-1, 1)


def judged(samples: Tensor, training: Tensor, held: Tensor) -> MemorisationReport:
    """The memorisation report on samples."""
    return examine(
        sketches(samples.split(512)), sketches(training.split(512)), training.split(512), sketches(held.split(512))
    )


def planted(images: Tensor, training: int, held: int, share: float, noise: float, seed: int) -> MemorisationReport:
    """The report on new images of which a share is replaced by copies, rounded up to whole samples."""
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=random)
    known, held_out, fresh = images[order[:training]], images[order[training : training + held]], order[training + held :]
    samples = images[fresh[:SAMPLES]].clone()
    n = int(np.ceil(share * len(samples)))
    if n:
        samples[:n] = copies(known[torch.randint(0, training, (n,), generator=random)], noise, random)
    return judged(samples, known, held_out)


def run_planted(args: argparse.Namespace) -> None:
    images = pictures(args.folder, size=32)
    if args.without_twins:
        images = without_twins(images)
    for training in args.training:
        for share in args.shares:
            for noise in args.noise if share else [0.0]:
                started = time.perf_counter()
                reports = [planted(images, training, args.held, share, noise, seed) for seed in range(args.seeds)]
                counts = Counter(report.verdict for report in reports)
                row = {
                    "bench": "memorisation",
                    "case": "planted",
                    "data": args.name or Path(args.folder).name,
                    "twins": round(float(np.median([report.twins for report in reports])), 4),
                    "training": training,
                    "held": args.held,
                    "samples": reports[0].samples,
                    "share": share,
                    "noise": noise,
                    "seeds": args.seeds,
                    **{verdict: counts[verdict] for verdict in ("copies", "suspicious", "none")},
                    "copied": round(float(np.median([report.copied for report in reports])), 4),
                    "seconds": round((time.perf_counter() - started) / args.seeds, 2),
                    **versions(),
                }
                store(row, args.results)


def run_runs(args: argparse.Namespace) -> None:
    for folder in args.runs:
        run = leafwing.Run.open(folder)
        data, options = run.config["data"], run.config["options"]
        training, held = map(floats, load(data["source"], **data["options"]).split(data.get("held_out") or 0))
        for images in run.weights():
            model = leafwing.Model.load(run, checkpoint=images)
            for seed in (1, 2):
                report = judged(model.sample(SAMPLES, seed=seed), training, held)
                space = report.comparisons[report.strongest_comparison]
                row = {
                    "bench": "memorisation",
                    "case": "run",
                    "data": Path(data["source"]).name,
                    "recipe": run.config["recipe"],
                    "width": options.get("width"),
                    "training": len(training),
                    "held": len(held),
                    "mirror": bool(data["options"].get("mirror")),
                    "seed": run.settings.schedule.seed,
                    "images": images,
                    "samples_seed": seed,
                    "verdict": report.verdict,
                    "copied": round(report.copied, 3),
                    "way": report.strongest_comparison,
                    "chance": float(f"{space.p_value:.1e}"),
                    "near": round(report.comparisons["in place"].near, 4),
                    "nearer": round(report.comparisons["in place"].nearer, 3),
                    "distance_ratio": round(report.comparisons["in place"].distance_ratio, 3),
                    "duplicates": round(report.duplicates, 3),
                    "different": report.different,
                    **versions(),
                }
                store(row, args.results)


def changed_copies(originals: Tensor, seed: int) -> dict[str, Tensor]:
    """Copies of images (n, 3, height, width) in [-1, 1], changed in ways after which people still recognise them."""
    random = torch.Generator().manual_seed(seed)
    n = len(originals)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=random)

    def cropped(share: float) -> Tensor:
        """Crops of this share of the sides, at random places, enlarged to the whole."""
        scale, zero = torch.full((n, 1, 1), share), torch.zeros(n, 1, 1)
        right, down = (1 - share) * uniform(-1, 1), (1 - share) * uniform(-1, 1)
        box = torch.cat([torch.cat([scale, zero, right], 2), torch.cat([zero, scale, down], 2)], 1)
        return F.grid_sample(originals, F.affine_grid(box, list(originals.shape), align_corners=False), align_corners=False)

    grey = originals.mean(1, keepdim=True)
    noisy = originals + 0.2 * torch.randn(originals.shape, generator=random)
    changed = {
        "mirror": originals.flip(3),
        "crop .9": cropped(0.9),
        "crop .75": cropped(0.75),
        "mirrored crop": cropped(0.8).flip(3),
        "hue": originals.roll(1, 1),
        "grey": grey.expand_as(originals),
        "light": (originals + 1) * uniform(0.5, 0.8)[..., None] - 1,
        "noise": noisy,
    }
    return {name: images.clamp(-1, 1) for name, images in changed.items()}


@torch.no_grad()
def lite0_vectors(images: Tensor) -> dict[str, Tensor]:
    """Of images (n, channels, height, width): the means of stage 5 (n, 112), and coarse normalised maps of all stages (n, 4352)."""
    net, parts = lite0.load(), list[tuple[Tensor, Tensor]]()
    for batch in images.split(BATCH):
        maps = net(at_size(batch))
        coarse = [F.adaptive_avg_pool2d(F.normalize(stage, dim=1), 4).flatten(1) / len(maps) for stage in maps]
        parts.append((maps[-1].mean((2, 3)), torch.cat(coarse, 1)))
    means, coarse_maps = zip(*parts, strict=True)
    return {"lite0 mean": torch.cat(means), "lite0 maps": torch.cat(coarse_maps)}


class Distances:
    """The nearest training images of queries by each distance: ascending distances (n, 11), and the index of the nearest one (n,)."""

    def __init__(self, training: Tensor) -> None:
        self.training = training
        self.upright, self.mirrored = lite0_vectors(training), lite0_vectors(training.flip(3))
        self.mean, self.deviation = self.upright["lite0 mean"].mean(0), self.upright["lite0 mean"].std(0)

    def standardised(self, means: Tensor) -> Tensor:
        return F.normalize((means - self.mean) / self.deviation, dim=1)

    def __call__(self, queries: Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        neighbours = nearest(sketches(queries.split(512)), self.training.split(512), 11)
        results = {name: (neighbours[name].distances, neighbours[name].indices[:, 0]) for name in COMPARISONS}
        for name, vectors in lite0_vectors(queries).items():
            sides = [known[name] for known in (self.upright, self.mirrored)]
            if name == "lite0 mean":
                pairs = [torch.cdist(self.standardised(vectors), self.standardised(side)) for side in sides]
            else:
                pairs = [torch.cdist(vectors, side, p=1) for side in sides]
            values, indices = torch.minimum(*pairs).topk(11, largest=False)
            results[name] = values.numpy(), indices[:, 0].numpy()
        return results


def run_recognised(args: argparse.Namespace) -> None:
    images = pictures(args.folder, size=args.size)[:, :3]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    training, held = images[order[: args.training]], images[order[args.training : args.training + args.held]]
    distances = Distances(training)
    unknown = {name: closeness(near) for name, (near, _) in distances(held).items()}
    half = len(held) // 2
    thresholds = {name: float(np.quantile(values[:half], FALSE_ALARMS)) for name, values in unknown.items()}
    originals = torch.arange(args.copies)
    shares: dict[str, dict[str, float]] = {name: {} for name in thresholds}
    for change, queries in changed_copies(training[originals], seed=0).items():
        for name, (near, index) in distances(queries).items():
            recognised = (closeness(near) < thresholds[name]) & (index == originals.numpy())
            shares[name][change] = round(float(recognised.mean()), 3)
    for name, values in shares.items():
        row = {
            "bench": "memorisation",
            "case": "recognised",
            "choice": name,
            "data": args.name or Path(args.folder).name,
            "size": args.size,
            "training": len(training),
            "held": len(held),
            "copies": args.copies,
            "false": round(float((unknown[name][half:] < thresholds[name]).mean()), 3),
            **values,
            **versions(),
        }
        store(row, args.results)


def subset(folder: Path, out: Path, count: int, seed: int, skip: int) -> None:
    """Copy `count` images of a folder in a random order given by the seed, after skipping `skip`."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    random.Random(seed).shuffle(files)
    out.mkdir(parents=True)
    for path in files[skip : skip + count]:
        shutil.copy(path, out / path.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, __file__)
    commands = parser.add_subparsers(required=True, metavar="{planted,runs,recognised,subset}")
    command = commands.add_parser("planted", help="planted copies", formatter_class=Help)
    command.add_argument("folder", nargs="?", default="digits", help="folder of images, or a built-in data set")
    command.add_argument("--name", help="name of the data in the rows; by default the name of the folder")
    command.add_argument("--training", type=int, nargs="+", default=[1_200], help="numbers of training images")
    command.add_argument("--held", type=int, default=0, help="number of held-out images")
    command.add_argument("--shares", type=float, nargs="+", default=[0, 0.01, 0.1, 0.5], help="shares of copies")
    command.add_argument("--noise", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4], help="standard deviations")
    command.add_argument("--seeds", type=int, default=20, help="number of seeds")
    command.add_argument("--without-twins", action="store_true", help="leave out near-duplicates")
    command.set_defaults(do=run_planted)
    command = commands.add_parser("runs", help="checkpoints of runs", formatter_class=Help)
    command.add_argument("runs", nargs="+", help="run folders")
    command.set_defaults(do=run_runs)
    command = commands.add_parser("recognised", help="changed copies, by several distances", formatter_class=Help)
    command.add_argument("folder", help="folder of images in colour, or a built-in data set")
    command.add_argument("--name", help="name of the data in the rows; by default the name of the folder")
    command.add_argument("--size", type=int, default=64, help="side in pixels")
    command.add_argument("--training", type=int, default=600, help="number of training images")
    command.add_argument("--held", type=int, default=400, help="number of held-out images")
    command.add_argument("--copies", type=int, default=200, help="number of training images that are copied")
    command.set_defaults(do=run_recognised)
    command = commands.add_parser("subset", help="copies some images of a folder into a new one", formatter_class=Help)
    command.add_argument("folder", type=Path, help="folder of images")
    command.add_argument("out", type=Path, help="new folder")
    command.add_argument("--pictures", type=int, required=True, help="number of images")
    command.add_argument("--seed", type=int, default=0, help="random seed of the order")
    command.add_argument("--skip", type=int, default=0, help="images to skip")
    command.set_defaults(do=lambda args: subset(args.folder, args.out, args.pictures, args.seed, args.skip))
    args = parser.parse_args(arguments)
    args.do(args)


if __name__ == "__main__":
    main()
