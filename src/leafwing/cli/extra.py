"""Words of a command line that have no meaning where they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from itertools import takewhile

from leafwing.cli.synonyms import ARGUMENTS
from leafwing.errors import LeafwingError
from leafwing.recipes import names

LISTS = ("--recipes", "--metrics", "--seeds", "--fields")
"""Options whose value is a list with commas."""
SWITCH_PATHS = ("--folder", "--grid", "--npz")
"""Switches that look like the path of an output."""


UNIT = re.compile(r"s(ec(ond)?s?)?|m(in(ute)?s?)?|h(ours?|rs?)?|d(ays?)?")
"""How people write the unit of a duration as a word of its own."""


def explain_extra(word: str, words: Sequence[str], switches: Collection[str]) -> str:
    """Why a word of a command line that is no option has no meaning there.

    Args:
        word: the word.
        words: the command line.
        switches: the options of the command that take no value.
    """
    place = len(words) - 1 - [*reversed(words)].index(word) if word in words else 0
    before = words[place - 1]
    if before in switches:
        return f"{before} is on or off and takes no value: leave out {word!r}{instead(before, word)}"
    option = words[place - 2] if place > 2 else ""
    if option.startswith("-") and "=" not in option and option not in switches and not before.startswith("-"):
        if option in LISTS:
            more = takewhile(lambda other: not other.startswith("-"), words[place:])
            return f"a list has commas: write {option} {','.join(text.strip(',') for text in [before, *more])}"
        if option == "--size" and word.isdecimal():
            return f"write --size {before}x{word} (height x width)"
        if option == "--time" and (unit := UNIT.fullmatch(word)):
            return f"write --time {before}{unit[0][0]}"
        return f"{option} takes one value, {before}: leave out {word!r}"
    if words[0] in ("train", "recipes") and word in names():
        return f"a recipe is not named alone: type leafwing train SOURCE --recipe {word}"
    if words[0] == "evaluate":
        return f"real images to compare with are named by --data: type leafwing evaluate RUN --data {shlex.quote(word)}"
    usage = f"leafwing {words[0]} {ARGUMENTS.get(words[0], '')}".rstrip()
    return f"{word!r} is one word too many: type {usage}"


def instead(option: str, value: str) -> str:
    """The option that takes a path, if one is given to a switch."""
    return f", or write {option} --out {shlex.quote(value)}" if option in SWITCH_PATHS else ""


def check_sources(sources: Sequence[str], words: Sequence[str], switches: Collection[str]) -> None:
    """Raises LeafwingError for a source that does not exist because it is a superfluous value of an option.

    Args:
        sources: all sources of a command line.
        words: the command line.
        switches: the options of the command that take no value.
    """
    from leafwing.commands.first_checks import is_source

    for place, word in enumerate(words):
        follows_option = words[place - 1] not in sources and place > 1
        if word in sources[1:] and not is_source(word) and (follows_option or word in names()):
            raise LeafwingError(f"train: {explain_extra(word, words, switches)}; `leafwing train --help` lists the options")
