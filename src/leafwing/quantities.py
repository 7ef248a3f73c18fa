"""Numbers, counts and durations as people write them: 0.5, 200k, 1.5M, 10m. Every number of an option is read here."""

from __future__ import annotations

import re
from decimal import Decimal

from leafwing.errors import InvalidOption

_COUNTS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
LARGEST = 10**15
"""The largest accepted number: beyond what any machine can do, and safe in every file format."""
MAX_SEED = 2**32 - 1
"""The largest random seed."""
LONGEST = 100 * 365 * 86400
"""The longest accepted duration in seconds."""
LARGEST_REAL, SMALLEST_REAL = 1e30, 1e-30
"""Bounds of the amounts of numbers that are not whole, which 32 bits hold; 0 is accepted too."""
TILES, SMALLEST_TILE = ("auto", "whole"), 8
"""Words for the size of tiles, and the smallest side of one in pixels."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?[a-z]?", re.ASCII | re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def ungrouped(text: str) -> str:
    """A number without the separators between its groups of three digits: 60,000 and 60_000 -> 60000; other commas remain."""
    text = text.strip().replace("_", "")
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


def count(value: int | str, name: str = "images") -> int:
    """`200k` -> 200,000; `1.5M` -> 1,500,000; whole numbers unchanged.

    Raises:
        LeafwingError: not a count, or not above 0.
    """
    text = ungrouped(str(value))
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", text, re.ASCII)
    number = Decimal(match[1]) * _COUNTS[match[2].lower()] if match else Decimal(0)
    if number < 1 or number != int(number):
        raise InvalidOption(
            name, value, f"must be a count above 0 such as 5000, 200k or 1.5M{', with a decimal point' * (',' in text)}"
        )
    if number > LARGEST:
        raise InvalidOption(name, value, f"must be at most {LARGEST:,}")
    return int(number)


def whole(value: object, name: str, minimum: int, maximum: int = LARGEST) -> int:
    """A whole number from `minimum` to `maximum`.

    Raises:
        LeafwingError: another value; the message has the name.
    """
    text = str(value).strip()
    is_whole = re.fullmatch(r"[+-]?\d+(_\d+)*", text, re.ASCII) and len(text) < 50
    number = int(text) if is_whole else minimum - 1
    if number == 0 and text.startswith("-"):
        number = minimum - 1
    if not minimum <= number <= maximum:
        end = f" and at most {maximum:,}" if number > maximum or maximum < LARGEST else ""
        raise InvalidOption(name, value, f"must be a whole number of at least {minimum}{end}")
    return number


def real(value: object) -> float:
    """A number: digits from 0 to 9, a decimal point and an exponent, and neither more nor less than 32 bits hold.

    Raises:
        ValueError: another text or value, such as nan, inf or -0; the message says what is expected.
    """
    text = str(value).strip()
    if not _NUMBER.fullmatch(text):
        is_special = text.lower().lstrip("+-") in ("nan", "inf", "infinity")
        raise ValueError("must be a finite number" if is_special else "must be a number")
    number = float(text)
    if abs(number) > LARGEST_REAL:
        raise ValueError(f"must be a number between {-LARGEST_REAL:g} and {LARGEST_REAL:g}")
    if abs(number) < SMALLEST_REAL and re.search("[1-9]", text.lower().partition("e")[0]):
        raise ValueError(f"must be 0, or at least {SMALLEST_REAL:g}")
    if number == 0 and text.startswith("-"):
        raise ValueError("must be written 0")
    return number


def check_seed(value: object, name: str = "seed") -> int:
    """A random seed.

    Raises:
        LeafwingError: not a whole number from 0 to `MAX_SEED`.
    """
    seed = whole(value, name, 0)
    if seed > MAX_SEED:
        raise InvalidOption(name, value, f"must be from 0 to {MAX_SEED}")
    return seed


def check_tile(tile: int | str) -> int | str:
    """A size of tiles: auto, whole, or the side of a tile in pixels.

    Raises:
        LeafwingError: none of these.
    """
    if tile in TILES:
        return tile
    try:
        return whole(tile, "tile", SMALLEST_TILE)
    except InvalidOption:
        reason = f"write auto, whole, or the side of a tile in pixels, at least {SMALLEST_TILE}"
        raise InvalidOption("tile", tile, reason) from None


def duration(value: float | str, name: str = "time") -> float:
    """`10m` -> 600 seconds; `1h30m`, `45s`, `2d`, `10 min`, `2 hours` and plain seconds.

    Raises:
        LeafwingError: not a duration, or not above 0.
    """
    text = "".join(str(value).lower().split())
    text = re.sub(r"(?<=\d)(seconds?|secs?|minutes?|mins?|hours?|hrs?|hr|days?)", lambda match: match[0][0], text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text, re.ASCII)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds < SMALLEST_REAL:
        raise InvalidOption(name, value, "must be a duration above 0 such as 45s, 10m or 1h30m")
    if seconds > LONGEST:
        raise InvalidOption(name, value, "must be at most 100 years")
    return seconds


def show_count(number: float) -> str:
    """200,000 -> `200k`; for names and tables."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= 0.9995 * size:  # 999,999 is 1M, not 1000k
            return f"{number / size:.3g}{unit}" if number < 999.5 * size else f"{number / size:,.0f}{unit}"
    return f"{number:.3g}" if number < 999.5 else "1k"


def plural(number: float, noun: str) -> str:
    """A number with its noun: 1 seed, 2,000 samples, 1.5 minutes."""
    return f"{number:{',' if isinstance(number, int) else 'g'}} {noun}{'' if number == 1 else 's'}"


def show_duration(seconds: float) -> str:
    """5400 -> `1h 30m`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"


def show_bytes(number: float) -> str:
    """123456789 -> `118 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
