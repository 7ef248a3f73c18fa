"""A comparison as a self-contained HTML page: no network access, no scripts; pictures and plots are embedded."""

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
        content: bytes of an image file.
        kind: its MIME type, such as image/webp.
        caption: caption below it.
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
        rows: label, such as "dcgan, seed 1", and pictures of each row.
        wide: whether each picture has a row of its own.
    """

    title: str
    text: str
    rows: Sequence[tuple[str, Sequence[Picture]]]
    wide: bool = False


@dataclass(frozen=True)
class About:
    """Context of the comparison.

    Args:
        title: the heading of the page.
        lead: summary of what was done, in a sentence or two.
        command: the exact command.
        facts: (name, value): data, hardware, versions.
        protocols: evaluation protocols with their fingerprint, and the measures made under each.
        seconds: (recipe, seed) -> training time in seconds by images shown.
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
        *([section("All measures", every_number(table))] if len(table.measures) > 1 else []),
        section("Learning curves", curves(table, found, colours, about)),
        *(section(gallery.title, pictures(gallery)) for gallery in galleries),
        section("All runs", every_run(table)),
        section("Methodology", measured(table, about)),
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
    """An HTML table; cells are HTML, the first cell of each row is its header. Columns in `words` hold text."""
    kinds = [' class="words"' if name in words else "" for name in head]
    lines = ["".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(head, kinds, strict=True))]
    for first, *rest in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        lines.append(f'<th scope="row">{first}</th>{cells}')
    inside = "\n".join(f"<tr>{line}</tr>" for line in lines[1:])
    return f'<div class="scroll"><table><thead><tr>{lines[0]}</tr></thead>\n<tbody>{inside}</tbody></table></div>'


def summary(table: Table, colours: Mapping[str, int]) -> str:
    """One row per recipe: the first measure at the end and at its best, collapses, cost."""
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
        "Medians over seeds, with the range below. <em>Final</em> is the last checkpoint, <em>best</em> the one with the best "
        "value; as it is selected on that value, it is optimistically biased. Recipes are sorted by their final values. "
        "<em>Alarms</em> counts the runs with health alarms. Time is wall-clock time of training alone; <em>processor</em> is the "
        f"processor time per thread of the whole process, including start-up. Runs with fewer than {LEAST_STEPS} generator steps are "
        "too short to judge: they are not ranked and do not count as collapsed."
    )
    return grid(head, rows) + f'<p class="note">{note}</p>'


def over(one: Mapping[str, Any]) -> str:
    """A cell with median and range over seeds."""
    missing = f", {one['missing']} missing" if one["missing"] else ""
    lowest, highest = show(one["low"]), show(one["high"])
    range_ = lowest if lowest == highest else f"{lowest} to {highest}"
    return f"<b>{show(one['median'])}</b><small>{range_}{missing}</small>"


def every_number(table: Table) -> str:
    """Two rows per recipe, for the final and the best checkpoint, and one column per measure."""
    head = ["recipe", *(f"{escape(name)} {ARROWS[better]}" for name, better in table.measures.items())]
    rows = []
    for one in table.summary:
        for moment in ("final", "best"):
            cells = [over(one[moment][name]) for name in table.measures]
            rows.append([f"{escape(one['recipe'])}<small>{moment}</small>", *cells])
    note = "Arrows show which direction is better. All values of a row come from the same checkpoint of each run."
    return grid(head, rows) + f'<p class="note">{note}</p>'


def curves(table: Table, found: Sequence[Found], colours: Mapping[str, int], about: About) -> str:
    """A plot of each measure over images, and of the first one over time; one line per seed."""
    drawings = []
    for number, (name, better) in enumerate(table.measures.items()):
        lines = [Line(one.name, colours[one.recipe], one.curve(name)) for one in found]
        if any(line.points for line in lines):
            drawings.append((f"{name} {ARROWS[better]}", plot(lines, f"{name} over images shown", "images shown")))
        timed = [timed_line(one, name, colours[one.recipe], about) for one in found]
        if not number and any(line.points for line in timed):
            title = f"{name} {ARROWS[better]} by training time"
            drawings.append((title, plot(timed, f"{name} over training time", "training time in seconds")))
    keys = "".join(
        f'<li><span class="key c{colour % COLOURS}"></span>{escape(name)}</li>' for name, colour in colours.items()
    )
    figures = "".join(f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in drawings)
    if not figures:
        return '<p class="note">No checkpoint was evaluated.</p>'
    return f'<ul class="keys">{keys}</ul><div class="plots">{figures}</div>'


