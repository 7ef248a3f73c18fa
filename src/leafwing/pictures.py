"""Samples as image files: grids, many individual files, the progress sheets of a training and their reel (an animation)."""

from __future__ import annotations

import colorsys
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from leafwing import fields, files, films
from leafwing.conditions import edits, pixel_conditions, way_back
from leafwing.errors import LeafwingError
from leafwing.fields import Field
from leafwing.game import Batch, DataSpec, Output
from leafwing.machine import cores
from leafwing.pixels import eight_bits, to_bytes

if TYPE_CHECKING:
    from leafwing.model import Model

Pixels = NDArray[np.uint8]
FRAME_MS, MIN_STEP, LAST_MS = 100, 40, 1_500
"""Duration of a frame of a clip, the shortest of an image of a reel, and that of its last image, in milliseconds."""
PALETTE = np.array(
    [(60, 60, 60)]
    + [
        [round(255 * level) for level in colorsys.hsv_to_rgb(i * 0.618 % 1, 0.75, 1 - 0.25 * (i // 8 % 3))]
        for i in range(1, 256)
    ],
    np.uint8,
)
"""The colours of classes 0 to 255, and of key points from 1 on; dark grey for class 0, which is usually the background."""
MAX_QUEUED = 128
"""Maximum number of images queued for writing: enough to keep the threads busy while the next block is generated."""


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

    `images` is consumed as the files are written, so an iterator of any length needs little memory.

    Args:
        images: pairs of path and pixels: (height, width, channels), classes (height, width), or (frames, height, width, channels).
        threads: number of writer threads. None: the number of cores plus two, because some wait for the disk; at
            most 8.

    Raises:
        StorageError: for the first file that cannot be written; files already written stay, no further ones are started.
    """
    threads = threads or min(8, cores() + 2)
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[None]] = deque()
    try:
        for path, pixels in images:
            pending.append(pool.submit(_write_image, path, pixels))
            if len(pending) > MAX_QUEUED:
                pending.popleft().result()
        for future in pending:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_image(path: Path, pixels: Pixels) -> None:
    if pixels.ndim == 4:
        films.write(path, map(to_image, pixels), FRAME_MS, lossless=True)
    else:
        files.write(path, png(to_image(pixels)))


def grid(samples: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Images (n, channels, height, width) as a grid, see `tile`, small ones enlarged; points (n, 2) as a scatter plot."""
    return scatter(samples) if samples.dim() == 2 else tile(upscale(to_pixels(samples)), columns, gap)


def tile(pixels: Pixels, columns: int | None = None, gap: int = 2) -> Image.Image:
    """A grid of images (n, height, width, channels), in 8 bits.

    Args:
        pixels: the images, in row-major order.
        columns: images per row; default: as square as possible.
        gap: pixels between images.
    """
    n, height, width, channels = pixels.shape
    columns, pixels = columns or ceil(sqrt(n)), eight_bits(pixels)
    rows = ceil(n / columns)
    sheet = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        sheet[top : top + height, left : left + width] = image
    return to_image(sheet)


def animated(kind: fields.Clip, stored: np.ndarray, columns: int | None, frame: int) -> Image.Image:
    """One frame of a grid of stored clips (n, frames, height, width, channels) that move."""
    return tile(upscale(draw(kind, stored, frame)), columns)


def upscale(pixels: Pixels, minimum: int = 32) -> Pixels:
    """Images (n, height, width, channels), upscaled by pixel repetition so that the shorter side has about `minimum` pixels."""
    factor = max(1, round(minimum / min(pixels.shape[1:3])))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else pixels


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
    """

    kind: Field
    stored: np.ndarray
    marks: Sequence[tuple[Field, Tensor]] = ()

    def draw(self, side: int, frame: int | None) -> Image.Image:
        """The sample enlarged to images of about `side` rows, in RGB; a sample without pixels as text."""
        if not self.kind.has_pixels:
            return text_image(str(self.kind.to_plain(self.stored[None])[0]), 3 * side, "white")
        (pixels,) = draw(self.kind, self.stored[None], frame)
        factor = max(1, round(side / pixels.shape[0]))
        image = to_image(pixels.repeat(factor, axis=0).repeat(factor, axis=1)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        width = image.width // (self.kind.frames if isinstance(self.kind, fields.Clip) and frame is None else 1)
        for kind, values in self.marks:
            mark(image, kind, values.numpy(), (width, image.height))
        return image


@dataclass(frozen=True)
class Sheet:
    """Samples in rows and columns, with a title above each column and a caption below each row, if there are any."""

    rows: Sequence[Sequence[Cell]]
    titles: Sequence[str] = ()
    captions: Sequence[str] = field(default_factory=tuple)

    @property
    def frames(self) -> int:
        """Number of frames of its clips; 0 without clips."""
        return max(cell.kind.frames if isinstance(cell.kind, fields.Clip) else 0 for row in self.rows for cell in row)

    def image(self, frame: int | None = None) -> Image.Image:
        """The sheet with all frames of clips side by side, or with one frame of each."""
        cells = [cell for row in self.rows for cell in row]
        kinds = {cell.kind for cell in cells}
        if len(kinds) == 1 and cells[0].kind.has_pixels and not (self.titles or any(self.captions) or cells[0].marks):
            pixels = draw(cells[0].kind, np.stack([cell.stored for cell in cells]), frame)
            return tile(upscale(pixels), len(self.rows[0]))
        sides = [getattr(kind, "height", 0) for kind in kinds]
        side = max(sides) * max(1, round(64 / max(*sides, 1)))
        images = [[cell.draw(side or 64, frame) for cell in row] for row in self.rows]
        return self._assemble(images)

    def animation(self) -> Iterator[Image.Image]:
        """The frames of the sheet as an animation of its clips."""
        return (self.image(frame).convert("RGB") for frame in range(self.frames))

    def _assemble(self, images: Sequence[Sequence[Image.Image]], gap: int = 2) -> Image.Image:
        """Pastes the images of the cells, row by row."""
        texts = [*self.titles] + [""] * (len(images[0]) - len(self.titles))
        titles = [text_image(text, None) if text else None for text in texts]
        widths = [
            max(image.width for image in (*column, *([title] if title else [])))
            for column, title in zip(zip(*images, strict=True), titles, strict=True)
        ]
        width = sum(widths) + gap * (len(widths) + 1)
        captions = [text_image(text, width - 2 * gap) if text else None for text in self.captions] or [None] * len(images)
        below = max((caption.height + 4 * gap for caption in captions if caption), default=0)
        above = max((title.height + gap for title in titles if title), default=0)
        heights = [max(image.height for image in row) for row in images]
        sheet = Image.new("RGB", (width, above + sum(heights) + (gap + below) * len(images) + gap))
        lefts = [gap + sum(widths[:i]) + gap * i for i in range(len(widths))]
        for left, title in zip(lefts, titles, strict=True):
            if title:
                sheet.paste(title, (left, gap))
        top = above + gap
        for row, height, caption in zip(images, heights, captions, strict=True):
            for left, image in zip(lefts, row, strict=True):
                sheet.paste(image, (left, top))
            if caption:
                sheet.paste(caption, (gap, top + height + gap))
            top += height + below + gap
        return sheet


def text_image(text: str, width: int | None, colour: str = "lightgrey") -> Image.Image:
    """Text on black, in lines of at most `width` pixels (None: one line), at most three of them."""
    font = ImageFont.load_default(12)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and (width is None or font.getlength(longer) <= width):
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > 3:
        lines = [*lines[:2], f"{lines[2]} ..."]
    across = width or 4 + ceil(max((font.getlength(line) for line in lines), default=1))
    image = Image.new("RGB", (across, 15 * max(1, len(lines))))
    ImageDraw.Draw(image).text((0, 0), "\n".join(lines), font=font, fill=colour, spacing=3)
    return image


def sample_sheet(model: Model, rows: Batch | None = None, seed: int = 0) -> Image.Image:
    """The progress sheet as an image; see `progress_sheet`. Points are a plot of 2,000."""
    if isinstance(model.kind(model.output), fields.Vector):
        return scatter(model.sample(2_000, seed))
    return progress_sheet(model, rows, seed).image()


def progress_sheet(model: Model, rows: Batch | None = None, seed: int = 0) -> Sheet:
    """Samples of the main output, the same ones at every stage of training.

    From latents alone: 8 x 8 samples; with labels one row per class, with the same latents in each. Other conditions than labels and
    attributes come from `rows`: real samples, and beside each of them those generated from its conditions, with its caption below and
    its box kinds on it. From images: what each is generated from, what is generated, what it is in reality, or if they are unpaired,
    some real sample; for two outputs that translate into each other, there and back in both directions. Clips are strips of frames.

    Args:
        model: the model.
        rows: some real samples in the format of networks; None: conditions follow the examples of the model.
        seed: random seed of latents and unspecified conditions.

    Raises:
        LeafwingError: an output that is generated from images, but no rows.
    """
    output = model.output
    if pixel_conditions(output, model.spec):
        if rows is None:
            raise LeafwingError(f"the {output.field} of this run is generated from images: a sheet needs some real samples")
        return _translations(model, output, rows, seed)
    kind = model.kind(output)
    if {*output.conditions} - {"label", "attributes"}:
        return _conditional_samples(model, output, rows, seed)
    count = 8 if isinstance(kind, fields.Clip) or not kind.has_pixels else 64
    if not model.labels:
        samples = model.sample(count, seed)
        return Sheet(_in_rows(_cells(kind, samples), 8 if count == 64 else 1))
    labels, columns = range(min(20, len(model.labels))), 10 if count == 64 else 1
    latents = model.latents(columns, seed).repeat(len(labels), 1)
    samples = model.generate(latents, label=[label for label in labels for _ in range(columns)])
    return Sheet(_in_rows(_cells(kind, samples), columns))


def _conditional_samples(model: Model, output: Output, rows: Batch | None, seed: int) -> Sheet:
    """Real samples, and beside each the samples of the same latents with its conditions."""
    kind = model.kind(output)
    inputs = model.conditions(8, seed) if rows is None else Batch({name: rows[name] for name in output.conditions})
    columns = 1 if output.prior is None or isinstance(kind, fields.Clip) else 6
    latents = None if output.prior is None else model.latents(columns, seed).repeat(inputs.n, 1)
    repeated: dict[str, Any] = {name: value.repeat_interleave(columns, 0) for name, value in inputs.items()}
    samples = _in_rows(
        _cells(kind, torch.cat([*model.stream(latents, seed=seed, **repeated)]), _marks(model.spec, repeated)), columns
    )
    titles, captions = ["generated"], _captions(model.spec, inputs)
    if rows is not None and output.field in rows:
        real = _cells(kind, rows[output.field], _marks(model.spec, inputs))
        return Sheet([[cell, *row] for cell, row in zip(real, samples, strict=True)], ["real", *titles], captions)
    return Sheet(samples, titles, captions)


def _translations(model: Model, output: Output, rows: Batch, seed: int) -> Sheet:
    """Inputs, outputs and the real samples in columns; for two-way translators there and back, in both directions.

    An output that edits samples gives each sample the other conditions of the next one.
    """
    spec, edited = model.spec, edits(output)
    if edited:
        rows = Batch({name: value if name == output.field else value.roll(-1, 0) for name, value in rows.items()})

    def translate(output: Output, images: Tensor) -> Tensor:
        name, *_ = pixel_conditions(output, spec)
        further: dict[str, Any] = {condition: rows[condition] for condition in output.conditions if condition != name}
        return model.translate(images, output=output.field, seed=seed, **further)

    (name, *further), kind = pixel_conditions(output, spec), model.kind(output)
    back = way_back(output, model.game.abilities.outputs, spec)
    columns = [(condition, spec.fields[condition], rows[condition]) for condition in (name, *further)]
    generated = translate(output, rows[name])
    columns.append(("generated", kind, generated))
    if back is not None and output.field in rows:
        other = spec.fields[name]
        reverse = translate(back, rows[output.field])
        columns += [("and back", other, translate(back, generated)), (output.field, kind, rows[output.field])]
        columns += [("generated", other, reverse), ("and back", kind, translate(output, reverse))]
    elif output.field in rows and not edited:
        unpaired = {*spec.unpaired} & {name, output.field}
        columns.append(("real, unpaired" if unpaired else "real", kind, rows[output.field]))
    inputs = {condition: rows[condition] for condition in output.conditions if condition not in (name, *further)}
    cells = [_cells(kind, values, _marks(spec, inputs)) for _, kind, values in columns]
    return Sheet([*zip(*cells, strict=True)], [title for title, _, _ in columns], _captions(spec, inputs))


def comparison_sheet(model: Model, rows: Batch, samples: Mapping[str, Tensor], *, with_real: bool) -> Sheet:
    """Inputs, what several models generate from them, and the real images if they belong to the inputs, in columns.

    Args:
        model: one of the models.
        rows: real samples in the format of networks.
        samples: what each model generates from their inputs, by title.
        with_real: whether to show the real images.
    """
    spec, kind = model.spec, model.kind(model.output)
    columns = [(name, spec.fields[name], rows[name]) for name in pixel_conditions(model.output, spec)]
    columns += [(title, kind, values) for title, values in samples.items()]
    if with_real and model.output.field in rows:
        columns.append(("real", kind, rows[model.output.field]))
    cells = [_cells(kind, values) for _, kind, values in columns]
    return Sheet([*zip(*cells, strict=True)], [title for title, _, _ in columns])


def _in_rows(cells: Sequence[Cell], columns: int) -> list[Sequence[Cell]]:
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def _cells(kind: Field, samples: Tensor, marks: Sequence[Sequence[tuple[Field, Tensor]]] = ()) -> list[Cell]:
    """The cells of samples in the format of networks."""
    stored = kind.to_stored(samples).numpy()
    return [Cell(kind, sample, marks[i] if marks else ()) for i, sample in enumerate(stored)]


def _marks(spec: DataSpec, inputs: Mapping[str, Tensor]) -> list[list[tuple[Field, Tensor]]]:
    """The boxes and key points of each sample; empty if there are none."""
    kinds = {name: spec.fields[name] for name in inputs if isinstance(spec.fields[name], fields.Box | fields.Keypoints)}
    count = max((len(inputs[name]) for name in kinds), default=0)
    return [[(kind, inputs[name][i].cpu()) for name, kind in kinds.items()] for i in range(count)]


def _captions(spec: DataSpec, inputs: Mapping[str, Tensor]) -> list[str]:
    """The conditions of each sample that can be read: classes, attributes, captions."""
    count = max((len(value) for value in inputs.values()), default=0)
    parts: list[list[str]] = [[] for _ in range(count)]
    for name, value in inputs.items():
        kind = spec.fields[name]
        for words, row in zip(parts, value.tolist(), strict=True):
            if isinstance(kind, fields.Label):
                words.append(kind.names[row])
            elif isinstance(kind, fields.Attributes):
                words.append(", ".join(item for item, bit in zip(kind.names, row, strict=True) if bit))
            elif isinstance(kind, fields.Caption):
                words.append(kind.decode(row))
    return ["; ".join(filter(None, words)) for words in parts]


def reel(frames: Sequence[Path], captions: Sequence[str], out: Path, seconds: float = 6.0) -> str:
    """Writes an animation of images, each with a caption below; the last frame is shown longer.

    Args:
        frames: image files, all of the same size.
        captions: one line of text per frame.
        out: a .webp, .gif or .mp4 file.
        seconds: duration of the animation.

    Returns:
        How its size differs from that of the images, see `films.write`, and that it lasts longer than requested; empty if neither.

    Raises:
        LeafwingError: another file type, or PyAV, which .mp4 needs, is not installed.
    """
    films.require(out)
    with Image.open(frames[0]) as first:
        scale = max(1, round(256 / min(first.size)))
    images = (_captioned(path, text, scale) for path, text in zip(frames, captions, strict=True))
    step = max(MIN_STEP, round(1000 * seconds / len(frames)))
    changed = films.write(out, images, step, last=LAST_MS)
    return "; ".join(filter(None, (changed, films.longer(seconds, len(frames), MIN_STEP, LAST_MS))))


def _captioned(path: Path, text: str, scale: int) -> Image.Image:
    with Image.open(path) as frame:
        scaled = frame.convert("RGB").resize((frame.width * scale, frame.height * scale), Image.Resampling.NEAREST)
    sheet = Image.new("RGB", (scaled.width, scaled.height + 16), "white")
    sheet.paste(scaled)
    ImageDraw.Draw(sheet).text((4, scaled.height + 2), text, fill="black")
    return sheet
