"""Counts and durations: parsing and formatting."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafwing import recipes
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.quantities import (
    LARGEST,
    LONGEST,
    check_seed,
    count,
    duration,
    plural,
    real,
    show_bytes,
    show_count,
    show_duration,
    whole,
)

TEXTS = st.one_of(st.text(max_size=12), st.text("0123456789+-.,_eEkKmM sh٣６²\u2212", max_size=12), st.integers().map(str))
"""Texts that look like numbers more or less."""


@given(TEXTS)
def test_a_text_is_the_number_that_python_reads_there_or_an_error(text: str) -> None:
    with suppress(ValueError):
        number = real(text)
        assert text.isascii()
        assert number == float(text)
        assert number or "-" not in text.lower().partition("e")[0]
    with suppress(InvalidOption):
        integer = whole(text, "n", -5, 10**9)
        assert text.isascii()
        assert integer == int(text)
        assert -5 <= integer <= 10**9
        assert integer or "-" not in text


@given(TEXTS)
def test_a_text_is_a_count_and_a_duration_within_bounds_or_an_error(text: str) -> None:
    with suppress(InvalidOption):
        assert 1 <= count(text) <= LARGEST
    with suppress(InvalidOption):
        assert 0 < duration(text) <= LONGEST


@given(st.floats(1e-30, 1e30), st.integers(1, LARGEST), st.tuples(*[st.integers(0, 99)] * 3))
def test_numbers_are_read_as_they_are_written(number: float, n: int, parts: tuple[int, int, int]) -> None:
    assert real(number) == real(f"{number!r}") == -real(f"-{number!r}") == number
    assert real(f"{number:.3E}") == pytest.approx(number, 1e-3)
    assert count(n) == count(f"{n:,}") == count(f"{n:_}") == whole(n, "n", 1) == n
    millions = n // 1_000_000 or 1
    assert count(f"{millions}m") == millions * 1_000_000
    hours, minutes, seconds = parts
    if total := 3600 * hours + 60 * minutes + seconds:
        assert duration(f"{hours}h{minutes}m{seconds}s") == duration(f"{hours} hours {minutes}min {seconds}") == total


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5000", 5000),
        (5000, 5000),
        ("1", 1),
        ("200k", 200_000),
        ("200K", 200_000),
        ("1.5M", 1_500_000),
        ("2m", 2_000_000),
        ("0.5k", 500),
        ("1g", 10**9),
        ("60_000", 60_000),
        ("60,000", 60_000),
        ("1,234,567", 1_234_567),
        ("1,500.5k", 1_500_500),
        (" 7k ", 7000),
    ],
)
def test_counts(text: str | int, number: int) -> None:
    assert count(text) == number
    assert isinstance(count(text), int)


@pytest.mark.parametrize(
    ("text", "number"), [("4.1M", 4_100_000), ("1.001k", 1001), ("2.01M", 2_010_000), ("8.3M", 8_300_000)]
)
def test_decimal_fractions_that_give_whole_counts_are_exact(text: str, number: int) -> None:
    assert count(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", 0, "0k", "-5", -5, "many", "1.5", 1.5, "1.0005k", "1e3", "k", "5 k k", "5kk", "nan", "inf", "0x10", None],
)
def test_an_invalid_count_is_rejected_with_name_and_value(text: object) -> None:
    with pytest.raises(LeafwingError, match=r"^samples=.*must be a count above 0") as caught:
        count(text, "samples")  # type: ignore[arg-type]
    assert str(text) in str(caught.value)


@pytest.mark.parametrize("text", ["1,5k", "0,5M", "2,5", "1500,5k", "1,2345", "1234,567", "1,,000", ",000", "1,000,5k"])
def test_a_decimal_comma_is_not_read_as_nothing(text: str) -> None:
    with pytest.raises(LeafwingError, match="with a decimal point"):
        count(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h30m5s", 5405),
        ("2d", 172_800),
        ("90", 90),
        (90, 90),
        (0.5, 0.5),
        ("1.5h", 5400),
        (" 10M ", 600),
        ("10 min", 600),
        ("2 hours 1 minute", 7260),
        ("90secs", 90),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", 0, "0s", "-5m", "-1", "soon", "5x", "m", "nan", "inf", "10 fortnights", "1..5m", None]
)
def test_an_invalid_duration_is_rejected_with_name_and_value(text: object) -> None:
    with pytest.raises(LeafwingError, match=r"^time=.*must be a duration above 0") as caught:
        duration(text)  # type: ignore[arg-type]
    assert str(text) in str(caught.value)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7, "7"),
        (999, "999"),
        (1000, "1k"),
        (1500, "1.5k"),
        (12_345, "12.3k"),
        (200_000, "200k"),
        (1_500_000, "1.5M"),
        (3_576_707, "3.58M"),
        (250_000_000, "250M"),
        (25_000_000_000, "25,000M"),
    ],
)
def test_counts_are_abbreviated(number: int, text: str) -> None:
    assert show_count(number) == text


@pytest.mark.parametrize("number", [999.9, 999_600, 999_999, 999_900_000])
def test_a_count_just_below_a_unit_is_shown_without_an_exponent(number: float) -> None:
    assert "e" not in show_count(number)


def test_abbreviated_counts_can_be_parsed() -> None:
    for number in (7, 1000, 1500, 200_000, 1_500_000):
        assert count(show_count(number)) == number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (5.4, "5s"), (59.6, "1m 00s"), (61, "1m 01s"), (3599.7, "1h 00m"), (5400, "1h 30m"), (360_000, "100h 00m")],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (123_456_789, "118 MiB"), (3 * 2**30, "3.0 GiB")]
)
def test_bytes_are_shown_in_binary_units(number: int, text: str) -> None:
    assert show_bytes(number) == text


def test_an_option_is_written_as_its_user_writes_it() -> None:
    with pytest.raises(InvalidOption) as caught:
        recipes.describe("wgan").resolve({"lr_g": -1})
    assert str(caught.value).startswith("recipe wgan: lr_g=-1: must be")
    assert caught.value.for_command_line().startswith("recipe wgan: --lr-g -1: must be")
    with pytest.raises(InvalidOption, match=r"^n=0: ") as few:
        count(0, "n")
    assert few.value.for_command_line().startswith("-n 0: ")
    error = InvalidOption("replay", Path("a/run"), "no run", flag="from")
    assert (str(error), error.for_command_line()) == ("replay='a/run': no run", "--from a/run: no run")


def test_seeds_have_32_bits() -> None:
    assert [check_seed(seed) for seed in (0, 4_294_967_295)] == [0, 4_294_967_295]
    for seed in (-1, 4_294_967_296):
        with pytest.raises(LeafwingError, match="seed"):
            check_seed(seed)


def test_numbers_agree_with_their_nouns() -> None:
    shown = [plural(number, "sample") for number in (0, 1, 2, 1_234_567, 1.5)]
    assert shown == ["0 samples", "1 sample", "2 samples", "1,234,567 samples", "1.5 samples"]
