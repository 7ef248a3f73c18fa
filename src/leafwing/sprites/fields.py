"""Every field that a GAN may need, by name: images, words, numbers, masks. `scene` and `draw` compute them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from leafwing.errors import LeafwingError, did_you_mean
from leafwing.sprites import draw, scene
from leafwing.sprites.scene import Scenes


class Field(NamedTuple):
    """One field.

    Args:
        about: description, type and shape, in one line.
        make: maps scenes and the image size to an array whose first dimension is that of the scenes.
    """

    about: str
    make: Callable[[Scenes, int], np.ndarray]


FIELDS = {
    "image": Field("the image, uint8 (n, size, size, 3)", draw.draw),
    "label": Field("the index of the shape, int64 (n,)", lambda scenes, size: scenes.shape),
    "attributes": Field("a 0 or 1 for each word of ATTRIBUTES, uint8 (n, 23)", lambda scenes, size: scenes.attributes),
    "caption": Field("one sentence, str (n,)", lambda scenes, size: scenes.captions),
    "box": Field("left, top, width, height in pixels, float32 (n, 4)", Scenes.box),
    "keypoints": Field(
        "centre, top, right, bottom, left: x, y in pixels, 1 if visible, float32 (n, 5, 3)", Scenes.keypoints
    ),
    "segmentation": Field("0 for background, 1 + the index of the shape, uint8 (n, size, size)", draw.segmentation),
    "edges": Field("the outline, white on black, uint8 (n, size, size, 1)", draw.edges),
    "low": Field("the image at a quarter of the size, uint8 (n, size / 4, size / 4, 3)", draw.low),
    "hole": Field("1 in a box that covers the sprite, uint8 (n, size, size, 1)", draw.hole),
    "clip": Field("eight frames of the moving sprite, uint8 (n, 8, size, size, 3)", draw.clip),
}
"""Fields by name, with descriptions and functions."""


def emit(scenes: Scenes, size: int, names: Iterable[str] = ("image", "label")) -> dict[str, np.ndarray]:
    """Fields of scenes, by name.

    Args:
        scenes: the scenes.
        size: image size in pixels, 16 to 128; coordinates refer to it.
        names: keys of `FIELDS`.

    Raises:
        LeafwingError: unknown field, or unsupported size.
    """
    draw.check(size)
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in FIELDS:
            raise LeafwingError(f"sprites have no field {name!r}{did_you_mean(name, FIELDS)}")
    return {name: FIELDS[name].make(scenes, size) for name in names}


def pictures(n: int, size: int, seed: int = 0) -> tuple[np.ndarray, Scenes]:
    """The first n images of a seed, uint8 (n, size, size, 3), and their scenes.

    Raises:
        LeafwingError: unsupported size, or a negative number.
    """
    draw.check(size)  # before the scenes are made, which takes longer
    scenes = scene.scenes(n, seed)
    return draw.draw(scenes, size), scenes
