"""From the columns of a list to binary attributes. `labels` reads the list.

A yes/no column (0 and 1, -1 and 1, no and yes, false and true) is one attribute with the column's name. Any other column is a
category, encoded one-hot: one attribute `column=value` for each of its values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from leafwing.errors import LeafwingError

BOOLEANS = ({"0": 0, "1": 1}, {"-1": 0, "1": 1}, {"no": 0, "yes": 1}, {"false": 0, "true": 1})
"""Spellings of no (0) and yes (1), in lower case."""
MAX_VALUES, MAX_NUMBERS = 64, 10
"""Maximum number of values of a category; lower for numbers, because many distinct numbers are measurements, not names."""
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Column:
    """One column of a list as attributes.

    Args:
        names: names of its attributes, in order.
        codes: value -> a 0 or 1 for each of `names`.
        problem: why the column gives no attributes; "" if it does.
    """

    names: tuple[str, ...]
    codes: dict[str, tuple[int, ...]]
    problem: str = ""


def is_number_or_boolean(value: str) -> bool:
    """Whether a value is a number, or says yes or no."""
    return bool(_NUMBER.fullmatch(value)) or any(value.lower() in spelling for spelling in BOOLEANS)


def encode(name: str, cells: Sequence[tuple[int | str, str]], where: str) -> Column:
    """Encodes a column.

    Args:
        name: name of the column.
        cells: line number and value for each image that exists.
        where: the list, for error messages.

    Raises:
        LeafwingError: a cell is empty.
    """
    values = sorted({cell for _, cell in cells})
    lowercase = {value.lower().removesuffix(".0") for value in values}
    numbers = all(_NUMBER.fullmatch(value) for value in values if value)
    limit = MAX_NUMBERS if numbers else MAX_VALUES
    if len(values) > limit:
        what = "numbers" if numbers else "values"
        advice = (
            "group them into a few categories, such as young and old"
            if numbers
            else "an attribute must be shared by many images"
        )
        return Column((), {}, f"has {len(values)} different {what}, more than {limit}: {advice}")
    if len(lowercase) < 2:
        return Column(
            (), {}, f"has the same value for every image ({values[0] or 'empty'})" if values else "matches no image"
        )
    for line, cell in cells:
        if not cell:
            raise LeafwingError(
                f"{where}, line {line}: column {name} is empty; every listed image needs a value. "
                "Enter one, such as 0 or unknown, or remove the column."
            )
    for spelling in BOOLEANS:
        if lowercase == spelling.keys():
            return Column((name,), {value: (spelling[value.lower().removesuffix(".0")],) for value in values})
    return Column(
        tuple(f"{name}={value}" for value in values),
        {value: tuple(int(value == other) for other in values) for value in values},
    )
