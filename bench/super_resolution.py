"""Photographs at four times their size: bicubic interpolation, SRResNet and SRGAN in one table, on held-out pictures.

    python bench/super_resolution.py photos --size 128 --crop 64 --images 200k --seeds 3
    python bench/super_resolution.py large-photos --size 128 --fit tiles --images 200k --seeds 3
    python bench/super_resolution.py --show

The inputs are the pictures reduced by averaging (`--input low4`). SRResNet and SRGAN are one recipe, trained on the same number of
images: with the squared error alone, and with it for a share of the training (`--pretrain`). With `--crop` they are trained on
random windows, as in the paper; whole pictures are measured. With `--fit tiles` pictures are cut into tiles of `--size` at their
own resolution, for training and for the measurement. PSNR in RGB and of the luma, SSIM and edge energy are those of the metric
`reconstruction`; feature distance and KID (times 1,000) use `--features`: `own` is trained on the training pictures, `lite0` the
mean of stage 5 of the network whose features the content loss may compare too: with `--option features=critic` it does not, and the
measurement is independent. One row per method and seed; `cpu` is the processor time of the training in seconds. `--sheet` writes a
picture of some held-out pictures: bicubic, the methods of the first seed, real.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

import leafwing
from leafwing.data import Dataset, load
from leafwing.machine import versions
from leafwing.metrics.features import Features, load_features
from leafwing.metrics.kid import kernel_distance
from leafwing.metrics.reconstruction import feature_distance, measure_pairs
from leafwing.networks import lite0
from leafwing.pictures import to_pixels
from leafwing.pixels import images_to_tensor
from rows import argument_parser, store

METHODS = ("srresnet", "srgan")
COLUMNS = ("psnr", "psnr_y", "ssim", "edge_energy", "feature_distance", "kid")
CHUNK = 50


def feature_network(name: str, training: Dataset) -> Features:
    """A feature network of the metrics, or `lite0`."""
    if name != "lite0":
        return load_features(name, training if name == "own" else None)
    net = lite0.load()
    return Features(name, lite0.SHA256, lambda images: (net(images)[-1].mean((2, 3)), None))


def bicubic(images: Tensor, scale: int) -> Tensor:
    """Images (n, channels, height, width) in [-1, 1] enlarged by bicubic interpolation as in Pillow (a = -0.5)."""
    return interpolate(images, scale_factor=scale, mode="bicubic", antialias=True).clamp(-1, 1)


def at_8_bits(images: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to 8 bits."""
    return images_to_tensor(to_pixels(images))


def values_of(fake: Tensor, real: Tensor, scale: int, features: Features) -> dict[str, float]:
    """All measures of enlargements (n, channels, height, width) in [-1, 1] of at least two images."""

    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        return zip(fake.split(CHUNK), real.split(CHUNK), strict=True)

    fake_features, real_features = (
        np.concatenate([features(part)[0] for part in side.split(CHUNK)]) for side in (fake, real)
    )
    measures = [*measure_pairs(chunks(), scale), feature_distance(fake_features, real_features)]
    kid, _ = kernel_distance(real_features, fake_features)
    values = {measure.name: measure.value for measure in measures} | {"kid": 1000 * kid}
    return {name: round(values[name], 4) for name in COLUMNS}


def enlarge(
    source: str, size: dict[str, Any], held_out: int, pretrain: float, seed: int, images: str, options: dict[str, Any],
    inputs: Tensor,
) -> tuple[Tensor, dict[str, Any]]:  # fmt: skip
    """Train once; the enlarged held-out inputs, and what the row says about the training."""
    with tempfile.TemporaryDirectory() as folder:
        worked = time.process_time()
        run = leafwing.train(
            source,
            "srgan",
            input="low4",
            hold_out=held_out,
            images=images,
            seed=seed,
            pretrain=pretrain,
            out=Path(folder, "run"),
            **size,
            **options,
        )
        cpu = time.process_time() - worked
        if run.stop_reason != "images":
            raise SystemExit("interrupted: no row is written for an incomplete training")
        enlarged = leafwing.Model.load(run).translate(inputs, batch=16)
        about = {"images": run.records()[-1]["images"], "options": run.config["options"], "cpu": round(cpu)}
        return enlarged, about


