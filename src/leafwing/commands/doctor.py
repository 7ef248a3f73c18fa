"""The report on an image source; `leafwing.data.doctor` examines it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.commands.first_checks import refuse_run
from leafwing.commands.recommend import describe, describe_hold_out, lacks_labels, may_shrink
from leafwing.errors import LeafwingError
from leafwing.option_names import refuse_unknown
from leafwing.progress import Progress, reporter_of
from leafwing.quantities import show_count
from leafwing.recipes._recommended import LEAST, SMALL, Facts, Kind, by_kind, uses_labels
from leafwing.settings import READING_OPTIONS, DataSettings, all_settings, replace_fields, split_keywords

if TYPE_CHECKING:
    from leafwing.data.doctor import SourceReport


def doctor(source: Any, *, progress: Progress = None, **options: Any) -> SourceReport:
    """Examines an image source: its content, rejected images with reasons, duplicates, and advice. Never changes the source.

    Args:
        source: a folder, an archive, a built-in name, several paths to join, or images from Python; see `leafwing.data.load`.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        **options: `settings.READING_OPTIONS` but mirror, as for `train`.

    Returns:
        A report: `text()` for people, `as_dict()` for programs.
    """
    from leafwing.data.locating import locate
    from leafwing.data.opening import require_packages

    refuse_unknown("doctor", options, {name: all_settings()[name].help for name in READING_OPTIONS if name != "mirror"})
    reading, _ = split_keywords(options)
    place = locate(source)
    refuse_run(place)
    require_packages(place)
    from leafwing.data.doctor import doctor as examine

    def examined(labels: str | None) -> SourceReport:
        return examine(source, progress=reporter_of(progress).report_reading, **{**reading, "labels": labels})

    report = examined(reading.get("labels"))
    if not is_usable(report):
        return report
    if problem := size_problem(source, options):
        report.advice.append(problem)
    elif words := command_words(source, options):
        used, facts = report, facts_of_report(report, reading)
        if not uses_labels(facts) and lacks_labels(reading, report.rejected):
            every = examined("none")
            all_facts = facts_of_report(every, reading)
            if is_usable(every) and (more := all_facts.pictures - facts.pictures) > 0:
                used, facts = every, replace(all_facts, smallest=facts.smallest, unlabelled=more)
        report.advice.append(recommendation(used, words, facts))
    return report


def is_usable(report: SourceReport) -> bool:
    """Whether one can train on a source."""
    return report.accepted > 0 and not any(line.startswith("This source cannot be used") for line in report.advice)


def size_problem(source: Any, options: Mapping[str, Any]) -> str:
    """Why no training without a recipe is possible at the chosen size, and which one is; empty if it is, or if none was chosen."""
    if options.get("size") is None or options.get("input") is not None:
        return ""
    from leafwing.commands.plan import check_before_reading
    from leafwing.data.locating import locate

    card = recipes.describe(recipes.DEFAULT)
    try:
        check_before_reading(locate(source), card, card.name, {}, replace_fields(DataSettings(), {"size": options["size"]}))
    except LeafwingError as error:
        return str(error)
    return ""


def command_words(source: Any, reading: Mapping[str, Any]) -> str:
    """The command that trains on a source, read in the same way; empty for images from Python, which a command line cannot name.

    Args:
        source: as for `doctor`.
        reading: the reading options that the user has set.
    """
    from leafwing.commands.plan import as_words
    from leafwing.data.locating import locate
    from leafwing.data.memory import InMemory

    place = locate(source)
    if isinstance(place, InMemory):
        return ""
    words = as_words(place) if isinstance(place, dict) else shlex.quote(str(place if isinstance(source, list) else source))
    for name, value in reading.items():
        if value is not None:
            text = "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
            words += f" --{name.replace('_', '-')} {shlex.quote(text)}"
    return f"leafwing train {words}"


def facts_of_report(report: SourceReport, reading: Mapping[str, Any]) -> Facts:
    """What the rule must know of a source, as far as a report shows it; `reading` are the settings that the user has set."""
    from leafwing.data.derive import FACTORS

    kind: Kind = "points" if "points" in report.kind else "images"
    if "input" in report.fields or "input" in report.options:
        small = report.options.get("input") in FACTORS
        kind = "enlarging" if small else "unpaired" if any("unpaired" in note for note in report.notes) else "pairs"
    classes = report.tiles_by_class or report.classes
    smallest = min(classes.values()) if len(classes) > 1 else None
    return Facts(kind, report.tiles or report.accepted, smallest=smallest, may_shrink=may_shrink(reading))


def recommendation(report: SourceReport, words: str, facts: Facts) -> str:
    """The next command, and what it would do, as far as that does not depend on the machine.

    Args:
        report: the report on the source.
        words: the command.
        facts: what the rule must know of it.
    """
    choice = by_kind(facts)
    size = str(report.options.get("size", ""))
    if facts.may_shrink and facts.kind == "images" and size and max(map(int, size.split("x"))) > SMALL:
        size += f", or {SMALL}x{SMALL} where the machine shows fewer than {show_count(LEAST)} of that size in the time"
    reasons = [f"size {size}"] * bool(size) + [*choice.reasons, *describe_hold_out(facts, {})]
    return f"Next: {words}\n      without --recipe it chooses {describe(choice, {}, {})}:\n        " + "\n        ".join(
        [*reasons, "--dry-run shows width and length, which depend on the speed of this machine and on --time"]
    )
