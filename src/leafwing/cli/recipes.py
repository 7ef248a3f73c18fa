"""`leafwing recipes`."""

from __future__ import annotations

from leafwing import recipes
from leafwing.cli.shared import Json, as_json


def command(*, json: Json = False) -> int:
    """List the recipes: name, year, the data each uses (images, points, input, label, ...), paper, one-line summary."""
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
                "needs": card.needs,
                "options": {
                    option.name: {"default": option.default, "help": option.help, "choices": option.choices}
                    for option in card.options
                },
            }
            for card in cards
        ]
        print(as_json(documents))
    else:
        data = [
            ", ".join(["images", *(["points"] if card.points else []), *(name for name in card.needs if name != "image")])
            for card in cards
        ]
        width = max(map(len, data))
        for card, fields in zip(cards, data, strict=True):
            print(f"{card.name:17}  {card.year}  {fields:{width}}  {card.paper}\n{'':25}{card.line}")
    return 0
