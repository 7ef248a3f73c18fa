"""The page of closest pairs: samples next to their nearest training images, for visual inspection.

The statistics say how many samples are too close; whether those are copies has to be judged by eye. `memorisation` selects the
pairs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from leafwing.metrics.evidence import Evidence
from leafwing.metrics.memorisation import MemorisationReport, Pair
from leafwing.metrics.neighbours import BOX, SIDE
from leafwing.pictures import tile, to_image, to_pixels

IMAGE_SIDE = 96
"""The shorter side of an image on the page, in pixels."""
COLUMNS = 2
"""Pairs per row."""
_GAP, _LINE, _FONT_SIZE = 6, 16, 13


def page(evidence: Evidence, report: MemorisationReport) -> Image.Image:
    """The pairs of a report as one image with their numbers; see `draw`."""
    numbers, shown = evidence.sample_numbers(), {pair.sample for pair in report.pairs}
    gathered = _gather(evidence.fake_pictures(), {i for i, number in enumerate(numbers) if number in shown})
    samples = {numbers[i]: image for i, image in gathered.items()}
    training = _gather(evidence.train_pictures(), {number for pair in report.pairs for number in pair.training})
    return draw(report.words, report.pairs, samples, training)


def draw(
    heading: str, pairs: Iterable[Pair], samples: Mapping[int, Image.Image], training: Mapping[int, Image.Image]
) -> Image.Image:
    """A page: the heading, then for each pair the sample, the smoothed sample, and its nearest training images.

    The nearest one is mirrored if it matches as its mirror image. The smoothed sample shows what was compared.

    Args:
        heading: text at the top.
        pairs: in the order of the page.
        samples: by number, all of one size.
        training: by number, of the same size.
    """
    strips = [_strip(pair, _images(pair, samples, training)) for pair in pairs]
    if not strips:
        return _with_heading(heading, Image.new("RGB", (640, 1), "white"))
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % COLUMNS)
    return _with_heading(heading, tile(np.stack(strips), COLUMNS, gap=0))


def _strip(pair: Pair, images: list[Image.Image]) -> np.ndarray:
    """The images of a pair side by side, with a line of text above and below each: uint8 (height, width, 3)."""
    width, height = images[0].size
    strip = Image.new("RGB", (len(images) * (width + _GAP) + 3 * _GAP, height + 2 * _LINE + 3 * _GAP), "white")
    canvas = ImageDraw.Draw(strip)
    above = [f"sample {pair.sample}", "smoothed", *(f"no. {number}" for number in pair.training)]
    below = [f"ratio {pair.ratio:.2f}", f"{pair.percentile:.3g}%", *(f"{distance:.2f}" for distance in pair.distances)]
    if pair.mirrored:
        below[2] += ", mirrored"
    for column, (image, top, bottom) in enumerate(zip(images, above, below, strict=True)):
        x = 2 * _GAP + column * (width + _GAP) + (2 * _GAP if column > 1 else 0)
        canvas.text((x, 0), top, fill="black", font=_font())
        strip.paste(image, (x, _LINE))
        canvas.text((x, _LINE + height), bottom, fill="black", font=_font())
    return np.asarray(strip)


def _gather(chunks: Iterable[Tensor], numbers: set[int]) -> dict[int, Image.Image]:
    """The images with the given indices in a stream."""
    images, start = {}, 0
    for chunk in chunks:
        for number in numbers:
            if start <= number < start + len(chunk):
                images[number] = _image(chunk[number - start])
        start += len(chunk)
        if len(images) == len(numbers):
            break
    return images


def _image(values: Tensor) -> Image.Image:
    """(channels, height, width) in [-1, 1] as an RGB image, composited onto white."""
    (pixels,) = to_pixels(values[None])
    image = to_image(pixels)
    if len(values) in (2, 4):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def _images(pair: Pair, samples: Mapping[int, Image.Image], training: Mapping[int, Image.Image]) -> list[Image.Image]:
    """The images of a pair, resized for the page."""
    sample = samples[pair.sample]
    smoothed = sample.filter(ImageFilter.BoxBlur(BOX / 2 * max(sample.size) / SIDE))
    nearest = [training[number] for number in pair.training]
    if pair.mirrored:
        nearest[0] = nearest[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = IMAGE_SIDE / min(sample.size)
    size = round(sample.width * scale), round(sample.height * scale)
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return [image.resize(size, resampling) for image in (sample, smoothed, *nearest)]


def _with_heading(heading: str, sheet: Image.Image) -> Image.Image:
    """A sheet with the heading and an explanation of the numbers above it."""
    explanation = (
        "Each sample with its nearest training images and their distances (0 identical, 1.4 unrelated). Ratio: the first distance "
        "divided by the mean of the next ten. Percentage: reference images with a smaller ratio."
    )
    columns = max(40, sheet.width // 7)
    lines = [*textwrap.wrap(heading, columns), *textwrap.wrap(explanation, columns)]
    top = len(lines) * _LINE + 3 * _GAP
    result = Image.new("RGB", (sheet.width, sheet.height + top), "white")
    canvas = ImageDraw.Draw(result)
    for row, line in enumerate(lines):
        canvas.text((2 * _GAP, _GAP + row * _LINE), line, fill="black", font=_font())
    result.paste(sheet, (0, top))
    return result


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_FONT_SIZE)
