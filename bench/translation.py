"""What the adversarial loss and the size of the patches do for `pix2pix`, and recipes without pairs, on held-out pairs.

    python bench/translation.py FOLDER --input right --hold-out 100 --seeds 3 --runs runs/facades
    python bench/translation.py FOLDER --input right --variants cgan cyclegan cut --seeds 1 --batch 1
    python bench/translation.py --show

The same generator is trained with the L1 distance alone, and with the adversarial loss as well. The first is trained on one and a
half times as many images, so that it costs at least as much: the rows have the seconds of both. Then smaller patches. `cyclegan`
and `cut` are trained on the same images without knowing which belong together; a row of a recipe that translates both ways also has
the measures of the way back, from photographs to maps, as `back_...`. Measures are those of `leafwing evaluate`: KID (times 1,000)
and feature distance with `--features own`; `edges` is the edge energy over that of the real images; `accuracy` and `iou` are those
of a segmenter that was trained on the real pairs and reads the input's map in what was generated (`--no-segmenter` leaves them
out). One row per run; runs are stored in `--runs`, and those that are there already are not trained again. `--sheet` writes held-
out inputs, what each run of the first seed generates, and the real images.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import leafwing
from leafwing import Run
from leafwing.progress import ConsoleReporter
from rows import argument_parser, store

VARIANTS: dict[str, dict[str, Any]] = {
    "l1": {"adversarial": 0},
    "cgan": {},
    "patch16": {"patch": 16},
    "patch1": {"patch": 1},
    "cyclegan": {"recipe": "cyclegan"},
    "cut": {"recipe": "cut"},
}
LONGER = 1.5
"""How many times longer the training without a discriminator is, in images."""
MEASURES = {
    "kid": "kid",
    "l1": "l1",
    "psnr": "psnr",
    "ssim": "ssim",
    "edge_energy": "edges",
    "feature_distance": "features",
    "pixel_accuracy": "accuracy",
    "class_iou": "iou",
    "real_pixel_accuracy": "real_accuracy",
    "real_class_iou": "real_iou",
}
"""The measures by their names in tables."""


def length(args: Any, variant: str) -> int:
    """The training length of a variant in images."""
    return round(args.images * LONGER) if variant == "l1" else int(args.images)


def folder_of(args: Any, variant: str, seed: int) -> Path:
    """The folder of a run: trainings of another size, batch, length or option have other ones, so that none is taken for another."""
    parts = [
        variant,
        f"{args.size}px",
        f"width{args.width}",
        f"batch{args.batch}",
        length(args, variant),
        *args.option,
        seed,
    ]
    return Path(args.runs) / "-".join(map(str, parts))


def find_or_train(args: Any, variant: str, seed: int) -> Run:
    """The finished run of a variant and a seed."""
    folder = folder_of(args, variant, seed)
    if folder.exists():
        run = Run.open(folder)
    else:
        options = {"recipe": "pix2pix"} | VARIANTS[variant] | dict(option.split("=") for option in args.option)
        run = leafwing.train(
            args.source,
            options.pop("recipe"),
            input=args.input,
            hold_out=args.hold_out,
            size=args.size,
            width=args.width,
            batch=args.batch,
            images=length(args, variant),
            seed=seed,
            threads=args.threads,
            mirror=True,
            out=folder,
            progress=ConsoleReporter(),
            **options,
        )
    if run.stop_reason != "images":
        raise SystemExit(f"{folder} is not finished: `leafwing resume {folder}`, or remove it")
    return run


def measure(run: Run, metrics: str, output: str) -> dict[str, float]:
    """The measures of an output of a run's last weights on its held-out pairs."""
    rows = leafwing.evaluate(run.folder, output=output, metrics=metrics, progress=ConsoleReporter())
    values = {row["metric"]: row["value"] for row in rows}
    measures = {name: values[key] for key, name in MEASURES.items() if values.get(key) is not None}
    return {name: round(1000 * value if name == "kid" else value, 4) for name, value in measures.items()}


