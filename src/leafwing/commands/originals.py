"""Reads the pictures that are translated: from a file, a folder or an archive to the inputs of a model."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing.commands.writing import Origin
from leafwing.errors import LeafwingError
from leafwing.fields import Field, Image, Mask, Segmentation
from leafwing.machine import cores
from leafwing.progress import Reporter

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image as Pillow

    from leafwing.data import RejectedFile
    from leafwing.data.levels import Range
    from leafwing.data.sources import Source, Task
    from leafwing.game import Output
    from leafwing.model import Model
    from leafwing.runs import Run

Columns = Mapping[str, "np.ndarray"]
"""Stored samples by field."""
GROUP_PIXELS = 4 << 20
"""Pictures are decoded together up to this number of pixels."""


@dataclass(frozen=True)
class Original:
    """One decoded picture.

    Args:
        origin: what its translation keeps of it.
        columns: the picture as the inputs of the model, one stored sample of each.
    """

    origin: Origin
    columns: Columns


def find_pictures(pictures: str | Path) -> Path:
    """The path of the pictures.

    Raises:
        LeafwingError: there is no such file or folder, it is a run folder, or a package that reads it is not installed.
    """
    from leafwing.data.opening import require_packages
    from leafwing.data.sources import RUN_FILES

    path = Path(os.path.expanduser(pictures))
    if all((path / file).is_file() for file in RUN_FILES):
        raise LeafwingError(f"{path} is a run folder, whose sheets show many samples each: give single pictures")
    if not str(pictures) or not os.path.exists(path):
        raise LeafwingError(
            f"{str(pictures)!r}: no such file or folder; give an image file, a folder of images or an archive"
        )
    require_packages(path)
    return path


def open_pictures(path: Path) -> Source:
    """An image file, a folder, an archive or an IDX file as a source of images."""
    from leafwing.data import opening, sources
    from leafwing.data.pictures import SUFFIXES

    if path.is_file() and path.suffix.lower() in SUFFIXES:
        entry = sources.Entry(path.name, path, path.stat().st_size)
        return sources.Source("file", path, [entry], lambda location: Path(location).read_bytes())
    return opening.open_source(path, *sources.list_files(path))


class Reading:
    """How pictures become the inputs of a model; thread-safe.

    Args:
        run: the run.
        model: its model.
        output: what is generated.
        any_size: whether pictures keep their size, instead of being stretched to that of training.
        derive: whether the input is derived from pictures, or a half of them; None: see `data.derive.derives` and `part`.

    Attributes:
        notes: what users should know, in sentences.

    Raises:
        LeafwingError: pictures cannot be this input.
    """

    def __init__(self, run: Run, model: Model, output: Output, *, any_size: bool, derive: bool | None) -> None:
        from leafwing.conditions import pixel_conditions
        from leafwing.data import options
        from leafwing.data.derive import derives, describe_choice

        fields, names = model.spec.fields, pixel_conditions(output, model.spec)
        self.name, self.any_size, self.notes = names[0], any_size, list[str]()
        self.kind, self.result = fields[self.name], model.kind(output)
        self.background = run.data.options.get("background", "white")
        self.rgb = options.check(None, None, "stretch", self.background).rgb
        how = derived_input(run) if "input" in names and isinstance(fields["image"], Image) else None
        self.half, self.derive = half_of(run, self.name), derive
        if derive is not None and how is None and not self.half:
            raise LeafwingError(f"--{'' if derive else 'no-'}derive: the input of this run was not derived from its images")
        self.how = how if how is not None and derives(how, derive) else None
        self.source: Field = fields["image"] if self.how else self.kind
        self.levels = training_levels(run, of_inputs=self.how is None)
        self.count: Counter[str] = Counter()
        if how is not None:
            self.notes.append(describe_choice(how, self.how is not None))
        if self.how is None and len(names) > 1:
            raise LeafwingError(f"this run needs {' and '.join(names)} of each picture: use model.translate from Python")
        if not isinstance(self.source, Image | Mask | Segmentation):
            raise LeafwingError(
                f"this run generates from {self.kind}, which pictures cannot be: use model.translate from Python"
            )

    def part(self, image: Pillow.Image) -> Pillow.Image:
        """The picture, or the half of it that was the input in training: of those twice as wide (or high) as the input, within a
        twentieth, if nothing else was chosen."""
        from leafwing.data.pictures import UnusableImageError, half_box

        if not self.half or self.derive is False:
            return image
        kind: Any = self.kind
        ratio = image.width / image.height / (kind.width / kind.height)
        doubled = ratio / 2 if self.half in ("left", "right") else 1 / ratio / 2
        if self.derive is None and not 1 / 1.05 <= doubled <= 1.05:
            return image
        if min(image.size) < 2:
            raise UnusableImageError("too small to be cut into halves")
        self.count["halves"] += 1
        return image.crop(half_box(*image.size, self.half))

    def read(self, image: Pillow.Image) -> tuple[Columns, tuple[int, int]]:
        """The stored inputs from an upright picture, and width and height of its translation.

        Raises:
            UnusableImageError: it cannot be this input.
        """
        from leafwing.data.derive import DERIVED

        source: Any = self.source
        result: Any = self.result
        size = image.size if self.any_size else (source.width, source.height)
        pixels = self._pixels(image, *size)
        if not self.any_size and size != image.size:
            self.count["stretched"] += 1
        # Pictures that are reduced or blurred first have the size of what is generated already.
        scale = (result.height / source.height, result.width / source.width) if self.any_size or not self.how else (1, 1)
        target = ceil(image.width * scale[1] - 1e-9), ceil(image.height * scale[0] - 1e-9)
        if not self.how:
            return {self.name: pixels}, target
        return {name: column[0] for name, column in DERIVED[self.how](self._divisible(pixels)[None]).items()}, target

    def _pixels(self, image: Pillow.Image, width: int, height: int) -> np.ndarray:
        """The stored sample of the source field in this size."""
        import numpy as np

        from leafwing.data import options
        from leafwing.data.pictures import GREY_MODES, UnusableImageError, render

        kind = self.source
        if isinstance(kind, Segmentation):
            if image.mode not in ("L", "P", "1"):
                raise UnusableImageError(f"mode {image.mode}: a segmentation is a grey or palette image of class indices")
            if (highest := int(np.asarray(image).max())) >= len(kind.names):
                raise UnusableImageError(
                    f"value {highest} is not a class: this run has {len(kind.names)}, 0 to {len(kind.names) - 1}"
                )
            return np.asarray(image.resize((width, height), 0)).astype(np.uint8)
        channels = kind.channels if isinstance(kind, Image) else 1
        further: dict[str, Any] = {"bits": 16} if getattr(kind, "bits", 8) == 16 else {}
        further["levels"] = self.levels
        target = options.Target(height, width, channels, "stretch", self.background, self.rgb, **further)
        if isinstance(kind, Mask):
            return (render(image, target) > 127).astype(np.uint8)
        if (grey := image.mode in GREY_MODES) != (channels < 3):
            self.count["colour" if grey else "greyscale"] += 1
        return render(image, target)

    def _divisible(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (height, width, channels), extended by reflection so that the derived input has whole pixels."""
        import numpy as np

        source: Any = self.source
        kind: Any = self.kind
        factors = (max(1, source.height // kind.height), max(1, source.width // kind.width))
        further = [-side % factor for side, factor in zip(pixels.shape, factors, strict=False)]
        return np.pad(pixels, [(0, further[0]), (0, further[1]), (0, 0)], "symmetric") if any(further) else pixels

    def conversions(self) -> list[str]:
        """What was done to pictures so that they fit, in sentences; complete when all are read."""
        notes = []
        if n := self.count["frames"]:
            notes.append(f"Files with several frames or pages: {n}; only the first was translated.")
        if n := self.count["halves"]:
            hint = "" if self.derive else "; --no-derive takes whole pictures"
            notes.append(f"The {self.half} half of a picture was its input, as in training: {n}{hint}.")
        source: Any = self.source
        if n := self.count["stretched"]:
            notes.append(
                f"Stretched to {source.width}x{source.height} pixels, the size of training, and the results back: {n}."
            )
        notes += [
            f"Converted to {colours}, which the network takes: {n}."
            for colours in ("greyscale", "colour")
            if (n := self.count[colours])
        ]
        return notes


def training_levels(run: Run, of_inputs: bool) -> Range | None:
    """The values of greyscale pictures that become black and white, as in training.

    Args:
        run: the run.
        of_inputs: for inputs; otherwise for images. Inputs that are halves of the images share their levels.
    """
    from leafwing.data.levels import choose, parse

    options = run.data.options
    separate = of_inputs and not (
        isinstance(half := options.get("input"), str) and half in ("left", "right", "top", "bottom")
    )
    name = "input_levels" if separate else "levels"
    return choose(parse(options.get(name), name), [])


def half_of(run: Run, name: str) -> str:
    """The half of a training file that was this field; empty if files were not pairs of halves."""
    from leafwing.data.built_in import is_built_in
    from leafwing.data.pictures import HALVES

    half = run.data.options.get("input")
    if half not in HALVES or is_built_in(str(run.data.source)):
        return ""
    return str(half) if name == "input" else HALVES[half]


def derived_input(run: Run) -> str | None:
    """How the input of a run was derived from its images; None if it was not."""
    if not isinstance(how := run.data.options.get("input"), str):
        return None
    from leafwing.data.built_in import own_inputs
    from leafwing.data.derive import DERIVED

    return how if how in DERIVED and how not in own_inputs(run.data.source) else None


def read_pictures(
    source: Source, reading: Reading, rejected: list[RejectedFile], progress: Reporter
) -> Iterator[list[Original]]:
    """Decodes the pictures of a source, a few at a time, large ones alone; adds those that cannot be used to `rejected`."""
    from leafwing.data import RejectedFile

    done = 0
    with ThreadPoolExecutor(cores()) as pool:
        for chunk in source.chunks(source.entries):
            for group in groups([*pool.map(lambda task: load_file(task, source), chunk)]):
                outcomes = [
                    *pool.map(
                        lambda file: file if isinstance(file, RejectedFile) else decode_file(file, source, reading), group
                    )
                ]
                originals = [outcome for outcome in outcomes if isinstance(outcome, Original)]
                rejected += [outcome for outcome in outcomes if not isinstance(outcome, Original)]
                if originals:
                    yield originals
                done += len(group)
                progress.report_progress("translating pictures", done, len(source.entries))


@dataclass(frozen=True)
class File:
    """A file that is not decoded yet.

    Args:
        name: its name in the source.
        content: its bytes.
        pixels: number of its pixels.
        frames: whether it has several frames or pages.
    """

    name: str
    content: bytes
    pixels: int
    frames: bool


def load_file(task: Task, source: Source) -> File | RejectedFile:
    """The bytes and the size of one picture, or why it cannot be used."""
    from leafwing.data import RejectedFile
    from leafwing.data.pictures import UnusableImageError, header

    entry, load = task[:2]
    try:
        content = load()
        about = header(content, source.raw)
        return File(entry.name, content, about.height * about.width, about.frames)
    except UnusableImageError as reason:
        return RejectedFile(entry.name, str(reason))


def groups(files: Sequence[File | RejectedFile]) -> Iterator[list[File | RejectedFile]]:
    """The files in order, in groups of at most `GROUP_PIXELS`, or of one."""
    group: list[File | RejectedFile] = []
    pixels = 0
    for file in files:
        size = getattr(file, "pixels", 0)
        if group and pixels + size > GROUP_PIXELS:
            yield group
            group, pixels = [], 0
        group.append(file)
        pixels += size
    if group:
        yield group


def decode_file(file: File, source: Source, reading: Reading) -> Original | RejectedFile:
    """Decodes one picture, or returns why it cannot be used."""
    import numpy as np

    from leafwing.data import RejectedFile
    from leafwing.data.pictures import UnusableImageError, opened

    try:
        with opened(file.content, source.raw) as whole:
            image = reading.part(whole)
            alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
            compressed = None if alpha is None else (alpha.size, zlib.compress(np.asarray(alpha).tobytes(), 1))
            columns, size = reading.read(image)
    except UnusableImageError as reason:
        return RejectedFile(file.name, str(reason))
    reading.count["frames"] += file.frames
    return Original(Origin(file.name, size, compressed), columns)
