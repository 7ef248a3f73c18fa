"""Sheets: rows of pictures with title, column heads, row names and a legend; charts and animations."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.pictures import to_pixels

CELL = 72
"""Small pictures are enlarged by an integer factor to about this many pixels per side."""
MOST = 4_000
"""Maximum side of a sheet in pixels up to which pictures are enlarged."""
TITLE, TEXT, GAP, MARGIN = 17, 13, 4, 12
FRAME = "#d8d8d8"
"""Frame around each picture, so that white ones are visible."""

Line = tuple[Sequence[float], Sequence[float]] | tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
"""x and y, and optionally lower and upper bounds of y."""


def sheet(
    title: str, rows: Sequence[tuple[str, Tensor | np.ndarray]], *, heads: Sequence[str] = (), legend: str = ""
) -> Image.Image:
    """A sheet with rows of pictures.

    Args:
        title: the title.
        rows: name and pictures of each row: floats (n, channels, height, width) in [-1, 1], or uint8
            (n, height, width, channels). Rows may be of different lengths.
        heads: column heads.
        legend: legend below, wrapped as needed.
    """
    drawn = [(name, [_opaque(one) for one in (to_pixels(row) if isinstance(row, Tensor) else row)]) for name, row in rows]
    widest = max(len(row) for _, row in drawn)
    height, width = next(row[0].shape[:2] for _, row in drawn if row)
    scale = max(1, round(CELL / max(height, width)))
    while scale > 1 and scale * max(widest * width, len(rows) * height) > MOST:
        scale -= 1
    across, down = scale * width + GAP, scale * height + GAP
    beside = max((_long(name) for name, _ in rows), default=0)
    left, top = (
        MARGIN + beside + (GAP * 2 if beside else 0),
        MARGIN + (TITLE + 10 if title else 0) + (TEXT + 8 if heads else 0),
    )
    wide = max(left + widest * across + MARGIN, _long(title, TITLE) + 2 * MARGIN, 360 if title else 0)
    below = [line for part in legend.splitlines() for line in textwrap.wrap(part, max(20, int((wide - 2 * MARGIN) / 6.6)))]
    made = Image.new("RGB", (wide, top + len(rows) * down + (8 + len(below) * (TEXT + 5) if below else 0) + MARGIN), "white")
    draw = ImageDraw.Draw(made)
    draw.text((MARGIN, MARGIN), title, "black", _font(TITLE))
    for i, head in enumerate(heads):
        draw.text((left + (i + 0.5) * across - GAP / 2, top - 6), _fits(head, across), "#444444", _font(TEXT), anchor="ms")
    for i, (name, row) in enumerate(drawn):
        draw.text((left - GAP * 2, top + (i + 0.5) * down - GAP / 2), name, "#444444", _font(TEXT), anchor="rm")
        for j, pixels in enumerate(row):
            one = Image.fromarray(pixels)
            grown = one.resize((one.width * scale, one.height * scale), Image.Resampling.NEAREST)
            corner = left + j * across, top + i * down
            draw.rectangle((corner[0] - 1, corner[1] - 1, corner[0] + grown.width, corner[1] + grown.height), outline=FRAME)
            made.paste(grown, corner)
    for i, line in enumerate(below):
        draw.text((MARGIN, top + len(rows) * down + 8 + i * (TEXT + 5)), line, "#444444", _font(TEXT))
    return made


def film(frames: Sequence[Tensor]) -> list[Image.Image]:
    """Frames of an animation, each a row of pictures (n, channels, height, width) in [-1, 1]."""
    return [sheet("", [("", frame)]) for frame in frames]


def chart(
    title: str,
    lines: Mapping[str, Line],
    *,
    across: str,
    up: str,
    ticks: Mapping[float, str] | None = None,
    logarithmic: bool = False,
) -> Image.Image:
    """A line chart, with bands where bounds are given.

    Args:
        title: the title.
        lines: lines by name.
        across: label of the x axis, with its unit.
        up: label of the y axis.
        ticks: tick labels by position on the x axis.
        logarithmic: whether the x axis is logarithmic.

    Raises:
        LeafwingError: matplotlib is not installed.
    """
    need_charts()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, (x, y, *band) in lines.items():
        (drawn,) = axes.plot(list(x), list(y), marker="o", markersize=3, label=name)
        if band:
            axes.fill_between(list(x), list(band[0]), list(band[1]), color=drawn.get_color(), alpha=0.15, linewidth=0)
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    if logarithmic:
        axes.set_xscale("log")
    if ticks is not None:
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()  # a logarithmic axis adds its own labels
    if len(lines) > 1:
        axes.legend()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return Image.open(buffer).convert("RGB")


def need_charts() -> None:
    """Raises LeafwingError if matplotlib is missing; called before the computation, not after it."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise LeafwingError("this tool requires matplotlib for charts: pip install 'leafwing[explore]'") from None


def webp(frames: Sequence[Image.Image], seconds: float = 4.0) -> bytes:
    """A looping animation, encoded as WebP."""
    buffer = io.BytesIO()
    step = max(20, round(1000 * seconds / len(frames)))
    frames[0].save(buffer, "WEBP", save_all=True, append_images=list(frames[1:]), duration=step, loop=0, quality=85)
    return buffer.getvalue()


def _opaque(pixels: np.ndarray) -> np.ndarray:
    """A picture with 1 to 4 channels as RGB, composited onto white: uint8 (height, width, 3)."""
    colours, alpha = (pixels[..., :-1], pixels[..., -1:] / 255) if pixels.shape[-1] in (2, 4) else (pixels, None)
    shown = np.repeat(colours, 3, axis=2) if colours.shape[-1] == 1 else colours
    return shown if alpha is None else np.round(shown * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _long(text: str, size: int = TEXT) -> int:
    return round(_font(size).getlength(text)) if text else 0


def _fits(text: str, width: int) -> str:
    """Text truncated to a width."""
    while text and _long(text) > width - 2:
        text = text[:-1]
    return text
