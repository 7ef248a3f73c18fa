"""The contact sheet of `prepare`: pictures with their landmarks and the place of the crop, each beside its crop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from leafwing.data import align
from leafwing.data.pictures import UnusableImageError, opened
from leafwing.layout import INK, LINE, PAPER, text_image
from leafwing.pictures import PALETTE, png

if TYPE_CHECKING:
    from leafwing.commands.cropping import Outcome

CELL, GAP, CAPTION, COLUMNS = 160, 6, 3 * LINE + 4, 4
"""Side of a picture and of a crop, distance, height of the text, and pairs in a row."""
MOST_USED, MOST_REJECTED = 24, 12
"""Numbers of crops and of rejected pictures on a sheet."""


def draw(outcomes: Sequence[Outcome], read: Callable[[Set[str]], Mapping[str, bytes]], folder: Path) -> bytes:
    """The sheet as PNG: some crops, evenly from all, and then some rejected pictures, of each rule in turn.

    Args:
        outcomes: all crops, written or not.
        read: the bytes of pictures by their names, without what cannot be read.
        folder: with the files of the crops.
    """
    used = [outcome for outcome in outcomes if outcome.file]
    step = max(1, ceil(len(used) / MOST_USED))
    chosen = [
        *used[::step],
        *_choose_rejected([outcome for outcome in outcomes if outcome.rule and outcome.rule != "picture"]),
    ]
    files = read({outcome.source for outcome in chosen})
    across, down = 2 * CELL + 3 * GAP, CELL + CAPTION + GAP
    sheet = Image.new("RGB", (min(COLUMNS, len(chosen)) * across, ceil(len(chosen) / COLUMNS) * down), PAPER)
    for number, outcome in enumerate(chosen):
        left, top = number % COLUMNS * across + GAP, number // COLUMNS * down + GAP
        sheet.paste(_picture(outcome, files.get(outcome.source, b"")), (left, top))
        if outcome.file:
            sheet.paste(_crop(outcome, folder), (left + CELL + GAP, top))
        text = f"{outcome.source}: {outcome.reason}" if outcome.rule else outcome.file
        colour = "#a01010" if outcome.rule else INK
        sheet.paste(text_image(text, 2 * CELL + GAP, colour), (left, top + CELL + 2))
    return png(sheet)


def _choose_rejected(rejected: Sequence[Outcome]) -> list[Outcome]:
    """The first of each rule, then the second ones, and so on."""
    ranks: dict[str, int] = {}
    order: list[tuple[int, int, Outcome]] = []
    for outcome in rejected:
        ranks[outcome.rule] = ranks.get(outcome.rule, 0) + 1
        order.append((ranks[outcome.rule], len(order), outcome))
    return [outcome for *_, outcome in sorted(order, key=lambda item: item[:2])][:MOST_REJECTED]


def _picture(outcome: Outcome, data: bytes) -> Image.Image:
    """A picture with the outline of its crop and its landmarks, fitted into a cell."""
    cell = Image.new("RGB", (CELL, CELL), "#d0d0d0")
    try:
        with opened(data) as image:
            picture = _visible(align.plain(image))
    except (UnusableImageError, OSError):  # one that is listed without a reason to read it
        return cell
    size = np.array(picture.size)
    picture.thumbnail((CELL, CELL))
    corner = (CELL - np.array(picture.size)) // 2
    cell.paste(picture, tuple(corner.tolist()))
    scale = picture.size / size
    pen = ImageDraw.Draw(cell)
    if outcome.crop is not None:
        corners = [tuple(point) for point in (outcome.crop.corners * scale + corner).tolist()]
        pen.polygon(corners, outline="#ffdd00")
    _mark(pen, outcome.points * scale + corner)
    return cell


def _crop(outcome: Outcome, folder: Path) -> Image.Image:
    """A crop with its landmarks, in the size of a cell."""
    with Image.open(folder / outcome.file) as image:
        crop = _visible(align.plain(image))
    assert outcome.crop is not None
    scale = CELL / crop.width
    enlarged = crop.resize((CELL, CELL), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    _mark(ImageDraw.Draw(enlarged), outcome.crop.place(outcome.points) * scale)
    return enlarged


def _visible(image: Image.Image) -> Image.Image:
    """An image from `align.plain` in 8-bit colours."""
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("LA", "RGBA"):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def _mark(pen: ImageDraw.ImageDraw, points: np.ndarray) -> None:
    """Draws points that are not missing as small dots, each in a colour of its own."""
    for number, (x, y) in enumerate(points.tolist(), 1):
        if np.isfinite((x, y)).all():
            pen.circle((x, y), 2, fill=tuple(PALETTE[number % 256].tolist()), outline="white")
