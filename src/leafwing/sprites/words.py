"""The vocabulary of the data set `sprites`: its words, its captions, and their parser. `scene` holds the numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from leafwing.errors import LeafwingError
from leafwing.sprites.shapes import SHAPES

COLOURS = {
    "red": (225, 35, 40),
    "green": (45, 185, 60),
    "blue": (40, 70, 235),
    "yellow": (250, 215, 40),
    "purple": (185, 60, 225),
    "cyan": (40, 205, 225),
}
"""Colours of sprites. Seen from any background their directions differ clearly, so that even mixtures can be told apart."""
SIZES = ("small", "large")
PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
"""The 3x3 grid in reading order; the sprite's centroid determines its place."""
BACKGROUNDS = {"black": (18, 18, 18), "white": (245, 245, 245), "grey": (125, 125, 125), "brown": (95, 60, 30)}
"""Colours of backgrounds; different from all colours of sprites."""
WORDS = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": SIZES,
    "place": PLACES,
    "background": tuple(BACKGROUNDS),
}
"""The words of a caption, by part of the scene."""
ATTRIBUTES = (*SHAPES, *COLOURS, *SIZES, "top", "bottom", "left", "right", "middle", *BACKGROUNDS)
"""Every word of the vocabulary, once."""
ATTRIBUTE_NAMES = tuple(
    next((f"{part}={word}" for part in ("shape", "colour", "size", "background") if word in WORDS[part]), word)
    for word in ATTRIBUTES
)
"""Names of the attributes: the same words, but one-hot values are prefixed with their part, `colour=red`."""
COLOUR_RGB = np.array(list(COLOURS.values()), np.float32)
BACKGROUND_RGB = np.array(list(BACKGROUNDS.values()), np.float32)
"""The same as numbers: float32 (colours, 3), 0 to 255."""

TEMPLATES = (
    "a {size} {colour} {shape} at the {place} on a {background} background",
    "on a {background} background there is a {size} {colour} {shape} at the {place}",
    "the {place} of a {background} picture shows a {size} {colour} {shape}",
    "a {colour} {shape}, {size}, at the {place} of a {background} picture",
    "a {background} picture with a {size} {colour} {shape} at the {place}",
    "{size} {colour} {shape}, {place}, {background} background",
)
"""The caption templates."""
_TEMPLATE_WORDS = re.findall(r"\w+", re.sub(r"{\w+}", "", " ".join(TEMPLATES)))
VOCABULARY = tuple(dict.fromkeys([*ATTRIBUTES, *_TEMPLATE_WORDS]))
"""Every word of a caption: those of `ATTRIBUTES`, then those of the templates. Their numbers in a caption follow this order."""
CAPTION_LENGTH = max(len(template.split()) for template in TEMPLATES) + 1
"""The most words of a caption; a place may have two."""

_FILLERS = {"a", "an", "the", "at", "in", "on", "of", "with", "there", "is", "shows", "showing", "background", "picture"}


def caption(template: int, words: dict[str, str]) -> str:
    """One sentence, from an index in `TEMPLATES` and a word for each part of the scene."""
    return TEMPLATES[template].format(**words)


def parse(text: str) -> dict[str, str]:
    """The words that a caption determines, by part of the scene: the inverse of `caption`, also for partial sentences.

    Args:
        text: a full or partial caption: "a red star" gives {"shape": "star", "colour": "red"}.

    Raises:
        LeafwingError: an unknown word, two words for one part, or no informative word.
    """
    result: dict[str, str] = {}
    words = re.findall(r"[^\s,.;!]+", text.lower())
    place = " ".join(word for word in words if word in " ".join(PLACES).split())
    if place:
        if place not in PLACES:
            raise LeafwingError(f"{text!r}: {place!r} is not a place; there are: {', '.join(PLACES)}.")
        result["place"] = place
    part_of = {word: part for part in ("shape", "colour", "size", "background") for word in WORDS[part]}
    for word in words:
        if word in part_of:
            if result.setdefault(part_of[word], word) != word:
                raise LeafwingError(
                    f"{text!r}: a sprite has one {part_of[word]}, not both {result[part_of[word]]} and {word}."
                )
        elif word not in _FILLERS and word not in place.split():
            raise LeafwingError(f"{text!r}: {word!r} is not a word of the sprites; there are: {', '.join(ATTRIBUTES)}.")
    if not result:
        raise LeafwingError(f"{text!r} says nothing about a sprite; words are: {', '.join(ATTRIBUTES)}.")
    return {part: result[part] for part in WORDS if part in result}


def parse_all(captions: Sequence[str] | np.ndarray) -> dict[str, np.ndarray]:
    """Parses many captions: for each part of the scene int64 (n,), indices in its words, -1 if unspecified."""
    parsed = [parse(str(text)) for text in captions]
    return {
        part: np.array([words.index(parts[part]) if part in parts else -1 for parts in parsed], np.int64)
        for part, words in WORDS.items()
    }
