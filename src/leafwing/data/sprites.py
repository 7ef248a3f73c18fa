"""The built-in data set `sprites`: coloured shapes, with the fields that the user chooses. `leafwing.sprites` draws them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leafwing.data.dataset import Dataset
from leafwing.data.derive import HOLE_GREY
from leafwing.data.options import Options
from leafwing.data.pack import Store, cache_folder
from leafwing.data.reading import DecodeProgress
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.fields import Attributes
from leafwing.game import DataSpec
from leafwing.sprites import ATTRIBUTE_NAMES, FIELDS, Scenes, draw, emit, scenes

COUNT = 10_368
"""Number of images: every combination of words four times."""
UNPAIRED_COUNT = 3_888
"""Number of images in each of two unpaired domains: every combination of the filled sprites four times."""
DEFAULT_FIELDS = ("label", "attributes")
"""The fields besides `image`, unless the user chooses others."""
INPUTS = {
    "edges": "the outline, white on black",
    "low": "the image at a quarter of the size",
    "hole": "the image with a box filled grey; the field hole is the mask of the box",
    "segmentation": "the shape at each pixel",
    "unpaired": "outlines on white, which do not belong to the filled sprites of the field image; with the field segmentation also "
    "their own, input_segmentation",
}
"""The possible inputs of translators, with descriptions."""
_VERSION = 1
_SEED = 20_141_107
_CHUNK = 1_296


def load_sprites(
    options: Options,
    mirror: bool,
    *,
    input: str | None = None,
    fields: str | Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: DecodeProgress | None = None,
) -> Dataset:
    """The sprites with the chosen fields.

    Fields with pixels, other than the image itself and what is derived from it, are computed once and then mapped from the cache.

    Args:
        options: the validated options.
        mirror: as for `load`.
        input: the key of `INPUTS` that becomes the field `input`; None: no such field.
        fields: further keys of `FIELDS`, in any order, as a sequence or separated by commas; None: `DEFAULT_FIELDS`.
        cache: as for `load`.
        progress: a callback (done, total), in images, while a field is computed.

    Raises:
        LeafwingError: an unknown field, or options that sprites do not support.
        StorageError: the cache cannot be written.
    """
    target = options.target((32, 32), 3)
    size = target.height
    if size != target.width or target.channels != 3:
        raise LeafwingError("sprites are square RGB images: omit --channels, and give one number as --size")
    draw.check(size)
    names = _field_names(fields)
    unpaired = input == "unpaired"
    choices = {} if names == DEFAULT_FIELDS else {"fields": ",".join(names) or "image"}
    choices |= {} if input is None else {"input": input}
    content = json.dumps(["world", _VERSION, "sprites", target.as_dict() | choices])
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    arguments: dict[str, Any] = target.as_dict() | {"mirror": mirror} | choices
    if unpaired:
        (outlines, outlined), (images, sample) = draw.domains(UNPAIRED_COUNT, size, _SEED)
    else:
        sample = scenes(COUNT, _SEED)
        images = draw.draw(sample, size)
    sources = {"image": "image"}  # the field of `FIELDS` behind each field of the data set
    if input is not None and not unpaired:
        sources["input"] = input
    sources |= {name: name for name in (*names, *(["hole"] if input == "hole" else []))}
    kinds = {name: FIELDS[source].kind(size) for name, source in sources.items()}
    key = ["sprites", _VERSION, _SEED, size, unpaired]
    drawing = Drawing(sample, size, Store(cache_folder(cache)), key, progress)
    columns = {"image": images} | {name: drawing.column(source) for name, source in sources.items() if name != "image"}
    if input == "hole":
        kinds["input"], columns["input"] = kinds["image"], np.where(columns["hole"], np.uint8(HOLE_GREY), images)
    notes = []
    if mirror and "attributes" in columns:
        # A mirrored image shows its sprite on the other side, so these two words would be wrong for half of the images.
        indices = [i for i, name in enumerate(ATTRIBUTE_NAMES) if name not in ("left", "right")]
        kinds["attributes"] = Attributes(tuple(ATTRIBUTE_NAMES[i] for i in indices))
        columns["attributes"] = columns["attributes"][:, indices]
        notes.append("the attributes left and right are omitted, because half of the images are mirrored")
    data = Dataset(DataSpec(kinds), columns, fingerprint, "sprites", arguments, notes=notes)
    if not unpaired:
        return data
    spec, columns, names_in_batch = DataSpec.images(size, size, 3), {"image": outlines}, {"image": "input"}
    if "segmentation" in names:
        spec = replace(spec, fields={**spec.fields, "segmentation": kinds["segmentation"]})
        columns["segmentation"] = replace(drawing, scenes=outlined, key=[*key, "input"]).column("segmentation")
        names_in_batch["segmentation"] = "input_segmentation"
    return data.with_stream("input", Dataset(spec, columns, fingerprint, "sprites", arguments), names_in_batch)


@dataclass(frozen=True)
class Drawing:
    """Draws fields of scenes; those with pixels are read from the cache if they are there.

    Args:
        scenes: the scenes.
        size: image size in pixels.
        store: the cache.
        key: identifies scenes and size in the cache; plain JSON.
        progress: as for `load_sprites`.
    """

    scenes: Scenes
    size: int
    store: Store
    key: list[Any]
    progress: DecodeProgress | None

    def column(self, name: str) -> np.ndarray:
        """The stored samples of a field."""
        if not FIELDS[name].kind(self.size).has_pixels:
            return emit(self.scenes, self.size, name)[name]
        sample = emit(self.scenes.rows(slice(1)), self.size, name)[name]
        key = hashlib.sha256(json.dumps([*self.key, name]).encode()).hexdigest()
        return self.store.array(key, (len(self.scenes), *sample.shape[1:]), self._parts(name))

    def _parts(self, name: str) -> Iterator[np.ndarray]:
        for start in range(0, len(self.scenes), _CHUNK):
            yield emit(self.scenes.rows(slice(start, start + _CHUNK)), self.size, name)[name]
            if self.progress:
                self.progress(min(start + _CHUNK, len(self.scenes)), len(self.scenes))


def _field_names(fields: str | Sequence[str] | None) -> tuple[str, ...]:
    """The chosen fields besides the image, in the order of `FIELDS`."""
    if fields is None:
        return DEFAULT_FIELDS
    chosen = [name.strip() for name in (fields.split(",") if isinstance(fields, str) else fields)]
    for name in chosen:
        if name not in FIELDS:
            raise InvalidOption("fields", name, f"sprites have no such field{did_you_mean(name, FIELDS)}")
    return tuple(name for name in FIELDS if name in chosen and name != "image")