def show(results: Path) -> None:
    """Print the newest row of each source, method and seed: means over the seeds, and their smallest and largest values."""
    newest: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row in map(json.loads, results.read_text().splitlines()):
        newest.setdefault((row.get("source", ""), row["case"]), {})[row["seed"]] = row
    for (source, case), rows in newest.items():
        print(f"{source} {case}: {len(rows)} seeds, {next(iter(rows.values())).get('images', 0):,} images")
        for name in COLUMNS:
            values = [row[name] for row in rows.values()]
            print(f"  {name}: {mean(values):.4g} ({min(values):.4g} to {max(values):.4g})")


def write_sheet(path: Path, columns: list[Tensor]) -> None:
    """Write images side by side: one column for each tensor (n, channels, height, width) in [-1, 1]."""
    from PIL import Image

    pixels = np.concatenate([np.concatenate(list(to_pixels(column)), 0) for column in columns], 1)
    Image.fromarray(pixels.squeeze()).save(path)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", nargs="?", help="folder of photographs")
    parser.add_argument("--size", default="128", help="size of the pictures in pixels, divisible by 4")
    parser.add_argument("--held-out", type=int, default=300, help="number of held-out pictures")
    parser.add_argument("--images", default="200k", help="training length in images")
    parser.add_argument("--crop", help="train on random windows of this size, in pixels, of pictures of --size")
    parser.add_argument(
        "--fit", choices=["crop", "tiles"], default="crop", help="tiles: cut pictures instead of shrinking them"
    )
    parser.add_argument(
        "--pretrain", type=float, default=0.5, help="share of SRGAN's training that minimises the squared error alone"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="methods to train")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument(
        "--features", choices=["own", "pixels", "inception", "lite0"], default="own", help="feature network of the metrics"
    )
    parser.add_argument(
        "--option", action="append", default=[], help="option of the training or the recipe, name=value; repeatable"
    )
    parser.add_argument("--sheet", type=Path, help="file for a picture of the first held-out pictures")
    parser.add_argument("--show", action="store_true", help="only print existing rows")
    args = parser.parse_args()
    if args.show:
        show(args.results)
        return
    if args.source is None:
        parser.error("a folder of photographs is needed")
    data = load(args.source, size=args.size, fit=args.fit, input="low4")
    training, held_out = data.split(args.held_out)
    features = feature_network(args.features, training)
    batch = held_out.to_network(held_out.batch(0, 0, len(held_out)))
    real, scale = batch.image, data.spec.height // data.spec.fields["input"].shape[1]
    options = dict(option.split("=") for option in args.option)
    size = {"fit": args.fit} | ({"size": args.crop, "crop_from": args.size} if args.crop else {"size": args.size})
    about = {
        "bench": "super_resolution",
        "source": Path(args.source).name,
        "samples": len(real),
        "size": args.size,
        "crop": args.crop,
        "fit": args.fit,
        "features": args.features,
        **versions(),
    }

    columns = [at_8_bits(bicubic(batch.input, scale))]
    baseline = values_of(columns[0], real, scale, features)
    store({**about, "case": "bicubic", "seed": args.first_seed, **baseline}, args.results)
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for method in args.methods:
            pretrain = args.pretrain if method == "srgan" else 1
            enlarged, training_values = enlarge(
                args.source, size, args.held_out, pretrain, seed, args.images, options, batch.input
            )
            enlarged = at_8_bits(enlarged)
            values = values_of(enlarged, real, scale, features)
            store({**about, "case": method, "seed": seed, **training_values, **values}, args.results)
            if seed == args.first_seed:
                columns.append(enlarged)
        if args.sheet and seed == args.first_seed:
            write_sheet(args.sheet, [column[:8] for column in (*columns, real)])
    show(args.results)


if __name__ == "__main__":
    main()