def write_sheet(path: Path, runs: dict[str, Run], pairs: int) -> None:
    """Write held-out inputs, what runs generate from them, and the real images, side by side."""
    from leafwing.commands.feeding import reload_data, split_data
    from leafwing.pictures import Cell, Sheet

    run = next(iter(runs.values()))
    _, held_out = split_data(run.data, reload_data(run, ConsoleReporter()))
    rows = held_out.to_network(held_out.batch(0, 0, pairs))
    models = {name: leafwing.Model.load(run) for name, run in runs.items()}
    samples = {name: model.translate(rows["input"]) for name, model in models.items()}
    fields, output = held_out.spec.fields, next(iter(models.values())).output.field
    columns = {"input": (fields["input"], rows["input"])}
    columns |= {title: (fields[output], values) for title, values in samples.items()}
    columns["real"] = fields[output], rows[output]
    cells = [[Cell(kind, sample, ()) for sample in kind.to_stored(values).numpy()] for kind, values in columns.values()]
    Sheet([*zip(*cells, strict=True)], [*columns]).image().save(path)


def show(results: Path) -> None:
    """Print the newest row of each variant and seed as a table: means over the seeds, with their smallest and largest values."""
    newest: dict[str, dict[int, dict[str, Any]]] = {}
    for row in map(json.loads, results.read_text().splitlines()):
        newest.setdefault(row["choice"], {})[row["seed"]] = row
    names = [name for name in MEASURES.values() if any(name in row for rows in newest.values() for row in rows.values())]
    print("| variant | images | seeds | " + " | ".join(names) + " |")
    print("| --- " * (3 + len(names)) + "|")
    for variant, rows in newest.items():
        cells = []
        for name in names:
            values = [row[name] for row in rows.values() if name in row]
            cells.append(f"{mean(values):.4g} ({min(values):.4g} to {max(values):.4g})" if values else "")
        images = {f"{row['images']:,}" for row in rows.values()}
        print(f"| {variant} | {', '.join(sorted(images))} | {', '.join(map(str, sorted(rows)))} | {' | '.join(cells)} |")


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", nargs="?", help="pairs of label maps and photographs, or other pairs")
    parser.add_argument("--input", default="right", help="where the inputs are, as for leafwing train")
    parser.add_argument("--hold-out", type=int, default=100, help="number of held-out pairs")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--width", type=int, default=16, help="width of the networks")
    parser.add_argument("--batch", type=int, default=1, help="batch size")
    parser.add_argument("--images", type=int, default=6_000, help="training length in images, with a discriminator")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="variants to train")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--option", action="append", default=[], help="option of the training, name=value; repeatable")
    parser.add_argument("--runs", type=Path, default=Path("runs/translation"), help="folder of the runs")
    parser.add_argument("--no-segmenter", action="store_true", help="without the segmenter's measures")
    parser.add_argument("--sheet", type=Path, help="file for a picture of the first held-out pairs")
    parser.add_argument("--show", action="store_true", help="only print existing rows")
    args = parser.parse_args()
    if args.show:
        show(args.results)
        return
    if args.source is None:
        parser.error("give a folder of pairs")
    metrics = "kid,reconstruction" + ("" if args.no_segmenter else ",segmenter")
    runs: dict[str, Run] = {}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for variant in args.variants:
            run = find_or_train(args, variant, seed)
            runs.setdefault(variant, run)
            last, machine = run.records()[-1], run.settings.machine
            about = {
                "size": args.size,
                "precision": machine.precision,
                "threads": machine.threads,
                "options": run.config["options"],
            }
            row = {"bench": "translation", "recipe": run.recipe, "choice": variant, "seed": seed, **about}
            row |= {
                "images": last["images"],
                "seconds": round(last["seconds"]),
                **measure(run, metrics, "image"),
                **run.config["versions"],
            }
            if any(output.field == "input" for output in leafwing.Model.load(run).game.abilities.outputs):
                row |= {f"back_{name}": value for name, value in measure(run, "kid,reconstruction", "input").items()}
            store(row, args.results)
    if args.sheet:
        write_sheet(args.sheet, runs, 6)


if __name__ == "__main__":
    main()
