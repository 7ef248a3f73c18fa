"""Editing by strokes: paint roughly, get samples that have it. Zhu et al. 2016, Generative Visual Manipulation on the Natural Image
Manifold, arXiv:1609.03552, 4.1.

The paper: what is painted constrains colours and edges; the latent moves until the sample obeys, and stays near where it was, so that
all else changes as little as the generator lets it. Several searches give several candidates.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.fitting import Box, fit, made_of, need_counts, need_weights
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.own import opaque
from leafwing.model import Labels, Model

RATE = 0.1
SPREAD = 0.5
"""How far from the sample searches begin, as a share of what the prior spreads; the first begins at the sample."""
DIRECTIONS, CELLS = 8, 8
"""Of edges that are told apart, from 0 to 180 degrees; cells along the longer side in which they are counted."""


def edit(
    model: Model,
    *,
    counting: Counting = quiet,
    paint: str = "",
    strokes: Path | None = None,
    sample: int = 0,
    label: str | None = None,
    candidates: int = 8,
    steps: int = 150,
    edges: float = 0.2,
    near: float = 0.02,
    seed: int = 0,
) -> Finding:
    """Looks for samples that have what was painted on one of them.

    The cost is the mean squared error of the painted colours, `edges` times that of the edges around them, counted by direction,
    as a share of those painted, and `near` times the mean squared way of the latent. Latents stay where the prior draws them.

    Args:
        model: pictures.
        counting: told how far it is.
        paint: boxes as COLOUR,X,Y,WIDTH,HEIGHT in pixels from the upper left corner, several with ; between: "red,8,8,12,12". A
            colour is a name or #rrggbb.
        strokes: a PNG file as large as the run's pictures: what is opaque in it is painted.
        sample: which sample to paint on, by number as `leafwing sample` shows them.
        label: of which class it is, for a run with labels.
        candidates: how many searches there are.
        steps: of each search.
        edges: weight of the edges beside the colours.
        near: weight of staying near the sample.
        seed: of the sample, and of where the searches begin.

    Returns:
        `before`, `after`: mean squared error of the painted colours, pixels from -1 to 1, of the sample and of each candidate, the
        cheapest first; `outside`: mean squared change of what was not painted; `distance`: root mean square way of the latent; `cost`.
        Array `latents`: of the sample and of the candidates.

    Raises:
        LeafwingError: points, nothing painted, a box outside the picture, strokes of another size, or an option that is out of range.
    """
    need_pictures(model)
    need_counts(candidates=candidates, steps=steps)
    need_weights(edges=edges, near=near)
    if not 0 <= sample < 1_000_000:
        raise LeafwingError(f"--sample {sample}: samples are numbered from 0 to 999999")
    colours, painted = _painted(paint, strokes, model)
    origin = model.latents(sample + 1, seed)[sample:]
    said: Labels = label if label is not None else (sample % len(model.labels) if model.labels else None)
    told = [one.expand(candidates, *one.shape[1:]) for one in model.told(1, said)]
    start = made_of(model, origin, [one[:1] for one in told])
    wanted = torch.where(painted > 0, colours, start)
    cells = F.adaptive_max_pool2d(painted[None, None], _cells(model))[0, 0]
    drawn = _edges(wanted, model)
    strong = _within(drawn.square(), cells).clamp(min=1e-6)

    def cost(latents: Tensor, which: Tensor) -> Tensor:
        made = model.render(latents, *(one[which] for one in told))
        costs = _within((made - wanted).square(), painted) + near * (latents - origin).square().mean(1)
        return costs + edges * _within((_edges(made, model) - drawn).square(), cells) / strong if edges else costs

    box = Box.of(model)
    noise = torch.randn(candidates, origin.shape[1], generator=torch.Generator().manual_seed(seed)).to(origin)
    noise[0] = 0
    starts = origin + SPREAD * noise * model.latents(1_000).std(0)
    which = torch.arange(candidates, device=model.device)
    latents, costs = fit(cost, starts, which, box, steps=steps, rate=RATE, counting=counting, what="editing")
    order = costs.argsort(stable=True)
    latents, made = latents[order], made_of(model, latents[order], told)
    before = float(_within((start - wanted).square(), painted))
    after = _within((made - wanted).square(), painted).tolist()
    outside = _within((made - start).square(), 1 - painted).tolist() if painted.min() == 0 else None
    figures = {
        "before": before,
        "after": after,
        "outside": outside,
        "distance": (latents - origin).square().mean(1).sqrt().tolist(),
        "cost": costs[order].tolist(),
        "painted": float(painted.mean()),
    }
    words = [
        f"The painted colours were off by {before:.3f} in the sample, and are by {after[0]:.3f} in the best candidate (mean squared, "
        "pixels from -1 to 1)" + (f"; what was not painted changed by {outside[0]:.3f}." if outside else ".")
    ]
    heads = ["sample", "strokes", *(str(i + 1) for i in range(candidates))]
    legend = (
        "Left: the sample, and what was painted on it. Then the candidates, the one that costs least first: samples whose latents lie "
        "near that of the first and that have the painted colours and edges, as far as the generator can make them."
    )
    shown = sheet(
        f"Sample {sample}, edited by strokes", [("", torch.cat([start, wanted, made]).cpu())], heads=heads, legend=legend
    )
    return Finding(figures, words, {"edit": shown}, arrays={"latents": torch.cat([origin, latents]).cpu().numpy()})


def _painted(paint: str, strokes: Path | None, model: Model) -> tuple[Tensor, Tensor]:
    """What was painted: colours (channels, height, width) in [-1, 1], and where: 1 or 0 (height, width)."""
    from PIL import Image, ImageColor

    spec = model.spec
    size = (spec.width, spec.height)
    canvas = Image.new("RGBA", size)
    if strokes is not None:
        try:
            with Image.open(strokes) as image:
                drawn = image.convert("RGBA")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise LeafwingError(f"--strokes {strokes}: no picture that can be read ({error})") from None
        if drawn.size != size:
            raise LeafwingError(
                f"--strokes {strokes}: {drawn.width}x{drawn.height} pixels, and this run's pictures are {size[0]} wide, {size[1]} high"
            )
        canvas.paste(drawn)
    for part in filter(None, (one.strip() for one in paint.split(";"))):
        colour, *numbers = part.rsplit(",", 4)
        try:
            x, y, width, height = map(int, numbers)
            rgb = ImageColor.getrgb(colour.strip())[:3]
        except ValueError:
            raise LeafwingError(
                f"--paint {part!r}: write COLOUR,X,Y,WIDTH,HEIGHT, as in red,8,8,12,12 or '#ff8800,0,0,4,4'"
            ) from None
        if min(x, y) < 0 or min(width, height) < 1 or x + width > size[0] or y + height > size[1]:
            raise LeafwingError(
                f"--paint {part!r}: this box is not inside the picture, which is {size[0]} pixels wide and {size[1]} high"
            )
        canvas.paste((*rgb, 255), (x, y, x + width, y + height))
    pixels = np.array(canvas)
    painted = torch.from_numpy((pixels[..., 3] >= 128).astype(np.float32))
    if not painted.any():
        raise LeafwingError(
            "nothing is painted: say --paint red,8,8,12,12, or --strokes with a PNG that is opaque where it is painted"
        )
    pixels[..., 3] = 255
    kept = np.asarray(Image.fromarray(pixels).convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[spec.channels])).reshape(
        *size[::-1], -1
    )
    colours = torch.from_numpy(kept.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
    return colours.to(model.device), painted.to(model.device)


def _cells(model: Model) -> tuple[int, int]:
    longer = max(model.spec.height, model.spec.width)
    return (max(1, round(CELLS * model.spec.height / longer)), max(1, round(CELLS * model.spec.width / longer)))


def _edges(pictures: Tensor, model: Model) -> Tensor:
    """How strong edges of each direction are in each cell: (n, directions, *cells), differentiable.

    After Dalal & Triggs 2005, Histograms of Oriented Gradients: of grey pictures, without their normalisation, so that a faint edge
    is not as good as a clear one.
    """
    grey = opaque(pictures).mean(1, keepdim=True)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    x, y = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    strength = (x.square() + y.square() + 1e-6).sqrt()
    angles = torch.arange(DIRECTIONS, device=pictures.device).view(1, -1, 1, 1) * (2 * math.pi / DIRECTIONS)
    # Twice the angle is the same for both sides of an edge: x^2 - y^2 and 2xy are its cosine and sine, times the squared strength.
    along = ((x.square() - y.square()) * angles.cos() + 2 * x * y * angles.sin()) / strength.square()
    near = ((along + 1) / 2).pow(DIRECTIONS)
    return F.adaptive_avg_pool2d(strength * near, _cells(model))


def _within(values: Tensor, places: Tensor) -> Tensor:
    """The mean of values (n, channels, height, width) over places (height, width) that are 1: (n,)."""
    return (values * places).sum((1, 2, 3)) / (places.sum() * values.shape[1])
