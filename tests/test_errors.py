"""How messages are shown: which characters are escaped, and which words are cut."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from leafwing import game, option_names, runs
from leafwing.data import pairs
from leafwing.errors import InvalidOption, LeafwingError, visible

MODULES = game, option_names, pairs, runs
"""Those with errors of their own."""


def test_words_of_more_than_a_thousand_characters_are_cut() -> None:
    longest = "x" * 1_000
    for text in (longest, f"{longest} {longest}"):
        assert visible(text) == text
    cut = "x" * 60 + "[941 more characters]"
    assert visible(f"a {longest}x b {longest}") == f"a {cut} b {longest}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u732b\tand\na line", "caf\u00e9 \u732b\tand\na line"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("a\x00b\x7f", "a\\u0000b\x7f".replace("\x7f", "\\u007f")),
        ("abc\u202edef", "abc\\u202edef"),
        ("wide\u3000space", "wide\u3000space"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert str(LeafwingError(text)) == shown


def all_errors(kind: type[LeafwingError] = LeafwingError) -> list[type[LeafwingError]]:
    return [kind, *(further for below in kind.__subclasses__() for further in all_errors(below))]


EXAMPLES: dict[str, tuple[Any, ...]] = {
    "InvalidOption": ("labels", ["a", lambda: None], "no"),
    "NoInputError": ("input", "x", "no"),
    "MissingField": ("label", "needs labels", "There are none."),
}


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_errors_pass_from_process_to_process(kind: type[LeafwingError]) -> None:
    """As in a pool of workers, which waits for ever for one that cannot be read."""
    error = kind(*EXAMPLES.get(kind.__name__, ("--images 20: too few",)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.for_command_line(), again.exit_code) == (str(error), error.for_command_line(), error.exit_code)
    assert vars(again).keys() == vars(error).keys()


def test_short_values_are_shown_whole_and_long_ones_begin() -> None:
    assert str(InvalidOption("labels", [1, 2], "no")) == "labels=[1, 2]: no"
    assert str(InvalidOption("labels", [10] * 50, "no")) == f"labels={str([10] * 50)[:100]} ...: no"
