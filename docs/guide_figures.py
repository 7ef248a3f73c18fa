"""The tables of figures in docs/guide, from the rows in bench/results; see docs/figures.py, which writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))

from row_tables import Column, Row, grouped, read, table

# --- health ------------------------------------------------------------------------------------------------------------------

ILL = {
    "D does not learn": ("D does not learn", "still stagnation"),
    "G does not learn": ("G does not learn", "still stagnation"),
    "G starts to ignore its latents during training": ("G goes deaf", "collapse"),
    "G ignores its latents from the start": ("G is deaf", "collapse"),
    "D's learning rate 300 times too high": ("D learns 300 times as fast", "critic oscillation explosion"),
    "G's learning rate becomes 100 times higher": ("G becomes 100 times as fast", "collapse explosion"),
    "both rates 300 times too high from the start": ("both are 300 times as fast", "oscillation explosion collapse"),
    "both rates become 100 times higher": ("both become 100 times as fast", "collapse explosion oscillation"),
    "both rates become 3,000 times higher": ("both become 3000 times as fast", "collapse explosion oscillation nan"),
    "a weight becomes NaN": ("a weight is lost", "nan"),
    "`dcgan` on 16 and on 64 digits, others held out: overfitting": ("dcgan on 16, dcgan on 64", "overfit"),
    "`lsgan` on the ring at a learning rate at which it cycles; `gan` on digits that oscillates": (
        "lsgan in circles, gan swings",
        "oscillation",
    ),
    "`gan` on digits at the paper's learning rate, which diverges": ("gan at the paper's rate", "nan explosion"),
}
"""What is wrong in words: planted faults or cases that fail by themselves, as rows name them, and the alarms that are right.
`still` is what rows of before November 28, 2026, call `stagnation`."""


def health(_: str) -> str:
    """bench/health.py: alarms of short trainings, of the seed for which thresholds were set and of two others."""
    rows = [row for row in read("health", "Xeon", ("case", "fault", "seed", "run")) if "fault" in row]
    every = [
        *{(row["case"], row["fault"], row["seed"]): row for row in rows}.values()
    ]  # of either way to name the processor
    ill = {name: (names.split(", "), {*kinds.split()}) for name, (names, kinds) in ILL.items()}
    by_themselves = {each for names, _ in ill.values() for each in names}
    sides: dict[str, Callable[[Row], bool]] = {
        "seed 0": lambda row: row["seed"] == 0,
        "seeds 1 and 2": lambda row: row["seed"] in (1, 2),
    }

    def cell(rows: list[dict[str, Any]], kinds: set[str]) -> tuple[int, int]:
        return sum(bool({*row["kinds"]} & kinds) for row in rows), len(rows)

    lines = []
    total = {side: np.zeros(2, int) for side in sides}
    for name, (names, kinds) in ill.items():
        line = {"": name}
        for side, belongs in sides.items():
            counts = cell([row for row in every if belongs(row) and (row["fault"] or row["case"]) in names], kinds)
            total[side] += counts
            line[side] = f"{counts[0]} of {counts[1]}"
        lines.append(line)
    lines.append({"": "**faulty, total**"} | {side: f"**{n} of {m} detected**" for side, (n, m) in total.items()})
    healthy = {
        side: [row for row in every if belongs(row) and not row["fault"] and row["case"] not in by_themselves]
        for side, belongs in sides.items()
    }
    false = {
        side: f"**{sum(bool(row['kinds']) for row in rows)} of {len(rows)} raised an alarm**"
        for side, rows in healthy.items()
    }
    lines.append({"": "**healthy**"} | false)
    columns: dict[str, Column] = {name: lambda line, name=name: line[name] for name in ("", *sides)}
    return table(lines, columns)


# --- memorisation ------------------------------------------------------------------------------------------------------------

VERDICTS = ("copies", "suspicious", "none")


def verdicts(row: Row) -> str:
    """How often each verdict was given."""
    return ", ".join(f"`{name}` {row[name]}" for name in VERDICTS if row[name]) + f" of {row['seeds']}"


def planted(_: str) -> str:
    """bench/memorisation.py with planted copies, nothing held out."""
    rows = [
        row
        for row in read("memorisation", keys=("case", "held", "share", "noise"))
        if row["case"] == "planted" and not row["held"]
    ]
    noises = sorted({row["noise"] for row in rows if row["share"]})
    columns: dict[str, Column] = {
        "copies among the samples": lambda group: (
            f"{group['case']:.0%} ({round(group['case'] * group['rows'][0]['samples'])} images)" if group["case"] else "none"
        )
    }
    for noise in noises:
        columns[f"noise {noise}"] = lambda group, noise=noise: next(
            (verdicts(row) for row in group["rows"] if row["noise"] == noise or (not group["case"] and noise == noises[0])),
            "",
        )
    return table(grouped(rows, lambda row: row["share"]), columns)


def copying(_: str) -> str:
    """bench/memorisation.py on trained models."""
    rows = [row for row in read("memorisation", keys=("case", "data", "images", "samples_seed")) if row["case"] == "run"]
    columns: dict[str, Column] = {
        "training images": lambda group: (
            f"{group['case']:,}" + (f", and {held} held out" if (held := group["rows"][0]["held"]) else "")
        )
    }
    for images in (100_000, 200_000):
        columns[f"verdicts at {images:,} images"] = lambda group, images=images: ", ".join(
            f"`{row['verdict']}`" + (f" ({row['copied']:.0%}, {row['way']})" if row["copied"] else "")
            for row in group["rows"]
            if round(row["images"], -3) == images
        )
    return table(grouped(rows, lambda row: row["training"]), columns)


DISTANCES = {"lite0 maps": "`lite0`, maps of all stages", "lite0 mean": "`lite0`, means of stage 5"}
CHANGES = {
    "crop of .9": "crop .9", "crop of .75": "crop .75", "mirrored crop of .8": "mirrored crop", "mirrored": "mirror",
    "channels swapped": "hue", "grey": "grey", "darker": "light", "noise .2": "noise", "false": "false",
}  # fmt: skip


def recognised(data: str) -> str:
    """bench/memorisation.py: changed copies that a distance recognises, on a data set."""
    rows = [
        row
        for row in read("memorisation", keys=("case", "choice", "data"))
        if row["case"] == "recognised" and row["data"] == data
    ]
    columns: dict[str, Column] = {"distance": lambda row: DISTANCES.get(row["choice"], row["choice"])}
    columns |= {name: lambda row, key=key: f"{row[key]:.2f}" for name, key in CHANGES.items()}
    return table(rows, columns)


def resolution(_: str) -> str:
    """The detection limit of copies, without near-copies among the references: `metrics.copying.resolution`."""
    from leafwing.metrics.copying import resolution as limit

    columns: dict[str, Column] = {"reference images (held-out and training images)": "{references:,}"}
    for n in (300, 1_000, 5_000):
        columns[f"{n:,}" + " samples" * (n == 300)] = lambda row, n=n: percent(limit(np.ones(row["references"]), n))
    return table([{"references": n} for n in (16, 64, 500, 1_000, 5_000)], columns)


def percent(share: float) -> str:
    """A share with two digits."""
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"


# --- metrics, evaluation, sprites --------------------------------------------------------------------------------------------

BIASED = {
    "FID, 64 features, same": ("same, 64 features", "fid", 1),
    "apart": ("apart, 64 features", "fid", 1),
    "FID, 2,048 features, same": ("same, 2048 features", "fid", 1),
    "apart ": ("apart, 2048 features", "fid", 1),
    "KID, 64 features, apart": ("apart, 64 features", "kid", 1000),
    "KID, 2,048 features, apart": ("apart, 2048 features", "kid", 1000),
}


def bias(_: str) -> str:
    """bench/bias.py: FID and KID by the number of samples."""
    rows = {(row["case"], row["samples"]): row for row in read("bias")}
    columns: dict[str, Column] = {"samples": "{samples}"}
    for name, (case, metric, scale) in BIASED.items():
        truth = scale * rows[case, 50][f"{metric}_truth"]

        def cell(line: Row, case: str = case, metric: str = metric, scale: int = scale, truth: float = truth) -> str:
            if not line["n"]:
                return f"*{truth:.3f}*" if truth else "*0*"
            row = rows.get((case, line["n"]))
            return f"{scale * row[f'{metric}_mean']:.2f} ± {scale * row[f'{metric}_deviation']:.2f}" if row else ""

        columns[name] = cell
    sizes = sorted({n for _, n in rows})
    return table([{"samples": "*the truth*", "n": 0}, *({"samples": f"{n:,}", "n": n} for n in sizes)], columns)


EVALUATED = {
    "pixels": "`pixels`",
    "own, trained": "`own`, trained first",
    "own, cached": "`own`, from the cache",
    "no network": "none",
}


def evaluation(processors: str) -> str:
    """bench/evaluation.py on a processor."""
    columns: dict[str, Column] = {
        "features": lambda row: EVALUATED[row["case"]],
        "metrics": lambda row: ", ".join(row["by_metric"]),
        "seconds": "{seconds}",
        "peak memory": "{peak_mib} MiB",
    }
    return table([row for row in read("evaluation", processors) if row["case"] in EVALUATED], columns)


SHOWN = {
    "blank": "blank", "static": "pure noise", "ghosts": "the mean of two images", "two sprites": "two sprites",
}  # fmt: skip
"""Cases of bench/sprites.py without a single sprite, in words."""


def oracle(_: str) -> str:
    """bench/sprites.py: what the oracle reads, and how often it is sure."""
    rows = read("sprites", keys=("case", "size"))
    columns: dict[str, Column] = {"images": lambda group: SHOWN.get(group["case"], group["case"].removesuffix(".0"))}
    for size in (16, 32, 64, 128):
        columns[f"{size} px"] = lambda group, size=size: next(
            ("{caption:.1%}, {sure:.0%}" if "caption" in row else "{sure:.0%}").format_map(row)
            for row in group["rows"]
            if row["size"].startswith(f"{size}x")
        )
    return table(grouped(rows, lambda row: row["case"]), columns)


TABLES: Iterable[Callable[[str], str]] = (health, planted, copying, recognised, resolution, bias, evaluation, oracle)
