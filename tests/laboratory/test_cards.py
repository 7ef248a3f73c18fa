"""What is read from the source text of a tool is what its function has."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

from leafwing.errors import LeafwingError
from leafwing.laboratory import INPUTS, TOOLS, cards, tool
from leafwing.laboratory.needs import needs_of


@pytest.mark.parametrize("name", TOOLS)
def test_a_card_describes_the_function(name: str) -> None:
    function, card = tool(name), cards.describe(name)
    hints, parameters = get_type_hints(function), list(inspect.signature(function).parameters.values())[1:]
    options = [parameter for parameter in parameters if parameter.name not in INPUTS]
    assert [(item.name, item.default, item.annotation) for item in card.options] == [
        (item.name, item.default, hints[item.name]) for item in options
    ]
    assert [*card.inputs] == [item.name for item in parameters if item.name in INPUTS]
    assert [*card.needs] == [need.what for need in needs_of(function)]
    assert card.doc == inspect.getdoc(function)


def test_a_tool_that_does_not_exist() -> None:
    with pytest.raises(LeafwingError, match="did you mean interpolate"):
        cards.describe("interpolat")
