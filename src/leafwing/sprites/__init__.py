"""The data set `sprites`: coloured shapes with known factors, and an oracle that reads the factors back from images.

`scene` defines scenes, `words` their vocabulary and captions, `shapes` the geometry; `draw` renders images, `fields` provides every
field that a GAN may need by name, `oracle` reads images. Only numpy is needed.
"""

from leafwing.sprites.fields import FIELDS, emit, pictures
from leafwing.sprites.oracle import Reading, agreement, read
from leafwing.sprites.scene import Scene, Scenes, scenes
from leafwing.sprites.shapes import SHAPES
from leafwing.sprites.words import ATTRIBUTE_NAMES, parse

__all__ = [
    "ATTRIBUTE_NAMES",
    "FIELDS",
    "SHAPES",
    "Reading",
    "Scene",
    "Scenes",
    "agreement",
    "emit",
    "parse",
    "pictures",
    "read",
    "scenes",
]
