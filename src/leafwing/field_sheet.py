"""Contact sheets of samples with all of their fields: images, masks, boxes and clips are drawn, captions and labels written below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from leafwing import pictures
from leafwing.fields import Attributes, Box, Caption, Clip, Field, Image, Keypoints, Label, Mask, Segmentation, Vector
from leafwing.pixels import eight_bits

CELL, MAX_CELL = 96, 256
"""Small images are enlarged by an integer factor to about this many pixels per side, large ones are reduced to at most that many."""
MAX_WIDTH, MAX_HEIGHT, MAX_SAMPLES = 1_700, 2_400, 24
"""A sheet has this size at most, unless a single sample needs more, and this many samples."""
PER_ROW = 8
"""Number of cells in a row of one sample, and of frames of a clip that are drawn."""
GAP, MARGIN, LINE, MIN_TEXT_WIDTH = 4, 12, 15, 200
_OPACITY = 0.7  # of masks and segmentations that are drawn over an image

Item = TypeVar("Item")
Drawing = tuple[str, Pillow.Image]
"""A title and the drawing below it."""


def sheet(fields: Mapping[str, Field], samples: Mapping[str, np.ndarray]) -> Pillow.Image:
    """A sheet with one block per sample: a drawing of each field that can be drawn, and the others as text below.

    Args:
        fields: the fields by name; `image` is the one that boxes, key points, masks and segmentations belong to.
        samples: the stored samples of each field, (n, ...), as `leafwing.fields` describes; as many are drawn as fit.
    """
    blocks = [_block(fields, {name: values[i] for name, values in samples.items()}) for i in range(_count(samples))]
    width, height = (max(getattr(block, side) for block in blocks) for side in ("width", "height"))
    columns = min(len(blocks), max(1, (MAX_WIDTH - 2 * MARGIN) // (width + MARGIN)))
    rows = _in_rows(blocks, columns)[: max(1, MAX_HEIGHT // (height + MARGIN))]
    legend = _legend(fields, columns * (width + MARGIN))
    total_height = MARGIN + sum(max(block.height for block in row) + MARGIN for row in rows) + legend.height
    canvas = Pillow.new("RGB", (MARGIN + columns * (width + MARGIN), total_height), "white")
    top = MARGIN
    for row in rows:
        for i, block in enumerate(row):
            canvas.paste(block, (MARGIN + i * (width + MARGIN), top))
        top += max(block.height for block in row) + MARGIN
    canvas.paste(legend, (MARGIN, top))
    return canvas


def side_by_side(drawings: Sequence[Drawing]) -> Pillow.Image:
    """Several drawings beside each other, each with its title above."""
    width = sum(max(image.width, _text_width(title)) + MARGIN for title, image in drawings) + MARGIN
    height = max(image.height for _, image in drawings) + LINE + GAP + 2 * MARGIN
    canvas = Pillow.new("RGB", (width, height), "white")
    draw, left = ImageDraw.Draw(canvas), MARGIN
    for title, image in drawings:
        draw.text((left, MARGIN), title, "black", _font())
        canvas.paste(image, (left, MARGIN + LINE + GAP))
        left += max(image.width, _text_width(title)) + MARGIN
    return canvas


# --- one sample ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One sample: its fields, their stored values, and its image in RGB at the size of a cell."""

    fields: Mapping[str, Field]
    values: Mapping[str, np.ndarray]
    image: Pillow.Image


def _block(fields: Mapping[str, Field], values: Mapping[str, np.ndarray]) -> Pillow.Image:
    """One sample with all of its fields."""
    sample = Sample(fields, values, _enlarge(_rgb(values["image"])))
    drawings: list[Drawing] = []
    strips: list[list[Drawing]] = []
    marked = [name for name, field in fields.items() if isinstance(field, Box | Keypoints)]
    for name, field in fields.items():
        if isinstance(field, Clip):
            strips.append(_frames(name, values[name], sample.image.size))
        elif field.has_pixels:
            drawings.append((name, _draw(sample, name)))
    if marked:
        drawings.append((", ".join(marked), _mark(sample, marked)))
    rows = [*_in_rows(drawings, PER_ROW), *strips]
    step = sample.image.width + GAP
    width = max(MIN_TEXT_WIDTH, max(len(row) for row in rows) * step - GAP)
    texts = [
        line
        for name, field in fields.items()
        if (text := _text(field, values[name]))
        for line in _wrap(f"{name}: {text}", width)
    ]
    heights = [LINE + max(image.height for _, image in row) + GAP for row in rows]
    canvas = Pillow.new("RGB", (width, sum(heights) + LINE * len(texts)), "white")
    draw, top = ImageDraw.Draw(canvas), 0
    for row, height in zip(rows, heights, strict=True):
        for i, (title, image) in enumerate(row):
            draw.text((i * step, top), _shorten(title, step), "#666666", _font())
            canvas.paste(image, (i * step, top + LINE))
            draw.rectangle(
                (i * step, top + LINE, i * step + image.width - 1, top + LINE + image.height - 1), outline="#d8d8d8"
            )
        top += height
    for i, line in enumerate(texts):
        draw.text((0, top + i * LINE), line, "black", _font())
    return canvas


