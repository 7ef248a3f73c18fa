"""Sheets: rows of images with title, column heads, row names and a legend; charts and animations."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from leafwing import optional
from leafwing.errors import InvalidOption
from leafwing.films import Kind, longer
from leafwing.game import DataSpec
from leafwing.layout import MAX_PIXELS
from leafwing.pictures import to_pixels
from leafwing.pixels import eight_bits

CELL = 72
"""Small images are enlarged by an integer factor to about this many pixels per side."""
MAX_SIDE = 4_000
"""Maximum side of a grid in pixels up to which images are enlarged."""
MIN_STEP = 20
"""How long a frame of an animation is shown at least, in milliseconds: browsers show no more than 50 a second."""
TITLE, TEXT, GAP, MARGIN = 17, 13, 4, 12
FRAME = "#d8d8d8"
"""Frame around each image, so that white ones are visible."""

Line = tuple[Sequence[float], Sequence[float]] | tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
"""x and y, and optionally lower and upper bounds of y."""


def sheet(
    title: str, rows: Sequence[tuple[str, Tensor | np.ndarray]], *, heads: Sequence[str] = (), legend: str = ""
) -> Image.Image:
    """An image grid with rows of images.

    Args:
        title: the title.
        rows: name and images of each row: floats (n, channels, height, width) in [-1, 1], or uint8 or uint16
            (n, height, width, channels). Rows may be of different lengths.
        heads: column heads.
        legend: legend below, wrapped as needed.
    """
    cells = [
        (name, [_opaque(pixels) for pixels in (to_pixels(row) if isinstance(row, Tensor) else eight_bits(row))])
        for name, row in rows
    ]
    columns = max(len(row) for _, row in cells)
    height, width = next(row[0].shape[:2] for _, row in cells if row)
    scale = _scale(height, width, len(rows), columns)
    step_x, step_y = scale * width + GAP, scale * height + GAP
    names_width = max((_text_width(name) for name, _ in rows), default=0)
    left, top = (
        MARGIN + names_width + (GAP * 2 if names_width else 0),
        MARGIN + (TITLE + 10 if title else 0) + (TEXT + 8 if heads else 0),
    )
    total_width = max(left + columns * step_x + MARGIN, _text_width(title, TITLE) + 2 * MARGIN, 360 if title else 0)
    line_length = max(20, int((total_width - 2 * MARGIN) / 6.6))
    lines = [line for part in legend.splitlines() for line in textwrap.wrap(part, line_length)]
    total_height = top + len(rows) * step_y + (8 + len(lines) * (TEXT + 5) if lines else 0) + MARGIN
    canvas = Image.new("RGB", (total_width, total_height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN), title, "black", _font(TITLE))
    for i, head in enumerate(heads):
        draw.text(
            (left + (i + 0.5) * step_x - GAP / 2, top - 6), _shorten(head, step_x), "#444444", _font(TEXT), anchor="ms"
        )
    for i, (name, row) in enumerate(cells):
        draw.text((left - GAP * 2, top + (i + 0.5) * step_y - GAP / 2), name, "#444444", _font(TEXT), anchor="rm")
        for j, pixels in enumerate(row):
            image = Image.fromarray(pixels)
            image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
            x, y = left + j * step_x, top + i * step_y
            draw.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=FRAME)
            canvas.paste(image, (x, y))
    for i, line in enumerate(lines):
        draw.text((MARGIN, top + len(rows) * step_y + 8 + i * (TEXT + 5)), line, "#444444", _font(TEXT))
    return canvas


@dataclass(frozen=True)
class Animation:
    """A looping animation.

    Args:
        frames: the image of each frame, uint8 (height, width, channels).
        seconds: its duration.
        kind: its file type.
    """

    frames: Sequence[np.ndarray]
    seconds: float = 4.0
    kind: Kind = "webp"

    def __iter__(self) -> Iterator[Image.Image]:
        return (sheet("", [("", frame[None])]) for frame in self.frames)

    @property
    def step(self) -> int:
        """How long each frame is shown, in milliseconds."""
        return max(MIN_STEP, round(1000 * self.seconds / len(self.frames)))

    @property
    def note(self) -> str:
        """That it lasts longer than `seconds`; empty if it does not."""
        return longer(self.seconds, len(self.frames), MIN_STEP)


def require_size(spec: DataSpec, rows: int, columns: int, /, **option: object) -> None:
    """Raises LeafwingError, naming an option, if a sheet of so many images could not be opened; see `layout.MAX_PIXELS`."""
    scale = _scale(spec.height, spec.width, rows, columns)
    across, down = columns * (scale * spec.width + GAP), rows * (scale * spec.height + GAP)
    for name, value in option.items():
        if across * down > MAX_PIXELS:
            raise InvalidOption(name, value, f"a sheet of {across:,}x{down:,} pixels could not be opened: choose fewer")


def _scale(height: int, width: int, rows: int, columns: int) -> int:
    """The factor by which images of a sheet are enlarged."""
    scale = max(1, round(CELL / max(height, width)))
    while scale > 1 and scale * max(columns * width, rows * height) > MAX_SIDE:
        scale -= 1
    return scale


def chart(
    title: str,
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    ticks: Mapping[float, str] | None = None,
    logarithmic: bool = False,
) -> Image.Image:
    """A line chart, with bands where bounds are given.

    Args:
        title: the title.
        lines: lines by name.
        x_label: label of the x axis, with its unit.
        y_label: label of the y axis.
        ticks: tick labels by position on the x axis.
        logarithmic: whether the x axis is logarithmic.

    Raises:
        LeafwingError: matplotlib is not installed.
    """
    require_charts()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, (x, y, *band) in lines.items():
        (curve,) = axes.plot(list(x), list(y), marker="o", markersize=3, label=name)
        if band:
            axes.fill_between(list(x), list(band[0]), list(band[1]), color=curve.get_color(), alpha=0.15, linewidth=0)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
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


def require_charts() -> None:
    """Raises LeafwingError if matplotlib is not installed; called before the computation, not after it."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise optional.not_installed("matplotlib") from None


def _opaque(pixels: np.ndarray) -> np.ndarray:
    """An image with 1 to 4 channels as RGB, composited onto white: uint8 (height, width, 3)."""
    colours, alpha = (pixels[..., :-1], pixels[..., -1:] / 255) if pixels.shape[-1] in (2, 4) else (pixels, None)
    rgb = np.repeat(colours, 3, axis=2) if colours.shape[-1] == 1 else colours
    return rgb if alpha is None else np.round(rgb * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text_width(text: str, size: int = TEXT) -> int:
    return round(_font(size).getlength(text)) if text else 0


def _shorten(text: str, width: int) -> str:
    """Text that is cut off at a width in pixels."""
    if _text_width(text) <= width - 2:
        return text
    while text and _text_width(f"{text}...") > width - 2:
        text = text[:-1]
    return f"{text}..." if text else ""
