"""`leafwing compare`: it also has the options that all recipes on the command line have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from leafwing import recipes
from leafwing.cli.shared import (
    MACHINE,
    OUTPUT,
    TRAINING,
    as_json,
    explicit,
    flag,
    option,
    option_values,
    set_signature,
    with_settings,
)
from leafwing.errors import LeafwingError
from leafwing.progress import ConsoleReporter
from leafwing.settings import READING_OPTIONS

METRICS = Group("Metrics", sort_key=4)


def command(words: Sequence[str]) -> Callable[..., int]:
    """The command `compare`, with the options that all recipes on a command line have.

    Args:
        words: the command line after `compare`.
    """
    signature = inspect.signature(_compare)
    parameters = [*signature.parameters.values()]
    cards = requested_cards(words)
    names = shared_options(cards)

    def compare(*arguments: Any, **options: Any) -> int:
        chosen = {name: options.pop(name) for name in names if name in options}
        return _compare(*arguments, chosen=explicit(chosen), **options)

    group = Group(f"Options of {' and '.join(card.name for card in cards)}", sort_key=2)
    for name in names:
        of_recipes = {card.name: option for card in cards for option in card.options if option.name == name}
        first = next(iter(of_recipes.values()))
        defaults = {recipe: option.default for recipe, option in of_recipes.items()}
        shown = ", ".join(f"{value} ({recipe})" for recipe, value in defaults.items())
        text = f"{first.help} Default: {shown if len({*defaults.values()}) > 1 else first.default}."
        kind: Any = bool if first.type is bool else str
        about = Parameter(help=text, group=group, show_default=False)
        annotation = Annotated[kind | None, about]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    set_signature(compare, [item for item in parameters if item.name != "chosen"])
    compare.__doc__ = _compare.__doc__
    return compare


def requested_cards(words: Sequence[str]) -> list[recipes.Card]:
    """The recipes that a command line names.

    Raises:
        LeafwingError: one of them does not exist.
    """
    names = option_values(words).get("--recipes", "").split(",")
    return [recipes.describe(name.strip()) for name in names if name.strip()]


def shared_options(cards: Sequence[recipes.Card]) -> list[str]:
    """The names of the options that all of these recipes have, apart from those of `compare` itself."""
    if not cards:
        return []
    shared = set.intersection(*({option.name for option in card.options} for card in cards))
    shared -= {*inspect.signature(_compare).parameters}
    return [option.name for option in cards[0].options if option.name in shared]


def explain_lacking(word: str, words: Sequence[str]) -> str:
    """The message about an option that only some of the recipes on a command line have; empty if none has it."""
    name = word.lstrip("-").replace("-", "_")
    cards = requested_cards(words)
    lacking = [card.name for card in cards if name not in {option.name for option in card.options}]
    if len(lacking) == len(cards) or not lacking:
        return ""
    have = "has" if len(lacking) == 1 else "have"
    return f"{word}: {' and '.join(lacking)} {have} no such option. For the others: --set {name}=VALUE"


@with_settings("hold_out", default="auto")
@with_settings(*READING_OPTIONS, "device")
def _compare(
    source: str,
    /,
    *,
    recipes: Annotated[str, option("Recipe names or recipe files, separated by commas.", TRAINING)],
    seeds: Annotated[str, option("Number of seeds, counted from 0, or a list of seeds: 7,8.", TRAINING)] = "3",
    images: Annotated[
        str | None,
        option("Real images shown in each training run. Default: 200k, or as many as fit into --minutes.", TRAINING),
    ] = None,
    minutes: Annotated[
        float | None,
        option(
            "Give every run the same training time in minutes (CPU time on a CPU) instead of the same number of images. "
            "With --images: time limit per run.",
            TRAINING,
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        option(
            "Set a hyper-parameter: width=32 for all recipes that have it, wgan_gp.width=16 for one. Repeatable.", TRAINING
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        option(
            "Metrics, separated by commas; the first one ranks the recipes. Default: fid,kid,prdc,memorisation; with reconstruction "
            "for images from paired images; modes for data with known modes.",
            METRICS,
        ),
    ] = None,
    features: Annotated[
        str | None,
        option(
            "Feature network: lite0, own, pixels or inception. Default: lite0 for images in colour from 32 px on if it is installed "
            "and no recipe looks through it, else own.",
            METRICS,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option("Weights file of lite0 or inception. Default: of the installed package, or downloaded once.", METRICS),
    ] = None,
    n: Annotated[
        str | None,
        Parameter(
            name=("--n", "-n"),
            help="Number of samples per checkpoint. Default: the number of real images, at most 5,000, or 1,000 with lite0 and "
            "inception.",
            group=METRICS,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        option("Number of runs trained at the same time. Default: one per CPU core as memory allows, one per GPU.", MACHINE),
    ] = None,
    threads: Annotated[
        int | None,
        option("CPU threads of each run. Default: the cores, divided by the number of runs at a time.", MACHINE),
    ] = None,
    out: Annotated[Path, option("Folder of the comparison; an unfinished one there is continued.", OUTPUT)] = Path(
        "comparison"
    ),
    json: Annotated[bool, flag("Print table.json instead of a table.", OUTPUT)] = False,
    chosen: Mapping[str, Any] | None = None,
    **settings: Any,
) -> int:
    """Train recipes with several seeds, evaluate them under one protocol, and write one report: who won, by how much, what failed.

    Options that all of the recipes have, such as --width, are options here too: with --recipes A,B, --help shows them.

    Parameters
    ----------
    source
        A folder, archive, array, table or IDX files, see `train --help`, or a built-in data set: digits, sprites, stacked, ring, grid.
    """
    from leafwing.commands.comparison.compare import compare
    from leafwing.commands.comparison.report import as_text

    options = [*(f"{name}={value}" for name, value in (chosen or {}).items()), *(set or ())]
    for text in set or ():
        if text.partition("=")[0].strip().replace("-", "_") in (chosen or {}):
            raise LeafwingError(f"--set {text}: this option is given twice")
    table = compare(
        source,
        recipes,
        seeds=seeds,
        images=images,
        minutes=minutes,
        options=options,
        metrics=metrics,
        features=features,
        weights=weights,
        n=n,
        jobs=jobs,
        threads=threads,
        out=out,
        progress=ConsoleReporter(),
        **explicit(settings),
    )
    print(as_json(table) if json else as_text(table))
    return 0
