"""`leafwing recipes`."""

from __future__ import annotations

from leafwing import recipes
from leafwing.cli.shared import Json, as_json


def command(*, json: Json = False) -> int:
    """The recipes: name, year, paper and one line each."""
    cards = recipes.catalogue()
    if json:
        plain = [
            {
                "name": card.name,
                "title": card.title,
                "authors": card.authors,
                "year": card.year,
                "paper": card.paper,
                "line": card.line,
                "options": {o.name: {"default": o.default, "help": o.help, "choices": o.choices} for o in card.options},
            }
            for card in cards
        ]
        print(as_json(plain))
    else:
        for card in cards:
            print(f"{card.name:12} {card.year}  {card.paper}\n{'':18} {card.line}")
    return 0
