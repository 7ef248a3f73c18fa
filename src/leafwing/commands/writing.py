"""Writes translated pictures under the names of the originals, in their types of file where these can hold the result."""

from __future__ import annotations

import io
import os
import re
import unicodedata
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from leafwing import files
from leafwing.fields import Clip, Field, Image, Segmentation
from leafwing.machine import cores

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image as Pillow

QUALITY = 95
"""Quality of JPEG and other lossy files, 0 to 100."""
SIXTEEN_BITS = ("PNG", "TIFF", "PPM")
"""Types of file that can hold 16-bit grey pixels."""


@dataclass(frozen=True)
class Origin:
    """What a translation keeps of its picture.

    Args:
        name: its name in the source.
        size: width and height of the translation in pixels.
        alpha: the picture's alpha channel: its width and height, and its compressed values; None without transparency.
    """

    name: str
    size: tuple[int, int]
    alpha: tuple[tuple[int, int], bytes] | None


class Writer:
    """Writes what was generated in the size of each picture, under its name; thread-safe.

    Args:
        folder: the output folder, which is created with the first picture.
        kind: the field of what is generated.
        names: the names of all pictures.
        samples: number of results for each picture; if there are several, their number is added to the name: `name-1.png`.

    Attributes:
        replaced: names of pictures whose results are in another type of file.
        opaque: names of those whose results lack their transparency.
    """

    def __init__(self, folder: Path, kind: Field, names: Sequence[str], samples: int = 1) -> None:
        self.folder, self.kind, self.samples = folder, kind, samples
        self.suffix = ".webp" if isinstance(kind, Clip) else ".png"
        self.replaced, self.opaque = set[str](), set[str]()
        self.missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        self.paths: dict[tuple[str, int], PurePosixPath] = {}
        used = {
            folded(parent) for name in names for parent in safe_path(name).parents
        }  # an archive may have x.png and x.png/y.png
        for name in names:
            for number in range(samples):
                path = safe_path(name)
                path = path if samples == 1 else path.with_name(shortened(f"{path.stem}-{number + 1}{path.suffix}"))
                self.paths[name, number] = reserve(path, used)
        # Other names, for results that need another type of file; two pictures may differ in their suffix only.
        self.others: dict[tuple[str, int], PurePosixPath] = {}
        for key, path in self.paths.items():
            other = path.with_name(shortened(path.with_suffix(self.suffix).name))
            self.others[key] = path if other == path else reserve(other, used)

    def write_all(self, origins: Sequence[Origin], samples: Sequence[np.ndarray], number: int = 0) -> None:
        """Writes stored samples, in parallel.

        Args:
            origins: what they keep of their pictures.
            samples: one for each.
            number: which of the results for each picture they are.

        Raises:
            StorageError: for the first file that cannot be written.
        """
        with ThreadPoolExecutor(cores()) as pool:
            [*pool.map(lambda origin, sample: self.write(origin, sample, number), origins, samples)]

    def write(self, original: Origin, sample: np.ndarray, number: int = 0) -> None:
        """Writes one stored sample."""
        from leafwing import films
        from leafwing.pictures import FRAME_MS, png

        frames = [self.resized(frame, original) for frame in self.frames(sample)]
        path = self.folder / self.paths[original.name, number]
        if isinstance(self.kind, Clip):
            path = self.folder / self.others[original.name, number]
        elif encoded := encode(frames[0], path.suffix.lower(), lossy=isinstance(self.kind, Image)):
            content = encoded
        else:
            path, content = self.folder / self.others[original.name, number], png(frames[0])
            self.replaced.add(original.name)
        with files.storage(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.kind, Clip):
            films.write(path, frames, FRAME_MS, lossless=True)
        else:
            files.write(path, content)

    def frames(self, sample: np.ndarray) -> list[Pillow.Image]:
        """A stored sample as images in its own size: one, or the frames of a clip."""
        from PIL import Image as Pillow

        from leafwing import pictures

        if sample.dtype.itemsize == 2 and sample.shape[2] == 1:
            return [Pillow.fromarray(sample[:, :, 0])]
        pixels = pictures.visible(self.kind, sample)
        if isinstance(self.kind, Segmentation):
            return [pictures.to_image(pixels)]
        return [pictures.to_image(frame) for frame in (pixels if isinstance(self.kind, Clip) else pixels[None])]

    def resized(self, image: Pillow.Image, original: Origin) -> Pillow.Image:
        """An image in the size of the translation, with the alpha channel of the picture if it has one and the image has none."""
        from PIL import Image as Pillow

        smooth = isinstance(self.kind, Image | Clip)
        if image.size != original.size:
            image = resize(image, original.size, smooth=smooth)
        if original.alpha is not None and smooth:
            if image.mode == "I;16":
                self.opaque.add(original.name)
            if image.mode in ("L", "RGB"):
                size, values = original.alpha
                image.putalpha(resize(Pillow.frombytes("L", size, zlib.decompress(values)), original.size, smooth=True))
        return image

    def remove_empty_folders(self) -> None:
        """Removes the folders that were created, if nothing was written into them."""
        for folder in self.missing:
            with suppress(OSError):
                folder.rmdir()


