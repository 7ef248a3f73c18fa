"""Attribute classifiers (readers): the oracle of the built-in sprites, or a classifier trained on the user's labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from leafwing.errors import LeafwingError

if TYPE_CHECKING:
    from leafwing.metrics.features import Features

SURE = 0.5
"""Minimum class probability of a classifier."""
UNREAD = ""
"""The output for a property that is not recognised with enough confidence."""


@dataclass(frozen=True)
class Reader:
    """An attribute classifier: recognises properties of images.

    Args:
        name: oracle or classifier.
        words: the possible values of each property.
        read: images (n, channels, height, width) in [-1, 1] -> value of each property, str (n,), `UNREAD` where not sure.
        box: images -> bounding box of the object, (n, 4): left, top, width, height in pixels, NaN where not sure; None if it
            cannot locate objects.
    """

    name: str
    words: Mapping[str, Sequence[str]]
    read: Callable[[Tensor], dict[str, np.ndarray]]
    box: Callable[[Tensor], np.ndarray] | None = None

    def property_of(self, concept: str) -> tuple[str, str]:
        """Splits a concept, `colour=red`, into property and value; if there is only one property, the value suffices.

        Raises:
            LeafwingError: there is no such property or value.
        """
        name, equals, word = (part.strip() for part in concept.partition("="))
        if not equals and len(self.words) == 1:
            name, word = next(iter(self.words)), name
        if word not in self.words.get(name, ()):
            choices = "; ".join(f"{name} ({', '.join(map(str, words))})" for name, words in self.words.items())
            raise LeafwingError(f"no concept {concept!r}: write PROPERTY=VALUE; the {self.name} recognises {choices}")
        return name, word


def oracle() -> Reader:
    """The oracle of `sprites`: shape, colour, size, position and background; sure if it explains enough of the image."""
    from leafwing import sprites
    from leafwing.sprites.words import WORDS

    def read(images: Tensor) -> dict[str, np.ndarray]:
        reading = sprites.read(images)
        return {
            name: np.where(reading.sure, np.asarray(words)[getattr(reading.scenes, name)], UNREAD)
            for name, words in WORDS.items()
        }

    def box(images: Tensor) -> np.ndarray:
        reading = sprites.read(images)
        return np.where(reading.sure[:, None], reading.box, np.nan)

    return Reader("oracle", {name: tuple(words) for name, words in WORDS.items()}, read, box)


def classifier(features: Features, labels: Sequence[str]) -> Reader:
    """A classifier of the data's classes, as the property `label`.

    Args:
        features: a feature network that classifies.
        labels: the class names.
    """

    def read(images: Tensor) -> dict[str, np.ndarray]:
        probabilities = features(images)[1]
        assert probabilities is not None, "this feature network is not a classifier"
        return {"label": np.where(probabilities.max(1) >= SURE, np.asarray(labels)[probabilities.argmax(1)], UNREAD)}

    return Reader("classifier", {"label": tuple(labels)}, read)
