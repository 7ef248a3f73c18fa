"""The fields of sprites by name: their kinds, and their samples in the format that data sets store (see `leafwing.fields`).

`scene` and `draw` compute them. For people rather than networks, `Scenes` has captions as text, boxes and key points in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from leafwing import fields
from leafwing.errors import LeafwingError, did_you_mean
from leafwing.sprites import draw, scene
from leafwing.sprites.scene import Scenes
from leafwing.sprites.shapes import KEYPOINTS, SHAPES
from leafwing.sprites.words import ATTRIBUTE_NAMES, CAPTION_LENGTH, VOCABULARY


class SpriteField(NamedTuple):
    """One field.

    Args:
        about: description, with type and shape of the stored samples, in one line.
        kind: its kind, for an image size.
        make: maps scenes and the image size to the stored samples.
    """

    about: str
    kind: Callable[[int], fields.Field]
    make: Callable[[Scenes, int], np.ndarray]


_CAPTION = fields.Caption(VOCABULARY, CAPTION_LENGTH)

FIELDS = {
    "image": SpriteField("the image, uint8 (n, size, size, 3)", lambda size: fields.Image(size, size, 3), draw.draw),
    "label": SpriteField(
        "the index of the shape, int64 (n,)", lambda size: fields.Label(SHAPES), lambda scenes, size: scenes.shape
    ),
    "attributes": SpriteField(
        "a 0 or 1 for each word of ATTRIBUTES, uint8 (n, 23)",
        lambda size: fields.Attributes(ATTRIBUTE_NAMES),
        lambda scenes, size: scenes.attributes,
    ),
    "caption": SpriteField(
        "one sentence, as numbers of the words in VOCABULARY, int64 (n, 14)",
        lambda size: _CAPTION,
        lambda scenes, size: _CAPTION.from_plain(scenes.captions.tolist()),
    ),
    "box": SpriteField(
        "left, top, width, height as fractions of the image, float32 (n, 4)",
        lambda size: fields.Box(),
        lambda scenes, size: scenes.box(1),
    ),
    "keypoints": SpriteField(
        "centre, top, right, bottom, left: x, y as fractions of the image, 1 if visible, float32 (n, 5, 3)",
        lambda size: fields.Keypoints(KEYPOINTS),
        lambda scenes, size: scenes.keypoints(1),
    ),
    "segmentation": SpriteField(
        "0 for background, 1 + the index of the shape, uint8 (n, size, size)",
        lambda size: fields.Segmentation(size, size, ("background", *SHAPES)),
        draw.segmentation,
    ),
    "edges": SpriteField(
        "the outline, white on black, uint8 (n, size, size, 1)", lambda size: fields.Image(size, size, 1), draw.edges
    ),
    "low": SpriteField(
        "the image at a quarter of the size, uint8 (n, size / 4, size / 4, 3)",
        lambda size: fields.Image(size // 4, size // 4, 3),
        draw.low,
    ),
    "hole": SpriteField(
        "1 in a box that covers the sprite, uint8 (n, size, size, 1)", lambda size: fields.Mask(size, size), draw.hole
    ),
    "clip": SpriteField(
        "eight frames of the moving sprite, the image first, uint8 (n, 8, size, size, 3)",
        lambda size: fields.Clip(draw.FRAMES, size, size, 3),
        draw.clip,
    ),
}
"""Fields by name."""


def emit(scenes: Scenes, size: int, names: Iterable[str] = ("image", "label")) -> dict[str, np.ndarray]:
    """Fields of scenes, by name, in the format that data sets store.

    Args:
        scenes: the scenes.
        size: image size in pixels, 16 to 128.
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
