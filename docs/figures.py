"""The tables of figures in documents, from the rows in bench/results: `make docs` writes them.

A page has a table of figures between two comments, `<!-- rows: NAME ARGUMENTS -->` and `<!-- end -->`. NAME is a function of this
file or of docs/guide_figures.py, which reads rows and returns Markdown. A test compares, so page and rows agree; nothing is measured.
Figures in prose (with a decimal point or a percent sign) must be in one of the tables of the page, rounded; others are listed with
their source in a comment:

    <!-- other figures
    step.jsonl: 77.3% 70.6%
    health.py: 0.15
    targets: 78%
    -->

The rows of a named file, or the text of a file of leafwing, must have the figure; other sources are words. Rows of tables that were
measured with uncommitted changes have a mark.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "bench")]

import comparisons as compared
import divergences as fits
import family as families
import guide_figures as guide
import laboratory as tools
import remedies as techniques
import small_data as small
from row_tables import RESULTS, ROOT, SOURCE, Column, Row, grouped, marked, read, spread, spreads, table
from rows import processor

GUIDE = ("health", "memorisation", "metrics", "evaluation", "sprites", "modes")
PAGES = [
    *sorted((ROOT / "docs" / "results").glob("*.md")),
    ROOT / "docs" / "performance.md",
    *(ROOT / "docs" / "guide" / f"{name}.md" for name in GUIDE),
]
"""Pages of which all figures have a source."""
BLOCK = re.compile(r"(<!-- rows: (\w+)(?: ([^\n]*?))? -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)


def printed(show: Callable[[Path], None], name: str, heading: str = "") -> str:
    """What a benchmark prints of its rows; with `heading`, the part below it."""
    with redirect_stdout(io.StringIO()) as text:
        show(SOURCE.get() / f"{name}.jsonl")
    return (
        re.split(rf"^### {heading}\n", text.getvalue(), flags=re.MULTILINE)[1].partition("\n### ")[0]
        if heading
        else text.getvalue()
    )


# --- results -----------------------------------------------------------------------------------------------------------------


def family(part: str) -> str:
    """A part of bench/family.py."""
    return printed(families.show, "family", part)


def remedies(source: str) -> str:
    """bench/remedies.py on a data set."""
    (part,) = [
        part for part in printed(techniques.show, "remedies").strip().split("\n\n") if part.startswith(f"| {source} |")
    ]
    return part


def divergences(_: str) -> str:
    """bench/divergences.py."""
    return printed(fits.table, "divergences")


def laboratory(tool: str) -> str:
    """A tool of bench/laboratory.py."""
    return printed(tools.show, "laboratory", tool)


def small_data(_: str) -> str:
    """bench/small_data.py."""
    return printed(small.show, "small_data")


def comparison(name: str) -> str:
    """A comparison: command, sentences, table and conditions."""
    text = (RESULTS / "compare" / f"{name}.json").read_text(encoding="utf-8")
    return compared.markdown(name, json.loads(text)).partition("\n\n")[2]


def coverage(name: str) -> str:
    """The modes of a comparison on points."""
    summary = json.loads((RESULTS / "compare" / f"{name}.json").read_text(encoding="utf-8"))["summary"]
    columns: dict[str, Column] = {name: lambda row: f"`{row['recipe']}`"}
    for title, key in (("modes", "modes"), ("high quality", "high_quality"), ("KL", "kl")):
        columns[title] = lambda row, key=key: compared.cell(row["final"][key])
    return table(summary, columns)


def points(_: str) -> str:
    """bench/points.py: rows with a divergence; older ones have none, and other settings."""
    rows = [row for row in read("points", keys=("world", "recipe", "images", "seed")) if "kl" in row]
    columns: dict[str, Column] = {
        "data": lambda group: group["case"][0],
        "recipe": lambda group: f"`{group['case'][1]}`",
        "points": lambda group: f"{group['case'][2]:,}",
        "seeds": lambda group: len(group["rows"]),
        "modes": lambda group: ", ".join(str(row["modes"]) for row in sorted(group["rows"], key=lambda row: row["seed"])),
        "high quality": lambda group: spread(group["rows"], "good", ".1%"),
        "KL": lambda group: spread(group["rows"], "kl", ".3f"),
        "seconds of processor time": lambda group: spread(group["rows"], "cpu", ".0f"),
    }
    return table(
        grouped(
            sorted(rows, key=lambda row: (row["world"], row["recipe"])),
            lambda row: (row["world"], row["recipe"], row["images"]),
        ),
        columns,
    )


def digits(_: str) -> str:
    """bench/digits.py."""
    rows = read("digits", keys=("recipe", "options", "precision", "threads", "commit", "seed"))
    columns: dict[str, Column] = {
        "recipe": lambda row: f"`{row['recipe']}`" + "".join(f", {name} {value}" for name, value in row["options"].items()),
        "precision, threads": "{precision}, {threads}",
        "commit": lambda row: row["commit"][:7],
        "seed": "{seed}",
        "classified as requested": lambda row: f"{row['read_as_asked']:.1%}" if "read_as_asked" in row else "no labels",
        "worst class": lambda row: f"{row['worst_class']:.0%}" if "worst_class" in row else "",
        "confident": "{confident:.1%}",
        "seconds": "{seconds:.0f}",
    }
    return table(rows, columns)


def demo(_: str) -> str:
    """bench/demo.py: the present command of `make demo`, by machine and setting."""
    rows = read("demo", keys=("command", "threads", "precision", "busy", "seed"))
    rows = [row for row in rows if row["command"] == rows[-1]["command"]]

    def each(key: str, form: str) -> Column:
        return lambda group: ", ".join(f"{row[key]:{form}}" for row in group["rows"])

    columns: dict[str, Column] = {
        "processor": lambda group: group["case"][0].replace("(R)", ""),
        "precision": lambda group: group["case"][1],
        "threads": lambda group: group["case"][2],
        "load on another core": lambda group: f"{group['case'][3]:.0%} of the time" if group["case"][3] else "",
        "seed": each("seed", "d"),
        "images": each("images", ",d"),
        "seconds of training": each("training_seconds", ".0f"),
        "classified as requested": each("read_as_asked", ".1%"),
        "worst class": each("worst_class", ".0%"),
    }
    return table(grouped(rows, lambda row: (processor(row), row["precision"], row["threads"], row["busy"])), columns)


def reading(_: str) -> str:
    """bench/reading.py."""
    columns: dict[str, Column] = {
        "images": "{samples:,}",
        "shape": lambda row: " x ".join(map(str, row["shape"])),
        "batch": "{batch}",
        "step of `dcgan`": "{step_ms:.3g} ms",
        "reading a batch": "{read_ms:.2g} ms",
        "share of the step": "{share:.2%}",
    }
    return table(read("reading", keys=("shape",)), columns)


# --- translators -------------------------------------------------------------------------------------------------------------


TRANSLATED = {
    "L1": "l1", "PSNR": "psnr", "SSIM": "ssim", "edges": "edges", "KID x 1,000": "kid", "feature distance": "features",
    "accuracy": "accuracy", "iou": "iou",
}  # fmt: skip
VARIANTS = {
    "l1": "L1 alone",
    "cgan": "L1 + adversarial",
    "patch16": "the same, patches of 16 px",
    "patch1": "the same, patches of 1 px",
}


def pairs(_: str) -> str:
    """bench/translation.py with pairs: the variants of pix2pix."""
    rows = [row for row in read("translation", "Xeon", ("choice", "seed")) if row["choice"] in VARIANTS]
    columns: dict[str, Column] = {
        "variant": lambda group: VARIANTS[group["case"]],
        "images": lambda group: f"{group['rows'][0]['images']:,}",
        "seeds": lambda group: len(group["rows"]),
        **spreads(TRANSLATED),
        "seconds": lambda group: spread(group["rows"], "seconds", ",.0f"),
    }
    groups = grouped(rows, lambda row: row["choice"])
    return table(sorted(groups, key=lambda group: [*VARIANTS].index(group["case"])), columns)


def without_pairs(_: str) -> str:
    """bench/translation.py without the pairs, beside pix2pix."""
    columns: dict[str, Column] = {
        "recipe": lambda group: f"`{group['case']}`",
        **spreads({name: key for name, key in TRANSLATED.items() if key not in ("psnr", "ssim")}),
        "seconds": lambda group: spread(group["rows"], "seconds", ",.0f"),
        "back: L1, KID x 1,000": lambda group: ", ".join(
            spread(group["rows"], key) for key in ("back_l1", "back_kid")
        ).strip(", "),
    }
    return table(grouped(read("translation", "EPYC", ("choice", "seed")), lambda row: row["recipe"]), columns)


def toy(_: str) -> str:
    """bench/unpaired.py on points."""
    names = {"none": "none: a GAN alone", "one_way": "one way", "both": "both ways"}
    rows = [row for row in read("unpaired", keys=("case", "choice", "recipe", "seed")) if row["case"] == "toy"]
    columns: dict[str, Column] = {
        "reconstruction": lambda group: names[group["case"]],
        "seeds": lambda group: len(group["rows"]),
        "covered": lambda group: ", ".join(str(row["covered"]) for row in group["rows"]),
        "collapsed": lambda group: ", ".join(str(row["collapsed"]) for row in group["rows"]),
        **spreads({"good": "good", "back": "back"}),
    }
    return table(grouped(rows, lambda row: row["choice"]), columns)


def filled(_: str) -> str:
    """bench/unpaired.py on sprites."""
    columns: dict[str, Column] = {
        "recipe": "`{recipe}`",
        "images": "{images:,}",
        "shape": "{shape:.1%}",
        "colour": "{colour:.1%}",
        "size": "{how_large:.1%}",
        "place": "{place:.1%}",
        "sure": "{sure:.1%}",
        "back": lambda row: f"{row['back']} ({row['grey']})" if "back" in row else "one direction",
        "seconds": "{seconds:,.0f}",
    }
    return table(
        [row for row in read("unpaired", keys=("case", "recipe", "images", "seed")) if row["case"] == "sprites"], columns
    )


def sprite_pairs(_: str) -> str:
    """bench/zoo.py: pix2pix on outlines in colour."""
    rows = [row for row in read("zoo", keys=("case", "options", "seed")) if row["case"] == "pairs" and "caption" in row]
    columns: dict[str, Column] = {
        "loss": lambda row: "L1 alone" if row["options"].get("adversarial") == 0 else "L1 + adversarial",
        "seed": "{seed}",
        "shape": "{shape:.1%}",
        "size": "{how_large:.1%}",
        **{name: f"{{{name}:.1%}}" for name in ("colour", "place", "background")},
        "all": "{caption:.1%}",
        "L1": "{l1:.4f}",
        "CPU": "{cpu_seconds:,.0f} s",
    }
    return table(rows, columns)


def cost(_: str) -> str:
    """bench/unpaired.py: time and memory of an image."""
    columns: dict[str, Column] = {
        "size": "{size}", "recipe": "`{recipe}`", "ms": "{ms}", "ratio": "{time_ratio}", "MiB for each image": "{mib_per_image}",
    }  # fmt: skip
    return table([row for row in read("unpaired") if row["case"] == "cost"], columns)


def super_resolution(source: str) -> str:
    """bench/super_resolution.py on a data set; rows without a source are of cats128."""
    names = {"bicubic": "bicubic", "srresnet": "SRResNet", "srgan": "SRGAN"}
    measures = {
        "PSNR": "psnr", "PSNR of luma": "psnr_y", "SSIM": "ssim", "edge energy": "edge_energy", "KID x 1,000": "kid",
        "feature distance": "feature_distance",
    }  # fmt: skip
    columns: dict[str, Column] = {
        "method": lambda group: names[group["case"]],
        "seeds": lambda group: len(group["rows"]) if "images" in group["rows"][0] else "",
        **spreads(measures, ".4g"),
    }
    rows = read("super_resolution", keys=("source", "case", "seed"))
    rows = [row for row in rows if row.get("source", "cats128") == source]
    return table(grouped(rows, lambda row: row["case"]), columns)


def refine(_: str) -> str:
    """bench/refine.py: SimGAN."""
    columns: dict[str, Column] = {
        "options": lambda row: f"`--lr-g {float(row['options']['lr_g']):g} --l1 {float(row['options']['l1']):g}`",
        "seed": "{seed}",
        "KID before, after": "{before[kid]:.3f}, {after[kid]:.3f}",
        "told apart before, after": "{before[accuracy]:.0%}, {after[accuracy]:.0%}",
        "shape before, after": "{before[shape]:.1%}, {after[shape]:.1%}",
    }
    return table([row for row in read("refine", keys=("recipe", "options", "seed")) if row["recipe"] == "simgan"], columns)


def steerable(_: str) -> str:
    """bench/zoo.py: the term of steerable filters."""
    rows = [row for row in read("zoo", keys=("case", "options", "seed")) if row["case"] == "steerable"]
    columns: dict[str, Column] = {
        "weight of the term": "{options[steerable]:g}", "seed": "{seed}", "PSNR": "{psnr} dB", "L1": "{l1}", "edges": "{edges}",
    }  # fmt: skip
    return table(rows, columns)


def translation_step(_: str) -> str:
    """bench/translation_step.py on all processors."""
    columns: dict[str, Column] = {
        "batch": "{batch}",
        "precision": lambda row: row["precision"] + (", EPYC" if "EPYC" in processor(row) else ""),
        "plain PyTorch": "{baseline_images_per_second} images/s",
        "leafwing": "{leafwing_images_per_second} images/s",
        "ratio": "{ratio}",
        "spread": "{ratio_low} to {ratio_high}",
    }
    return table(sorted(read("translation_step"), key=processor), columns)


# --- performance -------------------------------------------------------------------------------------------------------------


def roofline(_: str) -> str:
    """bench/roofline.py: both processors side by side."""
    sides = {name: {row["case"]: row for row in read("roofline", name)} for name in ("EPYC", "Xeon")}
    sides["Xeon"] = {
        case: row for case, row in sides["Xeon"].items() if row["commit"] == [*sides["Xeon"].values()][-1]["commit"]
    }
    columns: dict[str, Column] = {"operations": lambda case: case["case"]}
    for name, rows in sides.items():
        columns[name] = lambda case, rows=rows: f"{rows[case['case']]['share']:.0%}" if case["case"] in rows else ""
        columns[f"GFLOP/s, {name}"] = lambda case, rows=rows: rate(rows.get(case["case"]))
    return table([{"case": case} for case in dict.fromkeys(case for rows in sides.values() for case in rows)], columns)


def rate(row: Row | None) -> str:
    """Billions of operations per second of a case of the roofline; empty for those without."""
    return f"{row['gflop'] / row['milliseconds'] * 1000:,.0f}" if row and row["gflop"] else ""


STEPS = {
    "step_ratio_64": ("a step, batch 64", "2.0"),
    "step_ratio_128": ("a step, batch 128", "2.2"),
    "end_to_end_ratio_64px": ("with data from 64 px JPEG files, batch 128", "2.1"),
    "end_to_end_ratio_512px": ("with data from 512 px JPEG files, batch 128", "2.4"),
}
"""The cases of bench/step.py, and their targets."""


def step(processors: str) -> str:
    """bench/step.py on a processor; the targets are those of CPUs."""
    rows = [row for row in read("step", processors) if row["case"] in STEPS]
    columns: dict[str, Column] = {
        "benchmark": lambda row: STEPS[row["case"]][0],
        "plain PyTorch": "{baseline_images_per_second:,.0f} images/s, {baseline_peak_mib} MiB",
        "leafwing": "{leafwing_images_per_second:,.0f} images/s, {leafwing_peak_mib} MiB",
        "ratio": "{ratio:.2f}",
        "spread": "{ratio_low:.2f} to {ratio_high:.2f}",
        "target": lambda row: STEPS[row["case"]][1] if row["device"] == "cpu" else "",
        "commit": lambda row: row["commit"][:7],
    }
    return table(sorted(rows, key=lambda row: [*STEPS].index(row["case"])), columns)


def levers(processors: str) -> str:
    """bench/levers.py on a processor."""
    columns: dict[str, Column] = {
        "choice": "{choice}",
        "speed-up": "{ratio:.2f}",
        "spread": "{ratio_low:.2f} to {ratio_high:.2f}",
        "peak memory with, without": "{peak_mib_with}, {peak_mib_without} MiB",
    }
    return table(read("levers", processors), columns)


def recipes(processors: str) -> str:
    """bench/recipes.py on a processor."""
    columns: dict[str, Column] = {
        "recipe": lambda row: f"`{row['case']}`" if row["case"] == row["recipe"] else row["case"].replace("switch: ", ""),
        "beside": "{beside}",
        "images/s": "{images_per_second:,.0f}",
        "time": "{time_ratio:.2f}",
        "spread": "{time_ratio_low:.2f} to {time_ratio_high:.2f}",
        "FLOP": "{flop_ratio:.2f}",
        "excess": "{excess:.2f}",
        "excess, both in fp32": lambda row: f"{row['excess_fp32']:.2f}" if "excess_fp32" in row else "",
    }
    return table(read("recipes", processors), columns)


def growth(processors: str) -> str:
    """bench/growth.py on a processor: sizes, batches and other recipes."""
    rows = [row for row in read("growth", processors) if row["case"] in ("sizes", "batches", "others")]
    columns: dict[str, Column] = {
        "recipe": "`{recipe}`",
        "size": "{size}",
        "width": lambda row: row["width"] or 1200,
        "batch": "{batch}",
        "images/s": "{images_per_second:,.0f}",
        "time per FLOP": "{seconds_per_flop:.2f}",
        "peak memory": "{peak_mib:.0f} MiB",
        "error of the estimate": lambda row: f"{row['foreseen_ratio'] - 1:+.0%}",
    }
    return table(rows, columns)


def overhead(processors: str) -> str:
    """bench/overhead.py on a processor."""
    row: dict[str, Any] = {}
    for part in read("overhead", processors):
        row |= part
    row |= {name: " and ".join(f"{value:.1f}" for value in row[name]) for name in ("bare_s", "run_s", "dense_s")}
    lines = {
        "`import leafwing`, `leafwing --help`, `leafwing recipes`, without torch": "{import_s:.2f}, {help_s:.2f}, {recipes_s:.2f} s",
        "`import torch`": "{torch_s:.1f} s",
        "from the start of the process to the end of the first turn": "{first_turn_s:.1f} s",
        "packing 256 px JPEG files; a plain Pillow loop": "{packed_per_second:,.0f} images/s; {pillow_per_second:,.0f}",
        "a checkpoint": "{checkpoint_s:.2f} s for {checkpoint_mib:.0f} MiB",
        "a sample grid": "{grid_s:.2f} s",
        "the bare loop, two runs of 20,000 images": "{bare_s} s",
        "complete runs, with log, grids and checkpoints": "{run_s} s",
        "with as many logs, grids and checkpoints as in a run of 200,000 images": "{dense_s} s",
    }
    return table(
        [{"name": name, "value": value.format_map(row)} for name, value in lines.items()],
        {"operation": "{name}", "time or speed": "{value}"},
    )


def sampling(processors: str) -> str:
    """bench/sampling.py on a processor: 1,000 images."""
    rows = [row for row in read("sampling", processors) if row["samples"] == 1000]
    columns: dict[str, Column] = {
        "sampling, 1,000 images of 64 px": "{case}",
        "images/s": "{images_per_second:,.0f}",
        "seconds, fastest and slowest run": "{fastest:.2f}, {slowest:.2f}",
        "peak memory before and after": "{peak_mib_before}, {peak_mib} MiB",
    }
    return table(rows, columns)


def scaling(_: str) -> str:
    """bench/scaling.py on all processors."""
    columns: dict[str, Column] = {
        "processor": lambda row: processor(row).replace("(R)", ""),
        "processes": "{processes}",
        "threads each": "{threads}",
        "images/s": "{images_per_second:.0f}",
        "ratio": "{ratio:.2f}",
        "spread": "{ratio_low:.2f} to {ratio_high:.2f}",
    }
    return table(read("scaling"), columns)


# --- pages -------------------------------------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[str], str]] = {
    function.__name__: function
    for function in (
        family, remedies, divergences, laboratory, small_data, comparison, coverage, points, digits, demo, reading,
        pairs, without_pairs, sprite_pairs, toy, filled, cost, super_resolution, refine, steerable, translation_step,
        roofline, step, levers, recipes, growth, overhead, sampling, scaling, *guide.TABLES,
    )
}  # fmt: skip


def update_figures(text: str) -> str:
    """A page with its tables of figures made anew.

    Raises:
        KeyError: a comment names no table.
    """
    return BLOCK.sub(lambda match: match[1] + marked(TABLES[match[2]], match[3] or "") + match[4], text)


# --- figures in prose --------------------------------------------------------------------------------------------------------

FIGURE = re.compile(r"(?<![\w.,-])(?:\d[\d,]*\.\d+%?|\d+%)")
OTHERS = re.compile(r"<!-- other figures\n(.*?)-->", re.DOTALL)


def numbers(value: Any) -> Iterator[float]:
    """The numbers in a row, or in a text."""
    if isinstance(value, str):
        yield from (
            float(number.replace(",", "")) for number in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.]\d)", value)
        )
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from numbers(part)
    elif isinstance(value, int | float):
        yield float(value)


def is_among(figure: str, values: Iterable[float]) -> bool:
    """Whether a figure is one of the values, rounded; a value may be the hundredth part of a percentage."""
    text = figure.rstrip("%").replace(",", "")
    tolerance = 0.5001 * 10 ** -len(text.partition(".")[2])
    return any(abs(scale * value - float(text)) <= tolerance for value in values for scale in (1, 100))


def without_source(text: str) -> list[str]:
    """The figures in the prose of a page, and in tables that are not made here, that have no source."""
    tables = [*numbers(" ".join(match[0] for match in BLOCK.finditer(text)))]
    others = dict(line.split(": ", 1) for match in OTHERS.finditer(text) for line in match[1].splitlines())
    stated = {figure for figures in others.values() for figure in figures.split()}
    prose = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", " ", BLOCK.sub("", text), flags=re.DOTALL)
    lacking = [figure for figure in FIGURE.findall(prose) if figure not in stated and not is_among(figure, tables)]
    for name, figures in others.items():
        if re.fullmatch(r"\S+\.(jsonl|py)", name):
            text = (ROOT / "src" / "leafwing" / name if name.endswith(".py") else RESULTS / name).read_text(encoding="utf-8")
            stored = [*numbers(text if name.endswith(".py") else [json.loads(line) for line in text.splitlines()])]
            lacking += [f"{figure} in {name}" for figure in figures.split() if not is_among(figure, stored)]
    return lacking


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(update_figures(page.read_text(encoding="utf-8")), encoding="utf-8")
