"""A comparison as one page of HTML that needs nothing else: no network, no scripts; pictures and drawings are inside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from leafwing.metrics.curves import COLOURS, Line, plot
from leafwing.metrics.table import FAR_WORSE, LEAST_VARIETY, Found, Table
from leafwing.metrics.verdict import LEAST_STEPS, MOST_APART, fate, show, tidy
from leafwing.quantities import show_count, show_duration

ARROWS = {"lower": "↓", "higher": "↑", "": ""}


@dataclass(frozen=True)
class Picture:
    """A picture on the page.

    Args:
        content: of an image file.
        kind: its MIME type, such as image/webp.
        caption: a line below it.
    """

    content: bytes
    kind: str
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures under a heading.

    Args:
        title: the heading.
        text: a paragraph below it.
        rows: each with what it shows, such as "dcgan, seed 1", and its pictures.
        wide: whether a picture takes a row of its own.
    """

    title: str
    text: str
    rows: Sequence[tuple[str, Sequence[Picture]]]
    wide: bool = False


@dataclass(frozen=True)
class About:
    """What a reader who was not here must know.

    Args:
        title: the heading of the page.
        lead: what was done, in a sentence or two.
        command: the exact command.
        facts: (name, value): data, hardware, versions.
        protocols: conditions of the numbers with their fingerprint, and the measures that were made under them.
        seconds: (recipe, seed) -> seconds of training when so many images had been shown.
    """

    title: str
    lead: str
    command: str
    facts: Sequence[tuple[str, str]]
    protocols: Sequence[tuple[str, Sequence[str]]]
    seconds: Mapping[tuple[str, int], Mapping[int, float]] = field(default_factory=dict)


def page(table: Table, found: Sequence[Found], galleries: Sequence[Gallery], about: About) -> str:
    """The whole page.

    Args:
        table: of the comparison.
        found: its runs, for the curves.
        galleries: of samples and of closest pairs.
        about: everything else.
    """
    colours = {recipe: i for i, recipe in enumerate(dict.fromkeys(one.recipe for one in found))}
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    body = [
        f"<header><h1>{escape(about.title)}</h1>",
        f'<p class="verdict">{escape(" ".join(table.sentences))}</p>',
        *([f"<p>{escape(table.equal)}</p>"] if table.equal else []),
        f"<p>{escape(about.lead)}</p></header>",
        section("Result", summary(table, colours)),
        *([section("Every number", every_number(table))] if len(table.measures) > 1 else []),
        section("Learning curves", curves(table, found, colours, about)),
        *(section(gallery.title, pictures(gallery)) for gallery in galleries),
        section("Every run", every_run(table)),
        section("How this was measured", measured(table, about)),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(about.title)}</title>",
            f"<style>\n{style}</style></head>",
            "<body><main>",
            *body,
            "</main></body></html>",
            "",
        ]
    )


def section(title: str, content: str) -> str:
    """A part of the page under its heading."""
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ()) -> str:
    """A table; the cells are HTML, the first of each row names it. Columns in `words` hold text."""
    kinds = [' class="words"' if name in words else "" for name in head]
    lines = ["".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(head, kinds, strict=True))]
    for first, *rest in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        lines.append(f'<th scope="row">{first}</th>{cells}')
    inside = "\n".join(f"<tr>{line}</tr>" for line in lines[1:])
    return f'<div class="scroll"><table><thead><tr>{lines[0]}</tr></thead>\n<tbody>{inside}</tbody></table></div>'