def timed_line(one: Found, measure: str, colour: int, about: About) -> Line:
    """A run's curve over training time; empty if the times are unknown."""
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
    """A picture as a data URI."""
    return f"data:{picture.kind};base64,{base64.b64encode(picture.content).decode()}"


def every_run(table: Table) -> str:
    """One row per run."""
    name = next(iter(table.measures), None)
    numbers = [] if name is None else [f"final {escape(name)}", f"best {escape(name)}", "best at"]
    head = ["run", *numbers, "images", "G steps", "time", "processor", "outcome", "health"]
    rows = []
    for run in table.runs:
        ended = run["why"] or "finished"
        best_at = "–" if run["best_images"] is None else show_count(run["best_images"])
        cells = [] if name is None else [show(run["final"][name]), show(run["best"][name]), best_at]
        bad = f"<em>{escape(tidy(ended))}</em>" if ended != "finished" else ended
        label = f"{escape(run['recipe'])}<small>seed {run['seed']}</small>"
        cost = [count(run["generator_steps"]), duration(run["seconds"]), duration(run["processor_seconds"])]
        rows.append([label, *cells, count(run["images"]), *cost, bad, health(run)])
    return grid(head, rows, ["outcome", "health"])


def health(run: Mapping[str, Any]) -> str:
    """A cell with the health alarms of a run."""
    said = (f"{what} ({show_count(images)} images)" for what, images in run["alarms"].items())
    return "".join(f"<span>{escape(one)}</span>" for one in said) or "no alarm"


def measured(table: Table, about: About) -> str:
    """Definitions, evaluation protocols, command, versions."""
    name = next(iter(table.measures), "the first number")
    rules = [
        f"A recipe wins if its median final {name} is better than that of the runner-up by more than the spread over seeds of "
        "either: the interquartile range, which for three seeds is the full range.",
        "A run counts as collapsed if a loss or weight became NaN or infinite; if the diversity of its final samples is below "
        f"{LEAST_VARIETY:.0%} of that of real pictures (mean pairwise distance at 8x8 pixels); if the modes of the data are known and "
        f"it covers fewer than half of them at the end; or if {name} is more than {FAR_WORSE:g} times worse at the end than at its "
        "best checkpoint, with disjoint intervals.",
        f"A run with fewer than {LEAST_STEPS} generator steps is too short to judge: it is ignored in choosing a winner and does not "
        "count as collapsed. A recipe whose runs are mostly too short is not ranked.",
        f"At equal time there is no winner if the costs of recipes differ by more than {MOST_APART:.0%} of that time; nor, at equal "
        f"time or images, if a run hit the time limit before {1 - MOST_APART:.0%} of its images.",
        "A run without a final value counts as worse than any value. A run aborted for another reason, such as running out of "
        "memory, is not held against its recipe and is left out; the same command retries it.",
    ]
    conditions = "".join(
        f"<li><b>{escape(', '.join(measures))}</b>: {escape(line)}</li>" for line, measures in about.protocols
    )
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in about.facts)
    return (
        "".join(f"<p>{escape(rule)}</p>" for rule in rules)
        + (f"<h3>Evaluation protocols</h3><ul>{conditions}</ul>" if conditions else "")
        + f"<h3>Command</h3><pre>{escape(about.command)}</pre>"
        + f"<h3>Environment</h3><dl>{facts}</dl>"
    )


def duration(seconds: float | None) -> str:
    """A duration in a cell."""
    return "–" if seconds is None else show_duration(seconds)


def count(value: float | None) -> str:
    """A count in a cell."""
    return "–" if value is None else f"{value:,.0f}"
