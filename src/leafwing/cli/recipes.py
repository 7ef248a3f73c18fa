"""`leafwing recipes`."""

from __future__ import annotations

from leafwing import recipes
from leafwing.cli.shared import Json, as_json


def command(*, json: Json = False) -> int:
    """List the recipes: name, year, data (images, points), paper, one-line summary."""
    cards = recipes.catalogue()
    if json:
        documents = [
            {
                "name": card.name,
                "title": card.title,
                "authors": card.authors,
                "year": card.year,
                "paper": card.paper,
                "line": card.line,
                "options": {
                    option.name: {"default": option.default, "help": option.help, "choices": option.choices}
                    for option in card.options
                },
            }
            for card in cards
        ]
        print(as_json(documents))
    else:
        for card in cards:
            data = "images, points" if card.points else "images"
            print(f"{card.name:17}  {card.year}  {data:14}  {card.paper}\n{'':25}{card.line}")
    return 0
