"""The pictures of a report: real ones and those of each recipe, samples over training, pages of closest pairs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.comparison.page import Gallery, Picture, Row
from leafwing.commands.comparison.plan import ComparisonPlan
from leafwing.commands.comparison.record import Record
from leafwing.metrics.conclusions import in_sentence, show
from leafwing.quantities import show_count
from leafwing.runs import Run

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from leafwing.fields import Field
    from leafwing.game import Batch
    from leafwing.metrics.table import Table
    from leafwing.model import Model

SHOWN, SHOWN_POINTS = 8, 2_000
"""Number of images of each recipe at the top of the report, and of points in a plot."""
WIDE_SIDE, NARROW_SIDE, LARGEST_SIDE = 128, 76, 256
"""The longer side of an image there in pixels: small ones are enlarged by a whole factor to at most the first, or the second on a
narrow screen; ones beyond the last are reduced to it."""
WIDEST_ROW = 1104
"""Width of the report in pixels: as many images as fit into it are shown, at most `SHOWN`."""
PLOT_SIDE = 340
"""Side of a plot of points there, in pixels."""
GAP = 6
"""Pixels between two of them."""
GALLERY_FRACTIONS = (0.05, 0.2, 0.4, 0.7, 1.0)
"""Fractions of training at which the samples of a recipe are shown."""
MAX_DISTANCE = 0.05
"""Maximum distance of a sample grid from such a fraction, as a fraction of training."""
MAX_WIDTH, MAX_PAGE_WIDTH = 520, 1100
"""Maximum width of sample grids in the report, and of pages of closest pairs, in pixels."""


# --- at the top ---------------------------------------------------------------------------------------------------------------


def opening(plan: ComparisonPlan, record: Record, table: Table) -> Gallery:
    """Real images, and below them what each recipe generates at the end of training, in the order of the table."""
    from leafwing.commands.session import sheet_rows

    real: list[Row] = []
    generated = []
    for name in (row["recipe"] for row in table.summary):
        seed = median_run(name, table)
        model = last_model(plan, record, name, seed, run_of(table, name, seed)["images"])
        if model is None:
            generated.append(Row(name, f"no samples: {reason(table, name, seed)}", [], name))
            continue
        rows = sheet_rows(Run(record.run_folder(name, seed)), plan.data, model.game)
        if not real:
            real = [real_row(plan, model, rows), *given_rows(model, rows)]
        generated.append(
            Row(name, note(table, name, seed), draw(model.kind(model.output), samples_of(model, rows), name), name)
        )
    if not real:
        return Gallery("", "No run reached its first checkpoint.", generated)
    points = plan.data.spec.points
    text = (
        f"Real {'points' if points else 'images'} first, then what each recipe generates at the end of training"
        f"{', from the inputs above' if len(real) > 1 else ''}: always the first samples, not a selection, of "
        f"{which_run(table)}. Recipes are in the order of the table below."
    )
    return Gallery("", text, [*real, *generated], beside=points)


def last_model(plan: ComparisonPlan, record: Record, name: str, seed: int, images: int) -> Model | None:
    """The model of a run at its last checkpoint up to a number of images; None if there is none."""
    from leafwing.model import Model

    folder = record.run_folder(name, seed)
    if not (folder / "run.json").exists():
        return None
    run = Run(folder, trust=plan.recipes[name].is_file)
    checkpoints = [shown for shown in run.weights() if shown <= images]
    return Model.load(run, checkpoint=checkpoints[-1]) if checkpoints else None


def samples_of(model: Model, rows: Batch | None) -> Tensor:
    """The first samples of a model, in the format of networks.

    Args:
        model: the model.
        rows: real samples, whose conditions the samples have; None: the model's own.
    """
    from leafwing.conditions import pixel_conditions

    output = model.output
    if rows is None:
        return model.sample(SHOWN_POINTS if model.spec.points else SHOWN, seed=0)
    conditions: dict[str, Any] = {name: rows[name] for name in output.conditions if name in rows}
    if names := pixel_conditions(output, model.spec):
        return model.translate(conditions.pop(names[0]), output=output.field, **conditions)
    return model.sample(rows.n, seed=0, **conditions)


def real_row(plan: ComparisonPlan, model: Model, rows: Batch | None) -> Row:
    """Real samples of the field that the recipes generate: held-out ones, if there are any."""
    from leafwing.metrics.targets import is_paired, target

    output, data = model.output, plan.data.centred()
    label, note = ("real points" if plan.data.spec.points else "real images"), ""
    if rows is not None and output.field in rows:
        if not is_paired(output, plan.data.spec) and any(model.spec.fields[name].has_pixels for name in output.conditions):
            note = "not of the same inputs"
        return Row(label, note, draw(model.kind(output), rows[output.field], label, captions(model, rows)))
    if held_out := plan.conditions.held_out:
        data, note = data.split_anew(held_out)[1], "held out of training"
    if plan.data.spec.points:
        return Row(label, note, draw(model.kind(output), data.to_network(data.batch(0, 0, SHOWN_POINTS)).image, label))
    compared = target(data, output.field)
    kind = compared.spec.fields["image"]
    return Row(label, note, draw(kind, compared.to_network(compared.batch(0, 0, min(SHOWN, len(compared)))).image, label))


def given_rows(model: Model, rows: Batch | None) -> list[Row]:
    """The images, masks and so on that samples are generated from."""
    from leafwing.conditions import pixel_conditions

    names = pixel_conditions(model.output, model.spec) if rows is not None else []
    return [Row(f"given: {name}", "", draw(model.spec.fields[name], rows[name], name)) for name in names if rows is not None]


def captions(model: Model, rows: Batch) -> list[str]:
    """The captions among the conditions of real samples, one text each; empty if there are none."""
    from leafwing.fields import Caption

    for name in model.output.conditions:
        kind = model.spec.fields[name]
        if isinstance(kind, Caption) and name in rows:
            return [kind.decode(row) for row in rows[name].tolist()]
    return []


def draw(kind: Field, samples: Tensor, label: str, texts: Sequence[str] = ()) -> list[Picture]:
    """Samples in the format of networks as pictures of a row, small ones enlarged; points as one plot.

    Args:
        kind: their field.
        samples: the samples (n, *shape).
        label: what they are, for their descriptions.
        texts: a caption for each; empty: none.
    """
    from leafwing.pictures import Cell, is_smooth, scatter

    if not kind.has_pixels:
        plot = scatter(samples, PLOT_SIDE)
        return [Picture(encode(plot, lossless=True), "image/webp", plot.size, f"{label}: {len(samples):,} points")]
    images = [Cell(kind, stored).draw(1, None) for stored in kind.to_stored(samples).numpy()]
    width, height = images[0].size
    longer = max(height, width // getattr(kind, "frames", 1))
    factors = (max(1, WIDE_SIDE // longer), max(1, NARROW_SIDE // longer))
    if longer > LARGEST_SIDE:
        size = (max(1, round(width * LARGEST_SIDE / longer)), max(1, round(height * LARGEST_SIDE / longer)))
        images = [image.resize(size) for image in images]
    fitting = max(1, (WIDEST_ROW + GAP) // (factors[0] * images[0].width + GAP))
    pictures = []
    for i, image in enumerate(images[:fitting]):
        text = texts[i] if texts else ""
        content = encode(image, lossless=True)
        pictures.append(Picture(content, "image/webp", image.size, f"{label}, {i + 1}", text, factors, is_smooth(kind)))
    return pictures


def note(table: Table, name: str, seed: int) -> str:
    """The small print beside the name of a recipe: which run is shown, and its final value or why there is none."""
    run = run_of(table, name, seed)
    measure = next(iter(table.measures), "")
    value = run["final"].get(measure)
    end = f"final {measure} {show(value)}" if value is not None else "no final value"
    return f"seed {seed}, {end}" + (f"; {in_sentence(run['why'])}" if run["why"] else "")


def reason(table: Table, name: str, seed: int) -> str:
    """Why a run has no samples."""
    return in_sentence(run_of(table, name, seed)["why"] or "it reached no checkpoint")


def run_of(table: Table, name: str, seed: int) -> Mapping[str, Any]:
    """The row of a run."""
    return next(run for run in table.runs if (run["recipe"], run["seed"]) == (name, seed))


# --- further down -------------------------------------------------------------------------------------------------------------


def galleries(plan: ComparisonPlan, record: Record, table: Table) -> list[Gallery]:
    """Samples over training, final samples of every seed, and pages of closest pairs."""
    seeds = {row["recipe"]: median_run(row["recipe"], table) for row in table.summary}
    is_equal = len({*plan.images.values()}) == 1
    over_training = Gallery(
        "Samples over training",
        f"At equal {'numbers of images shown' if is_equal else 'fractions of each run'}, always from the same "
        f"{'inputs' if translates(plan) else 'latents'}. Of each recipe, {which_run(table)} is shown.",
        [
            Row(
                name,
                f"seed {seed}",
                [grid for fraction in GALLERY_FRACTIONS if (grid := grid_at(plan, record, name, seed, fraction))],
                name,
            )
            for name, seed in seeds.items()
        ],
    )
    final = Gallery(
        "Final samples of every seed",
        "The last samples of every run, good and bad.",
        [
            Row(name, "", [*filter(None, (last_grid(record, table, name, seed) for seed in plan.seeds))], name)
            for name in seeds
        ],
    )
    pages = [Row(name, f"seed {seed}", closest_pairs(record, name, seed), name) for name, seed in seeds.items()]
    pairs = Gallery(
        "Closest pairs",
        "Samples next to the training images that are closest to them: a generator that copies is visible here.",
        [row for row in pages if row.pictures],
    )
    return [over_training, *([final] if len(plan.seeds) > 1 else []), *([pairs] if pairs.rows else [])]


def which_run(table: Table) -> str:
    """Which run of a recipe is shown, see `median_run`, in words."""
    seeds = {run["seed"] for run in table.runs}
    if len(seeds) == 1:
        return "its only run"
    which = "the worse of its two runs" if len(seeds) == 2 else "the run with the median final value"
    finished = all(run["status"] == "finished" for run in table.runs)
    return which if finished else f"{which} (if that did not finish, the next better one)"


def translates(plan: ComparisonPlan) -> bool:
    """Whether the compared recipes generate images from images."""
    from leafwing.conditions import pixel_conditions

    return any(pixel_conditions(recipe.output, plan.data.spec) for recipe in plan.recipes.values())


def median_run(name: str, table: Table) -> int:
    """The seed of the run of a recipe with the median final value, or the worse one of two; without final values, the best value.

    Diverged runs count as the worst, as in the table. If that one did not finish, it is the next one that did.
    """
    from leafwing.metrics.table import sort_key

    runs = [run for run in table.runs if run["recipe"] == name]
    runs = [run for run in runs if run["status"] != "failed"] or runs
    ordered = sorted(runs, key=lambda run: (sort_key(run["final"], table.measures), sort_key(run["best"], table.measures)))
    middle = (len(ordered) - 1) // 2
    finished = [i for i, run in enumerate(ordered) if run["status"] == "finished"] or [middle]
    return int(ordered[min(finished, key=lambda i: abs(i - middle))]["seed"])


def sample_grids(record: Record, name: str, seed: int) -> dict[int, Path]:
    """The sample grids of a run, by images shown."""
    return files.numbered(record.run_folder(name, seed) / "samples", "", ".png")


def grid_at(plan: ComparisonPlan, record: Record, name: str, seed: int, fraction: float) -> Picture | None:
    """The sample grid at a fraction of the training; None if training did not get there."""
    grids, total = sample_grids(record, name, seed), plan.images[name]
    nearest = min(grids, key=lambda images: abs(images - fraction * total), default=None)
    if nearest is None or abs(nearest - fraction * total) > MAX_DISTANCE * total:
        return None
    return shrink(grids[nearest], f"samples of {name} at {show_count(nearest)} images", f"{show_count(nearest)} images")


def last_grid(record: Record, table: Table, name: str, seed: int) -> Picture | None:
    """The last sample grid of a run, of those until its training ended in the comparison."""
    images = run_of(table, name, seed)["images"]
    grids = {shown: path for shown, path in sample_grids(record, name, seed).items() if shown <= images}
    if not grids:
        return None
    return shrink(
        grids[max(grids)], f"final samples of {name}, seed {seed}", f"seed {seed}, {show_count(max(grids))} images"
    )


def closest_pairs(record: Record, name: str, seed: int) -> list[Picture]:
    """The page of closest pairs that the comparison's evaluation of a run wrote last, with its conclusion; empty if it wrote none."""
    folder, rows = record.run_folder(name, seed), record.run_state(name, seed).rows
    pages = {row["images"]: row for row in rows if row.get("page")}
    if not pages or not (path := folder / Path(pages[max(pages)]["page"]).name).is_file():
        return []
    return [shrink(path, f"closest pairs of {name}, seed {seed}", pages[max(pages)].get("words", ""), MAX_PAGE_WIDTH)]


def shrink(path: Path, alt: str, caption: str, width: int = MAX_WIDTH) -> Picture:
    """An image file, reduced to a maximum width in pixels.

    Raises:
        LeafwingError: it is damaged.
    """
    from PIL import Image

    from leafwing.pictures import read_sheet

    image = read_sheet(path)
    is_plot = image.mode == "L"  # of points: few colours, sharp edges
    small = image.convert("RGB")
    small.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
    return Picture(encode(small, lossless=is_plot), "image/webp", small.size, alt, caption)


def encode(image: Image.Image, *, lossless: bool) -> bytes:
    """An image as WebP."""
    content = io.BytesIO()
    image.convert("RGB").save(content, "WEBP", quality=85, lossless=lossless, method=4)
    return content.getvalue()