def summary(table: Table, colours: Mapping[str, int]) -> str:
    """A row a recipe: the first measure at the end and at its best, collapses, cost."""
    name = next(iter(table.measures), None)
    arrow = "" if name is None else ARROWS[table.measures[name]]
    numbers = [] if name is None else [f"final {escape(name)} {arrow}", f"best {escape(name)} {arrow}"]
    head = ["recipe", *numbers, "collapsed", "alarms", "images", "G steps", "time", "processor", "s per 1,000 images"]
    rows = []
    for one in table.summary:
        ended = one["runs"] - one["failed"]
        rows.append(
            [
                f'<span class="key c{colours[one["recipe"]] % COLOURS}"></span>{escape(one["recipe"])}',
                *([] if name is None else [over(one[moment][name]) for moment in ("final", "best")]),
                fate(one),
                f"{one['alarmed']} of {ended}",
                count(one["images"]),
                count(one["generator_steps"]),
                duration(one["seconds"]),
                duration(one["processor_seconds"]),
                show(one["seconds_per_1000_images"]),
            ]
        )
    note = (
        "Medians over seeds, with the smallest and the largest below. <em>Final</em> is the last checkpoint, <em>best</em> "
        "the one with the best number, which is chosen by looking and so flatters every recipe. Recipes are in the order of their "
        "final numbers. <em>Alarms</em> counts the runs about which the health monitor said something while they trained. "
        "Time is that of training alone, by the wall clock; <em>processor</em> is the processor time of the whole process, its start "
        f"included, per thread. Runs with fewer than {LEAST_STEPS} steps of G are too short to judge: they are neither ranked nor "
        "collapsed."
    )
    return grid(head, rows) + f'<p class="note">{note}</p>'


def over(one: Mapping[str, Any]) -> str:
    """Median and extremes over seeds, in a cell."""
    missing = f", {one['missing']} without" if one["missing"] else ""
    lowest, highest = show(one["low"]), show(one["high"])
    range_ = lowest if lowest == highest else f"{lowest} to {highest}"
    return f"<b>{show(one['median'])}</b><small>{range_}{missing}</small>"


def every_number(table: Table) -> str:
    """A row a recipe, a column a measure, each at the end and at the best checkpoint."""
    head = ["recipe", *(f"{escape(name)} {ARROWS[better]}" for name, better in table.measures.items())]
    rows = []
    for one in table.summary:
        for moment in ("final", "best"):
            cells = [over(one[moment][name]) for name in table.measures]
            rows.append([f"{escape(one['recipe'])}<small>{moment}</small>", *cells])
    note = "Arrows say which way is better. All numbers of a row are of the same checkpoint of each run."
    return grid(head, rows) + f'<p class="note">{note}</p>'


def curves(table: Table, found: Sequence[Found], colours: Mapping[str, int], about: About) -> str:
    """A drawing for each measure over images, and for the first one over time; a thin line for every seed."""
    drawings = []
    for number, (name, better) in enumerate(table.measures.items()):
        lines = [Line(one.name, colours[one.recipe], one.curve(name)) for one in found]
        if any(line.points for line in lines):
            drawings.append((f"{name} {ARROWS[better]}", plot(lines, f"{name} over images shown", "images shown")))
        timed = [timed_line(one, name, colours[one.recipe], about) for one in found]
        if not number and any(line.points for line in timed):
            title = f"{name} {ARROWS[better]} for what it cost"
            drawings.append((title, plot(timed, f"{name} over seconds of training", "seconds of training")))
    keys = "".join(
        f'<li><span class="key c{colour % COLOURS}"></span>{escape(name)}</li>' for name, colour in colours.items()
    )
    figures = "".join(f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in drawings)
    if not figures:
        return '<p class="note">No checkpoint was evaluated.</p>'
    return f'<ul class="keys">{keys}</ul><div class="plots">{figures}</div>'


def timed_line(one: Found, measure: str, colour: int, about: About) -> Line:
    """A run's curve over seconds of training; without points where the seconds are not known."""
    seconds = about.seconds.get((one.recipe, one.seed), {})
    points = [(seconds[images], value) for images, value in one.curve(measure) if images in seconds]
    return Line(one.name, colour, points)


