"""Draws the loss curves of docs/guide/health.md from short trainings on built-in data, a few minutes on one thread.

    python docs/losses.py            # all
    python docs/losses.py d_at_zero  # one

The results are SVG files in docs/guide/losses, with the colours of the reader's light or dark mode.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import leafwing
from leafwing import health
from leafwing.metrics import curves

FOLDER = Path(__file__).parent / "guide" / "losses"
LINES = 80
"""Lines of the log of each training, which are the points of a curve."""
LEGEND, WIDTH = 26, curves.WIDTH + 8
"""Height of the line above the axes that names the curves; width, with room for the last label of the axis."""
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a }
.paper { fill: #fff } .grid { stroke: #dcdcd6 }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.c0 { stroke: #2f6fc1 } .c1 { stroke: #c2611a } text.c0 { fill: #2f6fc1; stroke: none } text.c1 { fill: #c2611a; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #9a9fa8 } .paper { fill: #0d1117 } .grid { stroke: #363a41 }
.c0 { stroke: #6aa5f0 } .c1 { stroke: #ef9a5a } text.c0 { fill: #6aa5f0 } text.c1 { fill: #ef9a5a }
}"""


@dataclass(frozen=True)
class Training:
    """A training whose losses are drawn.

    Args:
        title: what is drawn, for screen readers.
        source, recipe, images: data set, recipe and length.
        options: further settings of the training and hyper-parameters of the recipe.
    """

    title: str
    source: str
    recipe: str
    images: int
    options: Mapping[str, Any]


SMALL = {"size": 16, "width": 16, "batch": 64}
TRAININGS = {
    "even": Training("An even game: dcgan on digits", "digits", "dcgan", 40_000, SMALL),
    "d_at_zero": Training(
        "D has won: dcgan on digits, D's learning rate too high and G's too low",
        "digits",
        "dcgan",
        25_000,
        SMALL | {"lr_g": 2e-5, "lr_d": 2e-3},
    ),
    "negative": Training(
        "Negative losses: wgan_gp on digits", "digits", "wgan_gp", 30_000, SMALL | {"lr_g": 3e-4, "lr_d": 3e-4}
    ),
    "oscillation": Training(
        "Oscillation: lsgan on the ring",
        "ring",
        "lsgan",
        100_000,
        {"width": 64, "batch": 256, "latent": 100, "lr_g": 1e-4, "lr_d": 1e-4},
    ),
}


def losses(training: Training, folder: Path) -> list[curves.Line]:
    """Trains in `folder`; the adversarial losses of D and G over images."""
    run = leafwing.train(
        training.source,
        training.recipe,
        images=training.images,
        log_every=training.images // LINES,
        seed=0,
        threads=1,
        device="cpu",
        out=folder / "run",
        **training.options,
    )
    records = run.records()
    print(f"{training.title}: {'; '.join(map(str, health.alarms(records))) or 'no alarms'}", flush=True)

    def points(name: str) -> list[tuple[float, float]]:
        return [(record["images"], record["losses"][name]) for record in records if name in record["losses"]]

    return [curves.Line(f"{player}/adversarial", i, points(f"{player}/adversarial")) for i, player in enumerate("DG")]


def svg(title: str, lines: Sequence[curves.Line]) -> str:
    """Curves with axes and a legend as an SVG picture of its own."""
    plot, right, bottom = curves.plot(lines, title, "images"), curves.WIDTH - curves.RIGHT, curves.HEIGHT - curves.BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-LEGEND} {WIDTH} {curves.HEIGHT + LEGEND}" role="img">',
        f"<title>{escape(plot.title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" y="{-LEGEND}" width="{WIDTH}" height="{curves.HEIGHT + LEGEND}"/>',
    ]
    for tick in plot.y_ticks:
        parts.append(f'<line class="grid" x1="{curves.LEFT}" x2="{right}" y1="{tick.at}" y2="{tick.at}"/>')
        parts.append(f'<text x="{curves.LEFT - 7}" y="{tick.at + 4:g}" text-anchor="end">{tick.label}</text>')
    for tick in plot.x_ticks:
        parts.append(f'<text x="{tick.at}" y="{bottom + 18}" text-anchor="middle">{tick.label}</text>')
    parts.append(f'<text x="{right}" y="{curves.HEIGHT - 5}" text-anchor="end">{plot.x_label}</text>')
    for line in plot.lines:
        points = " ".join(f"{x:g},{y:g}" for x, y in line.points)
        parts.append(f'<polyline class="c{line.colour}" points="{points}"/>')
        parts.append(
            f'<text class="c{line.colour}" x="{curves.LEFT + 110 * line.colour}" y="-6">{escape(line.label)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or TRAININGS:
        training = TRAININGS[name]
        with tempfile.TemporaryDirectory() as folder:
            lines = losses(training, Path(folder))
        (FOLDER / f"{name}.svg").write_text(svg(training.title, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
