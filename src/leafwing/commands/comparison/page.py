"""The report of a comparison as one HTML page: no network access, no scripts; pictures and plots are embedded.

The text and the layout are in `page.html`, a Jinja template, and in `page.css`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leafwing.metrics import METRICS, caveats, curves
from leafwing.metrics.conclusions import MAX_COST_DIFFERENCE, MIN_STEPS, describe_outcome, in_sentence, show
from leafwing.metrics.table import FAR_WORSE, MIN_VARIETY, RunResult, Table
from leafwing.quantities import show_count, show_duration

ARROWS = {"lower": "↓", "higher": "↑", "": ""}


@dataclass(frozen=True)
class Picture:
    """An image on the page.

    Args:
        content: bytes of an image file.
        kind: its MIME type, such as image/webp.
        size: its width and height in pixels.
        alt: description for those who cannot see it.
        caption: caption below it; may be empty.
        factors: whole factors by which it is enlarged on a wide and on a narrow screen.
        is_smooth: whether it is enlarged smoothly, and not pixel by pixel.
    """

    content: bytes
    kind: str
    size: tuple[int, int]
    alt: str
    caption: str = ""
    factors: tuple[int, int] = (1, 1)
    is_smooth: bool = False

    @property
    def data_uri(self) -> str:
        """The image as a data URI."""
        return f"data:{self.kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Row:
    """Images with a label.

    Args:
        label: what they are, such as "real images" or the name of a recipe.
        note: small print beside the label, such as the seed; or why there are no images.
        pictures: the images.
        recipe: the recipe that generated them; empty for real images.
    """

    label: str
    note: str
    pictures: Sequence[Picture]
    recipe: str = ""


@dataclass(frozen=True)
class Gallery:
    """Rows of images under a heading.

    Args:
        title: the heading.
        text: a paragraph below it.
        rows: the rows.
        beside: whether rows stand beside each other, if there is room.
    """

    title: str
    text: str
    rows: Sequence[Row]
    beside: bool = False


@dataclass(frozen=True)
class Figure:
    """A number that the verdict rests on.

    Args:
        value: the number, as text.
        label: what it is.
        note: small print below it.
    """

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class About:
    """Context of the comparison.

    Args:
        title: the heading of the page.
        lead: summary of what was done, in a sentence or two.
        command: the exact command.
        facts: (name, value): data, hardware, versions.
        protocols: evaluation protocols with their fingerprint, and the measures computed under each.
        seconds: (recipe, seed) -> training time in seconds by images shown.
    """

    title: str
    lead: str
    command: str
    facts: Sequence[tuple[str, str]]
    protocols: Sequence[tuple[str, Sequence[str]]]
    seconds: Mapping[tuple[str, int], Mapping[int, float]] = field(default_factory=dict)


def render(
    table: Table,
    results: Sequence[RunResult],
    opening: Gallery,
    figures: Sequence[Figure],
    galleries: Sequence[Gallery],
    about: About,
) -> str:
    """The whole page.

    Args:
        table: of the comparison.
        results: its runs, for the learning curves.
        opening: real images and those of each recipe, with which the page begins.
        figures: the numbers behind the verdict.
        galleries: of samples and of closest pairs, which come last.
        about: everything else.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": count,
        "duration": duration,
        "in_sentence": in_sentence,
        "marked": lambda name: name + caveats.MARK * (name in table.marked),
        "number": show,
        "outcome": describe_outcome,
        "percent": "{:.0%}".format,
        "short_count": show_count,
    }
    colours = {recipe: i for i, recipe in enumerate(dict.fromkeys(result.recipe for result in results))}
    ranked_by = next(iter(table.measures), "")
    return environment.get_template("page.html").render(
        about=about,
        arrows=ARROWS,
        colours=colours,
        curves=curves,
        figures=figures,
        galleries=galleries,
        limits={
            "far_worse": FAR_WORSE,
            "max_cost_difference": MAX_COST_DIFFERENCE,
            "min_steps": MIN_STEPS,
            "min_variety": MIN_VARIETY,
        },
        meaning=meaning(ranked_by, table),
        opening=opening,
        plots=learning_curves(table, results, colours, about),
        ranked_by=ranked_by,
        table=table,
    )


def meaning(measure: str, table: Table) -> str:
    """What the ranking measure is, in one sentence; empty if it is not the name of a metric."""
    better = table.measures.get(measure, "")
    if measure not in METRICS or not better:
        return ""
    return f"{measure}: {METRICS[measure]}; {better} is better."


def learning_curves(
    table: Table, results: Sequence[RunResult], colours: Mapping[str, int], about: About
) -> list[tuple[str, curves.Plot]]:
    """Captions and plots: each measure over images, and the first one also over time; one line per seed.

    Measures with a single value per run have no curve.
    """
    plots = []
    for i, (name, better) in enumerate(table.measures.items()):
        caption = f"{name}{caveats.MARK * (name in table.marked)} {ARROWS[better]}"
        lines = [curves.Line(run.name, colours[run.recipe], run.curve(name)) for run in results]
        if not any(len(line.points) > 1 for line in lines):
            continue
        plots.append((caption, curves.plot(lines, f"{name} over images shown", "images shown")))
        timed = [timed_line(run, name, colours[run.recipe], about) for run in results]
        if i == 0 and any(line.points for line in timed):
            plot = curves.plot(timed, f"{name} over training time", "training time in seconds")
            plots.append((f"{caption} by training time", plot))
    return plots


def timed_line(run: RunResult, measure: str, colour: int, about: About) -> curves.Line:
    """A run's curve over training time; empty if the times are unknown."""
    seconds = about.seconds.get((run.recipe, run.seed), {})
    points = [(seconds[images], value) for images, value in run.curve(measure) if images in seconds]
    return curves.Line(run.name, colour, points)


def duration(seconds: float | None) -> str:
    """A duration in a cell."""
    return "–" if seconds is None else show_duration(seconds)


def count(value: float | None) -> str:
    """A count in a cell."""
    return "–" if value is None else f"{value:,.0f}"
