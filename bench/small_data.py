"""Which training makes the best pictures of a folder in a given time? The measurements behind the recommended training.

    python bench/small_data.py cats --size 64 --minutes 10 --seeds 2
    python bench/small_data.py cats --size 64 --pictures 500 --choices dcgan dcgan+diff fastgan projected --minutes 10
    python bench/small_data.py roses --size 64 --images 100k
    python bench/small_data.py --show

Each choice of `CHOICES` is trained for the same time, with one thread, mirrored, on `--pictures` pictures; the others are held out.
KID (times 1,000 in rows) and precision and recall compare samples of the last weights with the held-out pictures, or with all pictures
where fewer than 200 are held out. They are measured with each of `--features`; `projected` and `fastgan` were trained with the help
of lite0, so for them only `own` and `pixels` are neutral. `copies`: the verdict of memorisation and the share of samples that are
nearer to a training picture than these are to each other. `asked`: of trainings with labels, the share of samples that `own`, a
classifier then, reads as the class that was asked for; of real images `asked_real`. One row per run, with the seconds of the training
and those of the processor (`cpu`); sample grids are in `--runs`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

import leafwing
from leafwing.data import load
from leafwing.metrics.features import load_features
from leafwing.progress import ConsoleReporter
from leafwing.recipes import describe
from rows import argument_parser, processor, store

CHOICES: dict[str, dict[str, Any]] = {
    "dcgan paper": {"recipe": "dcgan"},
    "dcgan": {"recipe": "dcgan", "width": 32, "batch": 64, "ema": 10_000},
    "dcgan+diff": {"recipe": "dcgan", "width": 32, "batch": 64, "ema": 10_000, "augment": "diff"},
    "dcgan+diff, no colour": {
        "recipe": "dcgan",
        "width": 32,
        "batch": 64,
        "ema": 10_000,
        "augment": "diff:translation,cutout",
    },
    "dcgan+diff, p .7": {"recipe": "dcgan", "width": 32, "batch": 64, "ema": 10_000, "augment": "diff:p=0.7"},
    "dcgan+diff, no cutout": {
        "recipe": "dcgan",
        "width": 32,
        "batch": 64,
        "ema": 10_000,
        "augment": "diff:color,translation",
    },
    "dcgan+ada": {"recipe": "dcgan", "width": 32, "batch": 64, "ema": 10_000, "augment": "ada"},
    "sngan+diff": {"recipe": "sngan", "width": 32, "batch": 64, "ema": 10_000, "augment": "diff"},
    "r3gan": {"recipe": "r3gan", "width": 32, "batch": 32},
    "r3gan plain": {"recipe": "r3gan", "width": 32, "batch": 32, "augment": "none"},
    "r3gan+ada": {"recipe": "r3gan", "width": 32, "batch": 32, "augment": "ada"},
    "fastgan": {"recipe": "fastgan", "width": 16, "batch": 16, "ema": 5_000},
    "fastgan pixels": {"recipe": "fastgan", "width": 16, "batch": 16, "ema": 5_000, "distance": "pixels"},
    "projected": {"recipe": "projected", "width": 16, "mixed": 32, "batch": 32, "ema": 5_000},
    "projected 64": {"recipe": "projected", "width": 16, "mixed": 32, "batch": 32, "ema": 5_000, "resolution": 64},
    "dcgan 64": {"recipe": "dcgan", "width": 64, "batch": 64, "ema": 10_000},
    "dcgan 64+diff": {"recipe": "dcgan", "width": 64, "batch": 64, "ema": 10_000, "augment": "diff"},
    "dcgan 64+diff, no cutout": {
        "recipe": "dcgan",
        "width": 64,
        "batch": 64,
        "ema": 10_000,
        "augment": "diff:color,translation",
    },
    "sngan": {"recipe": "sngan", "width": 32, "batch": 64, "ema": 10_000},
    "dcgan slow d": {"recipe": "dcgan", "width": 32, "batch": 64, "ema": 10_000, "lr_d": 5e-5},
    "sngan 64+diff": {"recipe": "sngan", "width": 64, "batch": 64, "ema": 10_000, "augment": "diff"},
    "cgan": {"recipe": "cgan", "width": 32, "batch": 64, "ema": 10_000},
    "cgan+diff": {"recipe": "cgan", "width": 32, "batch": 64, "ema": 10_000, "augment": "diff"},
    "dcgan 16": {"recipe": "dcgan", "width": 16, "batch": 32},
    "lsgan 16": {"recipe": "lsgan", "width": 16, "batch": 32},
    "wgan 16": {"recipe": "wgan", "width": 16, "batch": 32, "burst": 5},
    "wgan_gp 16": {"recipe": "wgan_gp", "width": 16, "batch": 32},
    "wgan_gp": {"recipe": "wgan_gp", "width": 32, "batch": 64, "ema": 10_000},
}
CHOICES |= {
    f"cgan{' 64' * (width == 64)}+diff{', no cutout' * (augment != 'diff')}, scale {scale}": {
        **CHOICES["cgan+diff"],
        "augment": augment,
        "width": width,
        "condition_scale": float(scale),
    }
    for width in (32, 64)
    for scale in (4, 6, 10)
    for augment in ("diff", "diff:color,translation")
}
LEAST_HELD_OUT = 200


def folder_of(args: Any, name: str, pictures: int, seed: int) -> Path:
    """The folder of a run."""
    label = name.replace(" ", "-").replace("+", "-") + (f"-from-{args.start.name}" if args.start else "")
    length = args.images or f"{args.minutes:g}m"
    return Path(args.runs) / f"{Path(args.source).name}-{pictures}-{args.size}-{label}-{length}-{seed}"


def train(args: Any, name: str, pictures: int, seed: int) -> leafwing.Run:
    """A finished run of a choice, trained now unless its folder exists."""
    options, folder = dict(CHOICES[name]), folder_of(args, name, pictures, seed)
    if (folder / "run.json").exists():
        run = leafwing.Run.open(folder)
        check(run, name)
        return run
    total = len(load(args.source, size=args.size))
    return leafwing.train(
        args.source, options.pop("recipe"), size=args.size, mirror=True, hold_out=total - pictures, seed=seed, threads=1, out=folder,
        images=args.images or "100M", time=None if args.images else f"{args.minutes:g}m", progress=ConsoleReporter(),
        start=str(args.start) if args.start else None, **options,
    )  # fmt: skip


def check(run: leafwing.Run, name: str) -> None:
    """Refuse a run that exists and is not a training of this choice: its row would have a false name.

    Raises:
        SystemExit: its recipe, its augmentation or one of its options is another one.
    """
    options = dict(CHOICES[name])
    recipe, augment = options.pop("recipe"), options.pop("augment", None)
    wanted = {"recipe": recipe, "augment": augment, **describe(recipe).resolve(options)}
    found = {"recipe": run.recipe, "augment": run.settings.critic.augment, **run.options}
    differences = [
        f"{key} {found[key]} instead of {value}"
        for key, value in wanted.items()
        if key in found and value not in (found[key], "auto")  # what `auto` became is stored
    ]
    if differences:
        raise SystemExit(f"{run.folder} is not {name!r}: {', '.join(differences)}; remove it, or name other --runs")


def measure(run: leafwing.Run, features: str, checkpoint: int | None) -> dict[str, Any]:
    """KID x 1,000, precision and recall by one feature network."""
    arguments: dict[str, Any] = {"checkpoint": checkpoint}
    arguments |= {} if run.data.held_out >= LEAST_HELD_OUT else {"data": run.data.source}
    if features in run.pretrained:
        arguments["circular"] = True
    rows = leafwing.evaluate(run.folder, metrics="kid,prdc", features=features, progress=ConsoleReporter(), **arguments)
    values = {row["metric"]: row["value"] for row in rows}
    return {
        f"kid_{features}": round(1000 * values["kid"], 2),
        f"precision_{features}": round(values["precision"], 3),
        f"recall_{features}": round(values["recall"], 3),
    }


def copies(run: leafwing.Run, checkpoint: int | None) -> dict[str, Any]:
    """What memorisation says."""
    rows = leafwing.evaluate(run.folder, metrics="memorisation", checkpoint=checkpoint, progress=ConsoleReporter())
    return {row["metric"]: row["value"] for row in rows if isinstance(row["value"], float)} | {
        "verdict": next((row["verdict"] for row in rows if row.get("verdict")), None)
    }


def leaks(run: leafwing.Run, checkpoint: int | None) -> dict[str, Any]:
    """The share of samples that look changed, by kind of change; empty without augmentation."""
    rows = leafwing.evaluate(run.folder, metrics="leaks", checkpoint=checkpoint, progress=ConsoleReporter())
    return {row["metric"]: row["value"] for row in rows if isinstance(row["value"], float)}


def asked(run: leafwing.Run, checkpoint: int | None) -> dict[str, Any]:
    """The share of samples, and of held-out images, that the classifier of `own` reads as the class that was asked for."""
    real = load(run.data.source, **run.data.options).split(run.data.held_out)
    network = load_features("own", real[0])
    model = leafwing.Model.load(run.folder, checkpoint=checkpoint)

    def share(images: torch.Tensor, labels: torch.Tensor) -> float:
        probabilities = network(images)[1]
        assert probabilities is not None
        return round(float((probabilities.argmax(1) == labels.numpy()).mean()), 3)

    labels = torch.arange(1_000) % len(run.spec.labels)
    batch = real[1].to_network(real[1].batch(0, 0, len(real[1])))
    return {
        "asked": share(model.sample(1_000, seed=1, label=labels.tolist()), labels),
        "asked_real": share(batch.image, batch.label),
    }


def show(results: Path) -> None:
    """Print the newest row of each choice, seed and budget as a table."""
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in map(json.loads, results.read_text().splitlines()):
        if {"kid_own", "kid_lite0"} <= row.keys():
            newest[
                row["source"], row["pictures"], row["size"], row["images"], row["minutes"], row["choice"], row["seed"]
            ] = row
    print(
        "| pictures | size | choice | seed | images | processor | CPU | KID x 1,000, own | KID, lite0 | precision, recall, own | "
        "lite0 | read as asked | copies |"
    )
    print("| --- " * 13 + "|")
    for row in sorted(
        newest.values(),
        key=lambda row: (row["source"], -row["pictures"], row["size"], row["choice"], row["images"], row["seed"]),
    ):
        own, lite0 = (f"{row[f'precision_{name}']:.2f}, {row[f'recall_{name}']:.2f}" for name in ("own", "lite0"))
        cells = [
            f"{row['source']}: {row['pictures']:,}", row["size"], f"`{row['choice']}`", row["seed"], f"{row['images']:,}",
            f"{'Xeon' if 'Xeon' in processor(row) else 'EPYC'}, {row['precision']}",
            f"{row['cpu'] / 60:.0f} min" if row["cpu"] else "",
            f"{row['kid_own']:.3g}", f"{row['kid_lite0'] / 1000:.3g}", own, lite0,
            f"{row['asked']:.0%} (real: {row['asked_real']:.0%})" if "asked" in row else "", row["verdict"],
        ]  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", nargs="?", help="a folder of pictures")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--pictures", type=int, default=0, help="training pictures; 0: all but a tenth")
    parser.add_argument("--minutes", type=float, default=10, help="training time of each run")
    parser.add_argument("--images", help="training length in images instead, such as 100k")
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES), help="what to train")
    parser.add_argument("--features", nargs="+", default=["own", "lite0"], help="feature networks of the measures")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--runs", type=Path, default=Path("runs/small-data"), help="folder of the runs")
    parser.add_argument("--start", type=Path, help="begin with the weights of this run")
    parser.add_argument("--checkpoint", type=int, help="measure this checkpoint, in images, instead of the last one")
    parser.add_argument("--show", action="store_true", help="only print existing rows")
    args = parser.parse_args()
    if args.show:
        show(args.results)
        return
    if args.source is None:
        parser.error("give a folder of pictures")
    total = len(load(args.source, size=args.size))
    pictures = args.pictures or total - total // 10
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name in args.choices:
            is_new, cpu = not folder_of(args, name, pictures, seed).exists(), time.process_time()
            run = train(args, name, pictures, seed)
            cpu = time.process_time() - cpu
            last = next((record for record in run.records() if record["images"] == args.checkpoint), run.records()[-1])
            row = {"bench": "small_data", "source": Path(args.source).name, "pictures": pictures, "size": args.size}
            choice = f"{name}, from {args.start.name}" if args.start else name
            choice += "" if run.data.options.get("mirror") else ", not mirrored"
            row |= {"choice": choice, "options": run.options, "augment": run.settings.critic.augment, "seed": seed}
            row |= {
                "minutes": args.minutes if not args.images else None,
                "images": last["images"],
                "seconds": round(last["seconds"]),
                "cpu": round(cpu) if is_new and not args.checkpoint else None,
            }
            for features in args.features:
                row |= measure(run, features, args.checkpoint)
            row |= copies(run, args.checkpoint)
            row |= leaks(run, args.checkpoint) if run.settings.critic.augment not in (None, "none") else {}
            if "label" in run.spec.fields and run.recipe == "cgan":
                row |= asked(run, args.checkpoint)
            machine = run.settings.machine
            row |= {"precision": machine.precision, "threads": machine.threads, **run.config["versions"]}
            store(row, args.results)


if __name__ == "__main__":
    main()