def pictures(gallery: Gallery) -> str:
    """The pictures of a gallery."""
    rows = []
    for name, shown in gallery.rows:
        figures = "".join(
            f'<figure><img alt="{escape(name)}: {escape(one.caption)}" src="{data_uri(one)}">'
            f"<figcaption>{escape(one.caption)}</figcaption></figure>"
            for one in shown
        )
        rows.append(f'<h3>{escape(name)}</h3><div class="{"wide" if gallery.wide else "row"}">{figures}</div>')
    return f'<p class="note">{escape(gallery.text)}</p>' + "".join(rows)


def data_uri(picture: Picture) -> str:
    """A picture inside the page."""
    return f"data:{picture.kind};base64,{base64.b64encode(picture.content).decode()}"


def every_run(table: Table) -> str:
    """A row a run."""
    name = next(iter(table.measures), None)
    numbers = [] if name is None else [f"final {escape(name)}", f"best {escape(name)}", "best at"]
    head = ["run", *numbers, "images", "G steps", "time", "processor", "how it ended", "health"]
    rows = []
    for run in table.runs:
        ended = run["why"] or "well"
        best_at = "–" if run["best_images"] is None else show_count(run["best_images"])
        cells = [] if name is None else [show(run["final"][name]), show(run["best"][name]), best_at]
        bad = f"<em>{escape(tidy(ended))}</em>" if ended != "well" else ended
        label = f"{escape(run['recipe'])}<small>seed {run['seed']}</small>"
        cost = [count(run["generator_steps"]), duration(run["seconds"]), duration(run["processor_seconds"])]
        rows.append([label, *cells, count(run["images"]), *cost, bad, health(run)])
    return grid(head, rows, ["how it ended", "health"])


def health(run: Mapping[str, Any]) -> str:
    """What the monitor said of a run, in a cell."""
    said = (f"{what} ({show_count(images)} images)" for what, images in run["alarms"].items())
    return "".join(f"<span>{escape(one)}</span>" for one in said) or "no alarm"


def measured(table: Table, about: About) -> str:
    """Definitions, conditions, command, versions."""
    name = next(iter(table.measures), "the first number")
    rules = [
        f"A recipe wins if the median of its final {name} is better than that of the next recipe by more than the spread over seeds "
        "of either: the distance between the quartiles, which for three seeds is the distance between the largest and the smallest.",
        "A run counts as collapsed if a cost or weight became no finite number; if its final samples differ from each other "
        f"less than {LEAST_VARIETY:.0%} as much as real pictures do (mean distance of pairs, averaged down to 8x8); if the modes "
        f"of the data are known and it has fewer than half of them at the end; or if {name} is more than {FAR_WORSE:g} times as bad "
        "at the end as at its best checkpoint, the intervals of both apart.",
        f"A run whose generator took fewer than {LEAST_STEPS} steps is too short to judge: it takes no part in naming a winner, and "
        "does not count as collapsed. A recipe most of whose runs are too short is not ranked.",
        f"At equal time, no winner is named where the costs of recipes differ by more than {MOST_APART:.0%} of that time; nor, at "
        f"equal time or images, where a limit of time cut a run short before it had shown {1 - MOST_APART:.0%} of its images.",
        "A run without a final number counts as worse than any number. A run that broke off for another reason, such as a full "
        "memory, says nothing about its recipe and is left out; the same command tries it again.",
    ]
    conditions = "".join(
        f"<li><b>{escape(', '.join(measures))}</b>: {escape(line)}</li>" for line, measures in about.protocols
    )
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in about.facts)
    return (
        "".join(f"<p>{escape(rule)}</p>" for rule in rules)
        + (f"<h3>Conditions</h3><ul>{conditions}</ul>" if conditions else "")
        + f"<h3>Command</h3><pre>{escape(about.command)}</pre>"
        + f"<h3>Made with</h3><dl>{facts}</dl>"
    )


def duration(seconds: float | None) -> str:
    """A duration in a cell."""
    return "–" if seconds is None else show_duration(seconds)


def count(value: float | None) -> str:
    """A count in a cell."""
    return "–" if value is None else f"{value:,.0f}"
