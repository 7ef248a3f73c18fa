"""From the columns of a list to attributes, which are zeros and ones. Reading the list is the business of `labels`.

A column that says yes or no (0 and 1, -1 and 1, no and yes, false and true) is one attribute of its name. Any other column is a
category: one attribute `column=value` for each of its values, of which a picture has exactly one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from leafwing.errors import LeafwingError

ANSWERS = ({"0": 0, "1": 1}, {"-1": 0, "1": 1}, {"no": 0, "yes": 1}, {"false": 0, "true": 1})
"""What a column may say when it says no or yes, in small letters."""
MOST_VALUES, MOST_NUMBERS = 64, 10
"""Values that a category may have; of numbers fewer, because many of them measure something and name nothing."""
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Column:
    """One column of a list as attributes.

    Args:
        names: of its attributes, in order.
        codes: what each value means: a 0 or 1 for each of `names`.
        left_out: why it gives none; "" when it gives some.
    """

    names: tuple[str, ...]
    codes: dict[str, tuple[int, ...]]
    left_out: str = ""


def encode(name: str, cells: Sequence[tuple[int, str]], where: str) -> Column:
    """What a column's cells mean.

    Args:
        name: the column's.
        cells: of the pictures that are there: the line of the list, and what it says.
        where: the list, for messages.

    Raises:
        LeafwingError: a cell is empty.
    """
    values = sorted({cell for _, cell in cells})
    spoken = {value.lower().removesuffix(".0") for value in values}
    numbers = all(_NUMBER.fullmatch(value) for value in values if value)
    most = MOST_NUMBERS if numbers else MOST_VALUES
    if len(values) > most:
        what = "numbers" if numbers else "values"
        advice = (
            "put them into a few groups, such as young and old"
            if numbers
            else "an attribute names something that many share"
        )
        return Column((), {}, f"has {len(values)} different {what}, more than {most}: {advice}")
    if len(spoken) < 2:
        return Column(
            (), {}, f"says the same of every picture ({values[0] or 'nothing'})" if values else "is about no picture"
        )
    for line, cell in cells:
        if not cell:
            raise LeafwingError(
                f"{where}, line {line}: column {name} is empty; every picture that is listed needs a value there. "
                "Write one, such as 0 or unknown, or remove the column."
            )
    for answers in ANSWERS:
        if spoken == answers.keys():
            return Column((name,), {value: (answers[value.lower().removesuffix(".0")],) for value in values})
    return Column(
        tuple(f"{name}={value}" for value in values),
        {value: tuple(int(value == other) for other in values) for value in values},
    )
