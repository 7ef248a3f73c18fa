"""The world `sprites`: coloured shapes of which everything is known, and an oracle that reads them back from pictures.

`scene` says what there is and how it is put into words, `shapes` what shapes are, `draw` makes pictures, `fields` gives every field
that a GAN may need by name, `oracle` reads pictures. Only numpy is needed.
"""

from leafwing.sprites.fields import FIELDS, emit, pictures
from leafwing.sprites.oracle import Reading, agreement, read
from leafwing.sprites.scene import Scene, Scenes, scenes
from leafwing.sprites.shapes import SHAPES
from leafwing.sprites.words import NAMED, parse

__all__ = [
    "FIELDS",
    "NAMED",
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