def _draw(sample: Sample, name: str) -> Pillow.Image:
    """An image; or a mask or a segmentation in colours, over the sample's image; in a segmentation that is grey."""
    field, stored, size = sample.fields[name], sample.values[name], sample.image.size
    if isinstance(field, Image):
        return sample.image if name == "image" else _fit(Pillow.fromarray(_rgb(stored)), size)
    classes = stored[:, :, 0] if isinstance(field, Mask) else stored
    colours = Pillow.fromarray(pictures.PALETTE[classes]).resize(size, Pillow.Resampling.NEAREST)
    opacity, image = np.full(classes.shape, round(255 * _OPACITY), np.uint8), sample.image
    if isinstance(field, Mask):
        opacity *= classes > 0
    else:
        image = image.convert("L").convert("RGB")  # so that its colours do not change those of the classes
    return Pillow.composite(colours, image, Pillow.fromarray(opacity).resize(size, Pillow.Resampling.NEAREST))


def _mark(sample: Sample, names: Sequence[str]) -> Pillow.Image:
    """The image with its boxes outlined and its visible key points as dots."""
    canvas = sample.image.copy()
    for name in names:
        pictures.mark(canvas, sample.fields[name], sample.values[name])
    return canvas


def _frames(name: str, clip: np.ndarray, size: tuple[int, int]) -> list[Drawing]:
    """The frames of a clip, evenly spaced if there are more than `PER_ROW`."""
    chosen = np.unique(np.linspace(0, len(clip) - 1, PER_ROW).round().astype(int))
    return [
        (f"{name} {index + 1}/{len(clip)}", _fit(Pillow.fromarray(_rgb(clip[index])), size)) for index in chosen.tolist()
    ]


def _text(field: Field, stored: Any) -> str:
    """A sample without pixels or place in the image, in words."""
    match field:
        case Label():
            return field.names[int(stored)]
        case Attributes():
            return ", ".join(name for name, value in zip(field.names, stored.tolist(), strict=True) if value) or "none"
        case Caption():
            captions = [row for row in np.atleast_2d(stored).tolist() if any(row)]
            more = f" (and {len(captions) - 1} more)" if len(captions) > 1 else ""
            return f"{field.decode(captions[0])}{more}" if captions else "none"
        case Vector():
            return ", ".join(f"{number:.3g}" for number in stored.tolist())
    return ""


# --- helpers ------------------------------------------------------------------------------------------------------------------


def _legend(fields: Mapping[str, Field], width: int) -> Pillow.Image:
    """The names of classes and key points with their colours."""
    entries: list[tuple[tuple[int, ...] | None, str]] = []
    for name, field in fields.items():
        if isinstance(field, Segmentation | Keypoints):
            start = 1 if isinstance(field, Keypoints) else 0
            entries.append((None, f"{name}:"))
            entries += [(tuple(pictures.PALETTE[index].tolist()), item) for index, item in enumerate(field.names, start)]
    places, left, top = [], 0, 0
    for mark, text in entries:
        across = _text_width(text) + (16 if mark else 0)
        if left and (left + across > width or mark is None):
            left, top = 0, top + LINE + GAP
        places.append((left, top))
        left += across + MARGIN
    canvas = Pillow.new("RGB", (width, top + LINE + MARGIN if entries else 1), "white")
    draw = ImageDraw.Draw(canvas)
    for (mark, text), (left, top) in zip(entries, places, strict=True):
        if mark:
            draw.rectangle((left, top + 2, left + 11, top + 13), fill=mark)
        draw.text((left + (16 if mark else 0), top), text, "black", _font())
    return canvas


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """An image (height, width, 1 to 4 channels) as RGB; transparent parts are composited on white."""
    image = pictures.to_image(eight_bits(pixels)).convert("RGBA")
    return np.asarray(Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image).convert("RGB"))


def _enlarge(pixels: np.ndarray) -> Pillow.Image:
    """An RGB image at the size of a cell."""
    image = Pillow.fromarray(pictures.enlarge(pixels, max(1, round(CELL / min(pixels.shape[:2]))), 0))
    scale = min(1, MAX_CELL / max(image.size))
    return image if scale == 1 else _fit(image, (max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _fit(image: Pillow.Image, size: tuple[int, int]) -> Pillow.Image:
    """An image resized to fit into a size; enlarged pixels stay visible."""
    scale = min(size[0] / image.width, size[1] / image.height)
    method = Pillow.Resampling.NEAREST if scale >= 1 else Pillow.Resampling.BOX
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), method)


def _in_rows(items: Sequence[Item], columns: int) -> list[Sequence[Item]]:
    return [items[start : start + columns] for start in range(0, len(items), columns)]


def _count(samples: Mapping[str, np.ndarray]) -> int:
    return min(MAX_SAMPLES, *(len(values) for values in samples.values()))


def _wrap(text: str, width: int) -> list[str]:
    """Text in lines of at most a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines, word] if lines[-1] and _text_width(longer) > width else [*lines[:-1], longer]
    return lines


def _shorten(text: str, width: int) -> str:
    while text and _text_width(text) > width - 2:
        text = text[:-1]
    return text


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)


def _text_width(text: str) -> int:
    return round(_font().getlength(text)) if text else 0
