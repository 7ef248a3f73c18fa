"""Samples as image files: grids, many individual files, sheets of samples, and the reel of a training (an animation).

How images and texts are placed on a sheet is in `layout.py`.
"""

from __future__ import annotations

import colorsys
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from math import ceil, sqrt
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from leafwing import fields, files, films
from leafwing.errors import LeafwingError
from leafwing.fields import Field
from leafwing.game import DataSpec
from leafwing.layout import (
    CELL,
    GAP,
    LINE,
    PAPER,
    arrange,
    check_sheet,
    enlargement,
    fit,
    flat,
    font,
    text_image,
    write_lines,
)
from leafwing.machine import cores
from leafwing.pixels import eight_bits, to_bytes

Item = TypeVar("Item")
Pixels = NDArray[np.uint8]
FRAME_MS, MIN_STEP, LAST_MS = 100, 40, 1_500
"""Duration of a frame of a clip, the shortest of an image of a reel, and that of its last image, in milliseconds."""
REEL, SMALL = 1_080, 512
"""Images of a reel are reduced to the first, and enlarged by a whole factor within the second, in pixels of the longer side."""
SMOOTH = 32
"""Side in pixels from which images are enlarged smoothly; see `is_smooth`."""
PALETTE = np.array(
    [(60, 60, 60)]
    + [
        [round(255 * level) for level in colorsys.hsv_to_rgb(i * 0.618 % 1, 0.75, 1 - 0.25 * (i // 8 % 3))]
        for i in range(1, 256)
    ],
    np.uint8,
)
"""The colours of classes 0 to 255, and of key points from 1 on; dark grey for class 0, which is usually the background."""
CLASSES, PER_CLASS = 20, 10
"""The most classes on a sheet of all classes, and samples of each."""
UNASSIGNED = "\U0010ffff"
"""A character that no font has, and that is drawn like every other that a font lacks."""
MAX_QUEUED = 128
"""Maximum number of images queued for writing: enough to keep the threads busy while the next block is generated."""
MAX_QUEUED_BYTES = 256 << 20
"""Maximum size of these images, unless one alone is larger."""


def to_pixels(samples: Tensor) -> Pixels:
    """(n, channels, height, width) in [-1, 1] -> uint8 (n, height, width, channels)."""
    return to_bytes(samples).permute(0, 2, 3, 1).cpu().numpy()


def to_image(pixels: Pixels) -> Image.Image:
    """An image (height, width, channels) with 1 to 4 channels, grey (of 8 or 16 bits), grey + alpha, RGB or RGBA; or classes (height,
    width)."""
    if pixels.ndim == 2:
        image = Image.fromarray(pixels)
        image.putpalette(PALETTE.tobytes())
        return image
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def visible(kind: Field, stored: np.ndarray) -> Pixels:
    """Stored samples with pixels (n, ...), as `to_image` takes them, in their own depth; clips have several images each."""
    return stored * np.uint8(255) if isinstance(kind, fields.Mask) else stored


def draw(kind: Field, stored: np.ndarray, frame: int | None = None) -> Pixels:
    """Stored samples with pixels (n, ...) as images (n, height, width, channels): classes in colours, clips as strips or one frame.

    Args:
        kind: their field.
        stored: the samples.
        frame: of clips, this frame (the last one if there are fewer); None: all frames side by side.
    """
    pixels = eight_bits(visible(kind, stored))
    if isinstance(kind, fields.Segmentation):
        return PALETTE[pixels]
    if not isinstance(kind, fields.Clip):
        return pixels
    if frame is not None:
        return pixels[:, min(frame, kind.frames - 1)]
    return np.concatenate([pixels[:, i] for i in range(kind.frames)], axis=2)


def mark(image: Image.Image, kind: Field, values: np.ndarray, size: tuple[int, int] | None = None) -> None:
    """Outlines a box, or draws visible key points as dots in the colours of `PALETTE`.

    Args:
        image: an RGB image, changed in place.
        kind: the field, a box or key points.
        values: the sample.
        size: width and height of the part, at the left, that coordinates refer to; None: the whole image.
    """
    pen, (width, height) = ImageDraw.Draw(image), size or image.size
    values = values.astype(float)
    if isinstance(kind, fields.Box):
        left, top, across, down = values * [width, height, width, height]
        corners = (left, top, max(left, left + across - 1), max(top, top + down - 1))
        pen.rectangle(corners, outline="black", width=3)
        pen.rectangle(corners, outline="#ffdd00", width=2)
        return
    for index, (x, y, is_visible) in enumerate(values, 1):
        if is_visible:
            pen.circle((x * width, y * height), 3, fill=tuple(PALETTE[index].tolist()), outline="white")


def png(image: Image.Image) -> bytes:
    """An image encoded as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_images(images: Iterable[tuple[Path, Pixels]], threads: int | None = None) -> None:
    """Writes PNG files, of clips animations as `films.write` does, without loss in WebP, in parallel, each atomically.

    `images` is consumed as the files are written, so an iterator of any length needs little memory; see `MAX_QUEUED_BYTES`.

    Args:
        images: pairs of path and pixels: (height, width, channels), classes (height, width), or (frames, height, width, channels).
        threads: number of writer threads. None: the number of cores plus two, because some wait for the disk; at
            most 8.

    Raises:
        StorageError: for the first file that cannot be written; files already written stay, no further ones are started.
    """
    threads = threads or min(8, cores() + 2)
    pool = ThreadPoolExecutor(threads)
    pending: deque[tuple[int, Future[None]]] = deque()
    try:
        for path, pixels in images:
            pending.append((pixels.nbytes, pool.submit(_write_image, path, pixels)))
            while len(pending) > MAX_QUEUED or (len(pending) > 1 and sum(size for size, _ in pending) > MAX_QUEUED_BYTES):
                pending.popleft()[1].result()
        for _, future in pending:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_image(path: Path, pixels: Pixels) -> None:
    if pixels.ndim == 4:
        films.write(path, map(to_image, pixels), FRAME_MS, lossless=True)
    else:
        files.write(path, png(to_image(pixels)))


def grid(samples: Tensor, columns: int | None = None, gap: int = GAP, scale: int | None = None) -> Image.Image:
    """Images (n, channels, height, width) as a grid, see `tile`; points (n, 2) as a scatter plot.

    Args:
        samples: images in [-1, 1], or points.
        columns: images per row; default: as square as possible.
        gap: pixels between images.
        scale: whole factor of enlargement; None: small images are enlarged, see `layout.enlargement`.
    """
    if samples.dim() == 2:
        return scatter(samples)
    columns = columns or ceil(sqrt(len(samples)))
    return tile(upscale(to_pixels(samples), scale, columns), columns, gap)


def tile(pixels: Pixels, columns: int | None = None, gap: int = GAP) -> Image.Image:
    """A grid of images (n, height, width, channels), in RGB with 8 bits, on light grey; transparent parts are on white.

    Args:
        pixels: the images, in row-major order.
        columns: images per row; default: as square as possible.
        gap: pixels between images.
    """
    columns = columns or ceil(sqrt(len(pixels)))
    return arrange(in_rows([to_image(image) for image in eight_bits(pixels)], columns), gap=gap)


def upscale(pixels: Pixels, scale: int | None = None, columns: int | None = None) -> Pixels:
    """Images (n, height, width, channels), enlarged in the way that suits them; see `is_smooth`.

    Args:
        pixels: the images.
        scale: whole factor; None: so that they are easily seen on a grid of so many `columns`, see `layout.enlargement`.
        columns: images per row; default: as square as possible.
    """
    columns = columns or ceil(sqrt(len(pixels)))
    factor = scale or enlargement(pixels.shape[2], pixels.shape[1], columns, ceil(len(pixels) / columns))
    return enlarge_stored(fields.Image(*pixels.shape[1:]), pixels, factor)


def enlarge(values: np.ndarray, scale: int, axis: int = 1) -> np.ndarray:
    """Pixels enlarged by a whole factor by repetition; `axis` is that of the height, the next one that of the width."""
    return values.repeat(scale, axis=axis).repeat(scale, axis=axis + 1) if scale > 1 else values


def is_smooth(kind: Field) -> bool:
    """Whether samples are enlarged smoothly, as suits photographs: images without transparency, from `SMOOTH` pixels a side on.

    Smaller images, transparent ones (icons, sprites), masks, segmentations and clips are enlarged pixel by pixel.
    """
    return isinstance(kind, fields.Image) and kind.channels in (1, 3) and min(kind.height, kind.width) >= SMOOTH


def enlarge_stored(kind: Field, stored: np.ndarray, scale: int, axis: int | None = None) -> np.ndarray:
    """Samples enlarged by a whole factor in the way that suits their field; see `is_smooth`.

    Args:
        kind: the field.
        stored: stored samples with pixels (n, ...), or images of `visible` or `draw`.
        scale: the factor.
        axis: that of the height; None: that of stored samples.
    """
    if scale == 1 or not is_smooth(kind):
        return enlarge(stored, scale, axis if axis is not None else 2 if isinstance(kind, fields.Clip) else 1)
    *others, height, width, channels = stored.shape
    limits, size = np.iinfo(stored.dtype), (width * scale, height * scale)
    planes = np.moveaxis(stored, -1, -3).reshape(-1, height, width).astype(np.float32)
    whole = np.empty((len(planes), *size[::-1]), stored.dtype)  # one by one, because floats take four times as much memory
    for plane, place in zip(planes, whole, strict=True):
        large = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS))
        place[...] = np.rint(large).clip(limits.min, limits.max)
    return np.moveaxis(whole.reshape(*others, channels, height * scale, width * scale), -3, -1)


def scatter(points: Tensor, side: int = 512) -> Image.Image:
    """Scatter plot of points (n, 2 or more); the range is a round number that covers 99% of them, with the axes through the origin."""
    values = points.detach().float().cpu().numpy()
    reach = float(np.quantile(np.abs(values), 0.99)) if len(values) else 1.0
    extent = max(1.5 * 2 ** ceil(np.log2(max(reach, 1e-6) / 1.5)), 1e-3)
    sheet = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(sheet)
    draw.line([(0, side / 2), (side, side / 2)], fill=220)
    draw.line([(side / 2, 0), (side / 2, side)], fill=220)
    for x, y in (values[:, :2] * [1, -1] / extent + 1) * side / 2:
        if 0 <= x < side and 0 <= y < side:
            draw.ellipse([x - 1, y - 1, x + 1, y + 1], fill=0)
    draw.text((4, 4), f"±{extent:g}", fill=100)
    return sheet


@dataclass(frozen=True)
class Cell:
    """One sample on a sheet.

    Args:
        kind: its field.
        stored: the sample in the format of data sets.
        marks: boxes and key points to draw on it, by their fields; each in the format of networks.
        text: written below it.
    """

    kind: Field
    stored: np.ndarray
    marks: Sequence[tuple[Field, Tensor]] = ()
    text: str = ""

    def draw(self, side: int, frame: int | None) -> Image.Image:
        """The sample enlarged to images of about `side` rows, in RGB; a sample without pixels as text."""
        if not self.kind.has_pixels:
            return text_image(str(self.kind.to_plain(self.stored[None])[0]), 3 * side)
        (pixels,) = draw(self.kind, self.stored[None], frame)
        image = flat(to_image(enlarge_stored(self.kind, pixels, max(1, round(side / pixels.shape[0])), 0)))
        width = image.width // (self.kind.frames if isinstance(self.kind, fields.Clip) and frame is None else 1)
        for kind, values in self.marks:
            mark(image, kind, values.numpy(), (width, image.height))
        return image


@dataclass(frozen=True)
class Sheet:
    """Samples in rows and columns, with titles above the columns, names beside the rows and captions below them, if there are any."""

    rows: Sequence[Sequence[Cell]]
    titles: Sequence[str] = ()
    captions: Sequence[str] = field(default_factory=tuple)
    names: Sequence[str] = ()

    @property
    def frames(self) -> int:
        """Number of frames of its clips; 0 without clips."""
        return max(cell.kind.frames if isinstance(cell.kind, fields.Clip) else 0 for row in self.rows for cell in row)

    def image(self, frame: int | None = None, scale: int | None = None) -> Image.Image:
        """The sheet with all frames of clips side by side, or with one frame of each.

        Args:
            frame: the number of that frame; None: all.
            scale: whole factor by which the largest samples are enlarged, the others to about the same height. None: small ones are
                enlarged, see `layout.enlargement`.
        """
        kinds = {cell.kind for row in self.rows for cell in row if cell.kind.has_pixels}
        width, height = (max((getattr(kind, side) for kind in kinds), default=CELL // 2) for side in ("width", "height"))
        columns = max(len(row) for row in self.rows) * (max(1, self.frames) if frame is None else 1)
        side = height * (scale or enlargement(width, height, columns, len(self.rows)))
        images = [[cell.draw(side, frame) for cell in row] for row in self.rows]
        texts = [[cell.text for cell in row] for row in self.rows]
        return arrange(images, titles=self.titles, names=self.names, texts=texts, captions=self.captions)

    def animation(self, scale: int | None = None) -> Iterator[Image.Image]:
        """The frames of the sheet as an animation of its clips."""
        return (self.image(frame, scale) for frame in range(self.frames))


def columns_of(kind: Field, n: int, is_film: bool = False) -> int:
    """The number of columns of a grid of n samples: as square as possible, of clips one, because they are strips, unless they move."""
    return 1 if isinstance(kind, fields.Clip) and not is_film else ceil(sqrt(n))


def check_size(kind: Field, n: int, columns: int, scale: int | None = None, is_film: bool = False) -> None:
    """Raises LeafwingError if a grid of n samples would be too large to be opened; see `layout.check_sheet`."""
    if kind.has_pixels:
        width, height = getattr(kind, "width", 1), getattr(kind, "height", 1)
        frames = kind.frames if isinstance(kind, fields.Clip) and not is_film else 1
        rows = ceil(n / columns)
        check_sheet(width, height, columns * frames, rows, scale or enlargement(width, height, columns * frames, rows))


def sample_grid(
    kind: Field,
    stored: np.ndarray,
    columns: int,
    spec: DataSpec,
    inputs: Mapping[str, Tensor],
    titles: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Sheet:
    """Stored samples as a sheet that says in which conditions they differ: the classes of rows, everything else below the samples.

    Args:
        kind: the field of the samples.
        stored: the samples (n, ...).
        columns: samples per row.
        spec: the fields of the conditions.
        inputs: the conditions, in the format of networks.
        titles: above the columns.
        texts: below each sample, before its conditions.
    """
    differing = {name: value.cpu() for name, value in inputs.items() if (value != value[:1]).any()}
    names: list[str] = []
    for name, label in ((name, spec.fields[name]) for name in [*differing]):
        rows = [part.tolist() for part in differing[name].split(columns)]
        if isinstance(label, fields.Label) and not names and all(len({*row}) == 1 for row in rows):
            names = [class_name(label.names[row[0]], row[0]) for row in rows]
            del differing[name]
    blank = [""] * len(stored)
    parts = zip(texts or blank, captions_of(spec, differing) or blank, strict=True)
    cells = [Cell(kind, sample, text=": ".join(filter(None, part))) for sample, part in zip(stored, parts, strict=True)]
    return Sheet(in_rows(cells, columns), titles, names=names)


def captions_of(spec: DataSpec, inputs: Mapping[str, Tensor]) -> list[str]:
    """The conditions of each sample that can be read: classes, attributes, captions."""
    count = max((len(value) for value in inputs.values()), default=0)
    parts: list[list[str]] = [[] for _ in range(count)]
    for name, value in inputs.items():
        kind = spec.fields[name]
        for words, row in zip(parts, value.tolist(), strict=True):
            if isinstance(kind, fields.Label):
                words.append(class_name(kind.names[row], row))
            elif isinstance(kind, fields.Attributes):
                words.append(", ".join(item for item, bit in zip(kind.names, row, strict=True) if bit))
            elif isinstance(kind, fields.Caption):
                words.append(kind.decode(row))
    return ["; ".join(filter(None, words)) for words in parts]


def class_name(name: str, index: int) -> str:
    """The name of a class as it is drawn: after its index, `#2 name`, if the font draws one of its characters as an empty box."""
    return f"#{index} {name}" if any(_glyph(character) == _glyph(UNASSIGNED) for character in name) else name


@cache
def _glyph(character: str) -> bytes:
    return bytes(font().getmask(character))


def in_rows(cells: Sequence[Item], columns: int) -> list[Sequence[Item]]:
    """Rows of so many cells; the last one may be shorter."""
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def read_sheet(path: Path) -> Image.Image:
    """A picture that training or an evaluation has written, such as a sample grid.

    Raises:
        LeafwingError: it cannot be read, or is damaged.
    """
    files.require_file(path)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return image
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many types for a damaged file
        reason = getattr(error, "strerror", None) or "damaged, or not a PNG picture"
        raise LeafwingError(f"{path}: {reason}; delete it, or restore it from a copy") from None


def reel(
    frames: Sequence[Path],
    captions: Sequence[str],
    out: Path,
    seconds: float = 6.0,
    size: int | None = None,
    is_smooth: bool = False,
) -> str:
    """Writes an animation of images, each with a caption below; the last frame is shown longer.

    Args:
        frames: image files. Those of another size than the last one, as earlier versions drew them, are fitted into its size.
        captions: one line of text per frame.
        out: a .webp, .gif or .mp4 file.
        seconds: duration of the animation, last frame included.
        size: the longer side in pixels, captions included; None: small images are enlarged, large ones reduced.
        is_smooth: whether what the images show is enlarged smoothly; see `is_smooth`.

    Returns:
        How its size differs from that of the images, see `films.write`, and that it lasts longer than requested; empty if neither.

    Raises:
        LeafwingError: another file type, PyAV, which .mp4 needs, is not installed, or an image is damaged.
    """
    films.require(out)
    width, height = read_sheet(frames[-1]).size
    longer = max(width, height)
    ratio = REEL / longer if longer > REEL else max(1, SMALL // longer)
    if size:
        size -= size % 2
        ratio = min(size / width, max(2, size - LINE) / height)
    shown = (max(2, round(width * ratio)), max(2, round(height * ratio)))
    images = (_captioned(path, text, shown, is_smooth) for path, text in zip(frames, captions, strict=True))
    step, last_step = films.timing(seconds, len(frames), MIN_STEP, LAST_MS)
    changed = films.write(out, images, step, last=last_step)
    return "; ".join(filter(None, (changed, films.longer(seconds, len(frames), MIN_STEP))))


def _captioned(path: Path, text: str, box: tuple[int, int], is_smooth: bool) -> Image.Image:
    """An image of a reel: a file fitted into this width and height, which margins make even for films, with a caption below."""
    width, height = (side + side % 2 for side in box)
    sheet = Image.new("RGB", (width, height + LINE), PAPER)
    sheet.paste(fit(flat(read_sheet(path)), *box, is_smooth))
    write_lines(ImageDraw.Draw(sheet), (GAP, height), [text])
    return sheet
