"""How messages are shown: which characters are escaped, and which words are cut."""

from __future__ import annotations

import pytest

from leafwing.errors import LeafwingError, visible


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
