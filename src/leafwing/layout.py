"""Images in rows and columns on a light sheet, with text: above columns, beside rows, below cells and rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import ceil

from PIL import Image, ImageDraw, ImageFont

from leafwing.errors import LeafwingError

Colour = str | tuple[int, int, int]
PAPER, INK = (232, 232, 232), (40, 40, 40)
"""The colours of a sheet and of its text. Cells that are white, black or transparent differ from the sheet."""
GAP, LINE, FONT = 4, 18, 14
"""Pixels between images, of a line of text, and the size of the font."""
MAX_LINES = 3
"""Number of lines of a text that is wrapped."""
MIN_TEXT, MAX_NAME = 72, 180
"""Columns of smaller images are as wide as the texts in them, but no wider than this; names of rows are cut off at the other."""
CELL, MAX_SIDE = 128, 4_096
"""Small images are enlarged by the largest whole factor that keeps them, and the sheet, within these sides, in pixels."""
MAX_PIXELS = 150_000_000
"""Size of the largest sheet: image viewers and Pillow refuse larger ones."""


def enlargement(width: int, height: int, columns: int = 1, rows: int = 1) -> int:
    """The default factor of enlargement on a sheet: the largest with which images fit into `CELL`, and the sheet into `MAX_SIDE`.

    Args:
        width, height: of an image, in pixels.
        columns, rows: of the sheet.
    """
    return max(1, min(CELL // max(width, height), MAX_SIDE // (columns * width), MAX_SIDE // (rows * height)))


def check_sheet(width: int, height: int, columns: int, rows: int, scale: int) -> None:
    """Raises LeafwingError if a sheet of enlarged images would be too large to be opened."""
    across, down = columns * (width * scale + GAP), rows * (height * scale + GAP)
    if across * down > MAX_PIXELS:
        raise LeafwingError(
            f"a grid of {across:,}x{down:,} pixels could not be opened: choose fewer samples"
            + (f", a smaller --scale than {scale}" if scale > 1 else "")
            + ", or --folder for single files"
        )


def arrange(
    rows: Sequence[Sequence[Image.Image]],
    *,
    titles: Sequence[str] = (),
    names: Sequence[str] = (),
    texts: Sequence[Sequence[str]] = (),
    captions: Sequence[str] = (),
    gap: int = GAP,
) -> Image.Image:
    """A sheet with rows of images, in RGB.

    Args:
        rows: the images; rows may be of different lengths. Transparent parts are on white.
        titles: above the columns.
        names: beside the rows, at the left.
        texts: below each image, wrapped.
        captions: below the rows, wrapped.
        gap: pixels between images.
    """
    count = max(len(row) for row in rows)
    titles = [*titles, *[""] * (count - len(titles))]
    texts = texts or [[""] * len(row) for row in rows]
    images = [[flat(image) for image in row] for row in rows]
    widths = [
        max(
            *(row[i].width for row in images if i < len(row)),
            ceil(text_width(titles[i])),
            min(MIN_TEXT, ceil(max(text_width(row[i]) for row in texts if i < len(row)))),
        )
        for i in range(count)
    ]
    side = ceil(min(MAX_NAME, max(map(text_width, names), default=0)))
    left = gap + (side + 2 * GAP if side else 0)
    lefts = [left + sum(widths[:i]) + gap * i for i in range(count)]
    width = left + sum(widths) + gap * count
    lines = [[wrap(text, widths[i]) for i, text in enumerate(row)] for row in texts]
    below = [wrap(text, width - 2 * gap) for text in captions] or [[] for _ in rows]
    heights = [max(image.height for image in row) for row in images]
    spaces = [LINE * max(map(len, row)) for row in lines]
    ends = [LINE * len(text) + (2 * GAP if text else 0) for text in below]
    top = gap + (LINE if any(titles) else 0)
    sheet = Image.new("RGB", (width, top + sum(heights) + sum(spaces) + sum(ends) + gap * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for x, title in zip(lefts, titles, strict=True):
        draw.text((x, gap - 1), title, INK, font())
    for i, row in enumerate(images):
        if names:
            draw.text((left - 2 * GAP, top + heights[i] / 2), shorten(names[i], MAX_NAME), INK, font(), anchor="rm")
        for j, image in enumerate(row):
            sheet.paste(image, (lefts[j], top))
            write_lines(draw, (lefts[j], top + image.height), lines[i][j])
        top += heights[i] + spaces[i]
        write_lines(draw, (gap, top + 1), below[i])
        top += ends[i] + gap
    return sheet


def flat(image: Image.Image) -> Image.Image:
    """An image in RGB, transparent parts on white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def fit(image: Image.Image, width: int, height: int, is_smooth: bool = False) -> Image.Image:
    """An image in the largest size that fits: enlarged by a whole factor, pixel by pixel, then reduced to the exact size; or smoothly.

    The shorter side is rounded to an even number, as films need it, unless the factor is exact.
    """
    ratio = min(width / image.width, height / image.height)
    factor = max(1, ceil(ratio))
    across, down = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
    if ratio != factor:
        across = across if across >= down else max(2, 2 * round(across / 2))
        down = down if down >= across else max(2, 2 * round(down / 2))
    size = (across, down)
    if is_smooth:
        return image.resize(size, Image.Resampling.LANCZOS)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image if image.size == size else image.resize(size, Image.Resampling.BOX)


def text_image(text: str, width: int | None = None, colour: Colour = INK) -> Image.Image:
    """Text on a sheet of its own, wrapped to at most `width` pixels (None: in one line)."""
    lines = wrap(text, width) if width else [text]
    across = width or 4 + ceil(max(map(text_width, lines)))
    image = Image.new("RGB", (across, LINE * max(1, len(lines))), PAPER)
    write_lines(ImageDraw.Draw(image), (0, 0), lines, colour)
    return image


def wrap(text: str, width: float) -> list[str]:
    """Text in at most `MAX_LINES` lines of at most a width in pixels; a longer text or word is cut off."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], f"{lines[MAX_LINES - 1]} ..."]
    return [shorten(line, width) for line in lines]


def shorten(text: str, width: float) -> str:
    """Text that is cut off at a width in pixels."""
    if text_width(text) <= width:
        return text
    text = text.removesuffix(" ...")
    while text and text_width(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..." if text else ""


def write_lines(draw: ImageDraw.ImageDraw, place: tuple[float, float], lines: Sequence[str], colour: Colour = INK) -> None:
    """Writes lines of text below each other, from a place (left, top)."""
    for i, line in enumerate(lines):
        draw.text((place[0], place[1] + i * LINE), line, colour, font())


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font."""
    return ImageFont.load_default(FONT)


def text_width(text: str) -> float:
    """The width of a line of text in pixels."""
    return font().getlength(text) if text else 0.0
