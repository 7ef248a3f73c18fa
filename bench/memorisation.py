"""Does the memorisation report find copies, and only copies? Planted copies, generators that draw new pictures, and trained GANs.

    python bench/memorisation.py planted --seeds 20
    python bench/memorisation.py planted cats --seeds 10 --training 2000 --without-twins
    python bench/memorisation.py planted --shares 0 --training 16 64 256 900 --seeds 200
    python bench/memorisation.py subset cats cats16 --pictures 16
    python bench/memorisation.py runs runs/cats16 runs/cats64

`planted`: some pictures are the training set, others are what a perfect generator draws; a share of those is replaced by copies of
training pictures, half of them mirrored, each moved by up to two pixels, with noise (a standard deviation in pictures from -1 to 1).
Without a folder the pictures are the built-in digits. A row counts the verdicts over seeds, which choose the pictures and the copies.
`subset` copies some pictures of a folder, chosen by a seed, into a new folder. `runs` judges every checkpoint of runs, against the
pictures they were trained on and those that were held out, with 1,000 samples of each of two seeds.
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
from leafwing.metrics.copying import closeness
from leafwing.metrics.memorisation import Report, examine
from leafwing.metrics.neighbours import nearest, sketches
from leafwing.runs import versions
from rows import keep

TWIN = 0.6
SAMPLES = 1_000


def floats(data: Dataset) -> Tensor:
    """All pictures of a data set as float32 (n, channels, height, width) in [-1, 1]."""
    return torch.from_numpy(data.pictures(np.arange(len(data)))).permute(0, 3, 1, 2).float() / 127.5 - 1


def pictures(source: str, **options: Any) -> Tensor:
    """All pictures of a source, likewise."""
    return floats(load(source, **options))


def without_twins(shown: Tensor) -> Tensor:
    """The pictures but those that are much nearer to one other than to the next ten: of two twins one stays."""
    seen = nearest(sketches(shown.split(512)), shown.split(512), 11, torch.arange(len(shown)))["moved"]
    ratios, kept = closeness(seen.distances), np.ones(len(shown), bool)
    for i in np.argsort(ratios):
        if ratios[i] < TWIN and kept[seen.indices[i, 0]]:
            kept[i] = False
    return shown[torch.from_numpy(kept)]


def copies(originals: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Noisy copies, half of them mirrored, each moved by up to two pixels in both directions."""
    made = originals.clone()
    flipped = torch.rand(len(made), generator=random) < 0.5
    made[flipped] = made[flipped].flip(3)
    height, width = made.shape[2:]
    wide = F.pad(made, (2, 2, 2, 2), mode="replicate")
    places = torch.randint(0, 5, (len(made), 2), generator=random).tolist()
    made = torch.stack([wide[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(places)])
    return (made + noise * torch.randn(made.shape, generator=random)).clamp(-1, 1)


def judged(samples: Tensor, training: Tensor, held: Tensor) -> Report:
    """The report on samples."""
    return examine(
        sketches(samples.split(512)), sketches(training.split(512)), training.split(512), sketches(held.split(512))
    )


def planted(shown: Tensor, training: int, held: int, share: float, noise: float, seed: int) -> Report:
    """The report on a share of copies among new pictures. Shares are rounded up to whole samples."""
    chosen = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(shown), generator=chosen)
    known, kept, fresh = shown[order[:training]], shown[order[training : training + held]], order[training + held :]
    samples = shown[fresh[:SAMPLES]].clone()
    n = int(np.ceil(share * len(samples)))
    if n:
        samples[:n] = copies(known[torch.randint(0, training, (n,), generator=chosen)], noise, chosen)
    return judged(samples, known, kept)


def run_planted(given: argparse.Namespace) -> None:
    shown = pictures(given.folder, size=32)
    if given.without_twins:
        shown = without_twins(shown)
    for training in given.training:
        for share in given.shares:
            for noise in given.noise if share else [0.0]:
                started = time.perf_counter()
                found = [planted(shown, training, given.held, share, noise, seed) for seed in range(given.seeds)]
                counts = Counter(one.verdict for one in found)
                row = {
                    "bench": "memorisation",
                    "case": "planted",
                    "data": given.name or Path(given.folder).name,
                    "twins": round(float(np.median([one.twins for one in found])), 4),
                    "training": training,
                    "held": given.held,
                    "samples": found[0].samples,
                    "share": share,
                    "noise": noise,
                    "seeds": given.seeds,
                    **{verdict: counts[verdict] for verdict in ("copies", "suspicious", "none")},
                    "copied": round(float(np.median([one.copied for one in found])), 4),
                    "seconds": round((time.perf_counter() - started) / given.seeds, 2),
                    **versions(),
                }
                keep(row, given.results)


def run_runs(given: argparse.Namespace) -> None:
    for folder in given.runs:
        run = leafwing.Run.open(folder)
        data, options = run.config["data"], run.config["options"]
        training, held = map(floats, load(data["source"], **data["options"]).split(data.get("held_out") or 0))
        for images in run.weights():
            model = leafwing.Model.load(run, checkpoint=images)
            for seed in (1, 2):
                found = judged(model.sample(SAMPLES, seed=seed), training, held)
                way = found.ways[found.way]
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
                    "verdict": found.verdict,
                    "copied": round(found.copied, 3),
                    "way": found.way,
                    "chance": float(f"{way.chance:.1e}"),
                    "near": round(found.ways["in place"].near, 4),
                    "nearer": round(found.ways["in place"].nearer, 3),
                    "distance_ratio": round(found.ways["in place"].distance_ratio, 3),
                    "duplicates": round(found.duplicates, 3),
                    "different": found.different,
                    **versions(),
                }
                keep(row, given.results)


def subset(folder: Path, out: Path, count: int, seed: int, skip: int) -> None:
    """Copies pictures of a folder, by an order of the seed: `count` of them after the first `skip`."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    random.Random(seed).shuffle(files)
    out.mkdir(parents=True)
    for path in files[skip : skip + count]:
        shutil.copy(path, out / path.name)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "memorisation.jsonl")
    cases = parser.add_subparsers(required=True)
    one = cases.add_parser("planted")
    one.add_argument("folder", nargs="?", default="digits")
    one.add_argument("--name", help="what the rows call the data; the folder's name if not given")
    one.add_argument("--training", type=int, nargs="+", default=[1_200], help="training pictures")
    one.add_argument("--held", type=int, default=0, help="held-out pictures")
    one.add_argument("--shares", type=float, nargs="+", default=[0, 0.01, 0.1, 0.5])
    one.add_argument("--noise", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4])
    one.add_argument("--seeds", type=int, default=20)
    one.add_argument("--without-twins", action="store_true", help="leave out pictures that are nearly there twice")
    one.set_defaults(do=run_planted)
    one = cases.add_parser("runs")
    one.add_argument("runs", nargs="+")
    one.set_defaults(do=run_runs)
    one = cases.add_parser("subset")
    one.add_argument("folder", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--pictures", type=int, required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--skip", type=int, default=0)
    one.set_defaults(do=lambda given: subset(given.folder, given.out, given.pictures, given.seed, given.skip))
    given = parser.parse_args(words)
    given.do(given)


if __name__ == "__main__":
    main()