def resize(image: Pillow.Image, size: tuple[int, int], *, smooth: bool) -> Pillow.Image:
    """An image in another size, by Lanczos if `smooth`, else by the nearest pixel."""
    import numpy as np
    from PIL import Image as Pillow

    if image.size == size:
        return image
    if image.mode != "I;16" or not smooth:
        return image.resize(size, Pillow.Resampling.LANCZOS if smooth else Pillow.Resampling.NEAREST)
    values = Pillow.fromarray(np.asarray(image).astype(np.float32)).resize(size, Pillow.Resampling.LANCZOS)
    return Pillow.fromarray(np.rint(np.asarray(values)).clip(0, 65535).astype(np.uint16))


def safe_path(name: str, windows: bool = os.name == "nt") -> PurePosixPath:
    """A name in a source as a path below the output folder: archives may contain any name.

    Args:
        name: the name.
        windows: replace the characters that Windows refuses in names, too.
    """
    refused = r'[<>:"|?*\\\x01-\x1f]|[. ]$' if windows else r"[:\\]"
    parts = [re.sub(refused, "_", part) for part in PurePosixPath(name).parts if part not in ("/", "//", "..", ".")]
    return PurePosixPath(*map(shortened, parts or ["picture"]))


def shortened(name: str) -> str:
    """The name of a file or folder in at most 255 bytes, the limit of file systems; the extension is kept."""
    stem, suffix = os.path.splitext(name)
    return (
        name
        if len(os.fsencode(name)) <= 255
        else os.fsencode(stem)[: 240 - len(os.fsencode(suffix))].decode(errors="ignore") + suffix
    )


def folded(path: PurePosixPath) -> str:
    """A path as file systems compare it that ignore case and how accents are encoded."""
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def reserve(path: PurePosixPath, used: set[str]) -> PurePosixPath:
    """The path, with a number if it is in use; `used`: those in use, `folded`, to which the result is added."""
    candidates = chain([path], (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2)))
    chosen = next(candidate for candidate in candidates if folded(candidate) not in used)
    used.add(folded(chosen))
    return chosen


def encode(image: Pillow.Image, suffix: str, *, lossy: bool) -> bytes | None:
    """The content of an image file; None if this type of file cannot be written, cannot hold the mode or changes the values.

    Args:
        image: the image.
        suffix: the file's extension, in lower case.
        lossy: whether the values may be changed by compression.
    """
    from PIL import Image as Pillow

    Pillow.init()
    kind = Pillow.EXTENSION.get(suffix, "")
    modes = {".pgm": ("L", "I;16"), ".ppm": ("RGB",), ".pnm": ("L", "I;16", "RGB"), ".pbm": (), ".jpg": ("L", "RGB")}
    if kind not in Pillow.SAVE or image.mode not in modes.get(".jpg" if kind == "JPEG" else suffix, (image.mode,)):
        return None
    if kind in ("JPEG", "JPEG2000", "WEBP", "AVIF", "HEIF", "JXL") and not lossy:
        return None
    if image.mode == "I;16" and kind not in SIXTEEN_BITS:
        return None
    buffer = io.BytesIO()
    # Without `optimize=False`, Pillow numbers the classes of a small GIF anew, without those that do not occur.
    quality = {"quality": QUALITY} if kind in ("JPEG", "WEBP", "AVIF") else {}
    try:
        image.save(buffer, kind, optimize=False, **quality)
    except (OSError, KeyError, ValueError, NotImplementedError):  # how Pillow's plugins refuse a mode
        return None
    if kind in ("GIF", "BMP", "DIB"):  # GIF has 256 colours, and none of them soft alpha
        with Pillow.open(buffer) as written:
            mode = "P" if image.mode == "P" else "RGBA"  # classes must be the same, not only their colours
            if written.convert(mode).tobytes() != image.convert(mode).tobytes():
                return None
    return buffer.getvalue()
