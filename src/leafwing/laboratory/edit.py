"""Editing by strokes: find samples that match rough strokes. Zhu et al. 2016, Generative Visual Manipulation on the Natural Image
Manifold, arXiv:1609.03552, 4.1.

In the paper, strokes constrain colours and edges; the latent is optimised to satisfy them and to stay close to its start, so that
the rest changes as little as possible. Several searches give several candidates.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.errors import InvalidOption, LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.fitting import Box, fit
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, generate, repeat
from leafwing.laboratory.needs import IMAGES, LATENTS, needs
from leafwing.laboratory.options import read_picture, require_counts, require_memory, require_weights
from leafwing.laboratory.sheet import require_size, sheet
from leafwing.model import Model
from leafwing.pixels import composite_on_white, pool, to_floats
from leafwing.progress import ProgressCallback, no_progress
from leafwing.quantities import LARGEST, whole

RATE = 0.1
SPREAD = 0.5
"""Spread of the starting points around the sample, relative to the prior's; the first search starts at the sample."""
DIRECTIONS, CELLS = 8, 8
"""Edge orientation bins from 0 to 180 degrees; cells along the longer side."""


@needs(IMAGES, LATENTS)
def edit(
    model: Model,
    *,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    paint: str = "",
    strokes: Path | None = None,
    sample: int = 0,
    candidates: int = 8,
    steps: int = 150,
    edges: float = 0.2,
    near: float = 0.02,
    seed: int = 0,
) -> Finding:
    """Search for samples that match strokes painted on one of them.

    The loss is the mean squared error of the painted colours, plus `edges` times the relative squared error of the edge histograms
    around them, plus `near` times the mean squared shift of the latent. Latents stay within the range of the prior.

    Args:
        model: a model of images.
        conditions: what the sample should be, by field: {"label": 3}; the rest as in `leafwing sample`.
        report_progress: progress callback.
        paint: boxes separated by semicolons, each COLOUR,X,Y,WIDTH,HEIGHT in pixels from the upper left corner: "red,8,8,12,12". A
            colour is a name or #rrggbb.
        strokes: a PNG file of the run's image size; its opaque pixels are the strokes.
        sample: number of the sample to paint on, as in `leafwing sample`.
        candidates: number of searches.
        steps: optimisation steps per search.
        edges: weight of the edge loss.
        near: weight of staying near the sample.
        seed: random seed of the sample and of the starting points.

    Returns:
        `before`, `after`: mean squared error of the painted colours (pixels in [-1, 1]), of the sample and of each candidate, lowest
        loss first; `outside`: mean squared change of unpainted pixels; `distance`: root mean square shift of the latent; `loss`: the
        loss. Array `latents`: of the sample and of the candidates.

    Raises:
        LeafwingError: nothing painted, invalid boxes or strokes, or an option out of range.
    """
    require_counts(candidates=candidates, steps=steps)
    require_memory(model, candidates, candidates=candidates)
    require_size(model.spec, 1, candidates + 2, candidates=candidates)
    require_weights(edges=edges, near=near)
    if not 0 <= sample < 1_000_000:
        raise InvalidOption("sample", sample, "samples are numbered from 0 to 999999")
    colours, painted = _read_strokes(paint, strokes, model)
    origin = model.latents(sample + 1, seed)[sample:]
    inputs = model.conditions(sample + 1, seed, **conditions).rows(slice(sample, None))
    start = generate(model, origin, inputs)
    target = torch.where(painted > 0, colours, start)
    cells = pool(painted[None, None], *_grid_size(model), maximum=True)[0, 0]
    target_edges = _edges(target, model)
    edge_unit = _masked_mean(target_edges.square(), cells).clamp(min=1e-6)

    def loss(latents: Tensor, indices: Tensor) -> Tensor:
        repeated: Conditions = repeat(inputs, len(latents))
        images = model.render(latents, **repeated)
        losses = _masked_mean((images - target).square(), painted) + near * (latents - origin).square().mean(1)
        if not edges:
            return losses
        return losses + edges * _masked_mean((_edges(images, model) - target_edges).square(), cells) / edge_unit

    box = Box.of(model)
    noise = torch.randn(candidates, origin.shape[1], generator=torch.Generator().manual_seed(seed)).to(origin)
    noise[0] = 0
    starts = origin + SPREAD * noise * model.latents(1_000).std(0)
    indices = torch.arange(candidates, device=model.device)
    latents, losses = fit(
        loss, starts, indices, box, steps=steps, rate=RATE, report_progress=report_progress, what="editing"
    )
    order = losses.argsort(stable=True)
    latents, images = latents[order], generate(model, latents[order], repeat(inputs, candidates))
    before = float(_masked_mean((start - target).square(), painted))
    after = _masked_mean((images - target).square(), painted).tolist()
    outside = _masked_mean((images - start).square(), 1 - painted).tolist() if painted.min() == 0 else None
    figures = {
        "before": before,
        "after": after,
        "outside": outside,
        "distance": (latents - origin).square().mean(1).sqrt().tolist(),
        "loss": losses[order].tolist(),
        "painted": float(painted.mean()),
    }
    words = [
        f"Mean squared error of the painted colours: {before:.3f} for the sample, {after[0]:.3f} for the best candidate (pixels in "
        "[-1, 1])" + (f"; unpainted pixels changed by {outside[0]:.3f}." if outside else ".")
    ]
    heads = ["sample", "strokes", *(str(i + 1) for i in range(candidates))]
    legend = (
        "Left: the sample, and the strokes on it. Then the candidates, lowest loss first: samples with nearby latents that match the "
        "painted colours and edges as far as the generator allows."
    )
    row = torch.cat([start, target, images]).cpu()
    image = sheet(f"Sample {sample}, edited by strokes", [("", row)], heads=heads, legend=legend)
    return Finding(figures, words, {"edit": image}, arrays={"latents": torch.cat([origin, latents]).cpu().numpy()})


