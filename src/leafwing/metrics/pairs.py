"""The page of closest pairs: samples beside their nearest training pictures, for visual inspection.

The statistics say how many samples are too close; whether they are copies must be seen. `memorisation` selects the pairs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from leafwing.metrics.evidence import Evidence
from leafwing.metrics.memorisation import Pair, Report
from leafwing.metrics.neighbours import BOX, SIDE

SHOWN = 96
"""The shorter side of a picture on the page, in pixels."""
ACROSS = 2
"""Pairs per row."""
_GAP, _LINE, _TEXT = 6, 16, 13


def page(evidence: Evidence, report: Report) -> Image.Image:
    """The pairs of a report as one picture with their numbers; see `draw`."""
    samples = _gather(evidence.fake_pictures(), {pair.sample for pair in report.pairs})
    training = _gather(evidence.train_pictures(), {one for pair in report.pairs for one in pair.training})
    return draw(report.words, report.pairs, samples, training)


def draw(
    words: str, pairs: Iterable[Pair], samples: Mapping[int, Image.Image], training: Mapping[int, Image.Image]
) -> Image.Image:
    """A page: the words, then for each pair the sample, the smoothed sample, and its nearest training pictures.

    The nearest one is shown mirrored if it matches as its mirror image; the smoothed sample shows what was actually compared.

    Args:
        words: heading text.
        pairs: in the order of the page.
        samples: by number, of one size.
        training: by number, of the same size.
    """
    shown = [(pair, _tiles(pair, samples, training)) for pair in pairs]
    if not shown:
        return _with_title(words, Image.new("RGB", (640, 1), "white"))
    tiles = shown[0][1]
    tile_width, tile_height = tiles[0].size
    wide = len(tiles) * (tile_width + _GAP) + 3 * _GAP
    high = tile_height + 2 * _LINE + 3 * _GAP
    sheet = Image.new("RGB", (ACROSS * wide, -(-len(shown) // ACROSS) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (pair, tiles) in enumerate(shown):
        left, top = place % ACROSS * wide + 2 * _GAP, place // ACROSS * high
        above = ["sample " + str(pair.sample), "smoothed", *(f"no. {one}" for one in pair.training)]
        distances = [f"{one:.2f}" for one in pair.distances]
        below = [f"ratio {pair.ratio:.2f}", f"{pair.percentile:.3g} %", *distances]
        if pair.mirrored:
            below[2] += ", mirrored"
        for column, (tile, first, second) in enumerate(zip(tiles, above, below, strict=True)):
            x = left + column * (tile_width + _GAP) + (2 * _GAP if column > 1 else 0)
            pen.text((x, top), first, fill="black", font=_font())
            sheet.paste(tile, (x, top + _LINE))
            pen.text((x, top + _LINE + tile_height), second, fill="black", font=_font())
    return _with_title(words, sheet)


def _gather(chunks: Iterable[Tensor], wanted: set[int]) -> dict[int, Image.Image]:
    """The pictures with the given indices in a stream."""
    found, start = {}, 0
    for chunk in chunks:
        for number in wanted:
            if start <= number < start + len(chunk):
                found[number] = _image(chunk[number - start])
        start += len(chunk)
        if len(found) == len(wanted):
            break
    return found


def _image(picture: Tensor) -> Image.Image:
    """(channels, height, width) in [-1, 1] as an RGB picture, composited onto white."""
    pixels = picture.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    channels = pixels.shape[2]
    image = Image.fromarray(np.ascontiguousarray(pixels if channels > 1 else pixels[:, :, 0]))
    if channels in (2, 4):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def _tiles(pair: Pair, samples: Mapping[int, Image.Image], training: Mapping[int, Image.Image]) -> list[Image.Image]:
    """The pictures of a pair, resized for the page."""
    sample = samples[pair.sample]
    smoothed = sample.filter(ImageFilter.BoxBlur(BOX / 2 * max(sample.size) / SIDE))
    nearest = [training[one] for one in pair.training]
    if pair.mirrored:
        nearest[0] = nearest[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = SHOWN / min(sample.size)
    size = round(sample.width * scale), round(sample.height * scale)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return [one.resize(size, how) for one in (sample, smoothed, *nearest)]


def _with_title(words: str, sheet: Image.Image) -> Image.Image:
    """A sheet with the words and an explanation of the numbers above it."""
    explained = (
        "Each sample with its nearest training pictures and their distances (0 identical, 1.4 unrelated). Ratio: the first distance "
        "divided by the mean of the next ten. Percentage: new pictures with a ratio as small as this."
    )
    columns = max(40, sheet.width // 7)
    lines = [*textwrap.wrap(words, columns), *textwrap.wrap(explained, columns)]
    title = len(lines) * _LINE + 3 * _GAP
    whole = Image.new("RGB", (sheet.width, sheet.height + title), "white")
    pen = ImageDraw.Draw(whole)
    for row, line in enumerate(lines):
        pen.text((2 * _GAP, _GAP + row * _LINE), line, fill="black", font=_font())
    whole.paste(sheet, (0, title))
    return whole


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_TEXT)