def _read_strokes(paint: str, strokes: Path | None, model: Model) -> tuple[Tensor, Tensor]:
    """The strokes: colours (channels, height, width) in [-1, 1], and their mask, 1 or 0 (height, width)."""
    from PIL import Image, ImageColor

    spec = model.spec
    size = (spec.width, spec.height)
    canvas = Image.new("RGBA", size)
    if strokes is not None:
        drawing = read_picture("strokes", strokes, *size, "RGBA")
        canvas.paste(drawing)
    for part in filter(None, (part.strip() for part in paint.split(";"))):
        colour, *numbers = part.rsplit(",", 4)
        try:
            x, y, width, height = (whole(number, "paint", -LARGEST) for number in numbers)
            rgb = ImageColor.getrgb(colour.strip())[:3]
        except (ValueError, InvalidOption):
            raise InvalidOption(
                "paint", part, "write COLOUR,X,Y,WIDTH,HEIGHT, as in red,8,8,12,12 or '#ff8800,0,0,4,4'"
            ) from None
        if min(x, y) < 0 or min(width, height) < 1 or x + width > size[0] or y + height > size[1]:
            raise InvalidOption(
                "paint", part, f"the box is not inside the image, which is {size[0]} pixels wide and {size[1]} high"
            )
        canvas.paste((*rgb, 255), (x, y, x + width, y + height))
    pixels = np.array(canvas)
    painted = torch.from_numpy((pixels[..., 3] >= 128).astype(np.float32))
    if not painted.any():
        raise LeafwingError(
            "nothing is painted: use --paint red,8,8,12,12, or --strokes with a PNG that is transparent except for the strokes"
        )
    pixels[..., 3] = 255
    converted = np.array(Image.fromarray(pixels).convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[spec.channels])).reshape(
        *size[::-1], -1
    )
    colours = to_floats(torch.from_numpy(converted)).permute(2, 0, 1)
    return colours.to(model.device), painted.to(model.device)


def _grid_size(model: Model) -> tuple[int, int]:
    """Numbers of cells along the height and the width."""
    longer = max(model.spec.height, model.spec.width)
    return (max(1, round(CELLS * model.spec.height / longer)), max(1, round(CELLS * model.spec.width / longer)))


def _edges(images: Tensor, model: Model) -> Tensor:
    """Edge strength by orientation and cell: (n, directions, *cells), differentiable.

    After Dalal & Triggs 2005, Histograms of Oriented Gradients, on grey images, without normalisation, so that a faint edge does
    not match a strong one.
    """
    grey = composite_on_white(images).mean(1, keepdim=True)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    x, y = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    strength = (x.square() + y.square() + 1e-6).sqrt()
    angles = torch.arange(DIRECTIONS, device=images.device).view(1, -1, 1, 1) * (2 * math.pi / DIRECTIONS)
    # Twice the angle is the same for both sides of an edge: x^2 - y^2 and 2xy are its cosine and sine, times the squared strength.
    alignment = ((x.square() - y.square()) * angles.cos() + 2 * x * y * angles.sin()) / strength.square()
    membership = ((alignment + 1) / 2).pow(DIRECTIONS)
    return pool(strength * membership, *_grid_size(model))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of values (n, channels, height, width) over a mask (height, width): (n,)."""
    return (values * mask).sum((1, 2, 3)) / (mask.sum() * values.shape[1])
