"""What the critic's convolutions respond to, compared with an untrained critic. Radford et al. 2015, arXiv:1511.06434, figure 5.

The first layer's filters are shown directly. For the last layer, guided back-propagation (Springenberg et al. 2014, arXiv:1412.6806,
section 3.4) shows which pixels cause the strongest response of a feature map: the gradient of that response with respect to the
picture, where each rectifier passes only positive gradients at positive inputs. In the paper trained critics respond to parts of
objects, untrained ones to nothing in particular.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.critics import Critic, critic_of, untrained
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.samples import to_floats
from leafwing.model import Model, evaluating
from leafwing.progress import Progress, no_progress

CHUNK = 64
BEST = 8
"""Number of pictures with the strongest response per map; the figures are means over them."""
ROWS = 2
"""Rows of first-layer filters."""
TENTH = 0.1
SPRITES = "sprites"


def filters(
    model: Model,
    *,
    held: Dataset,
    report_progress: Progress = no_progress,
    maps: int = 12,
    pictures: int = 1000,
    seed: int = 0,
) -> Finding:
    """Shows the critic's first filters, and the pixels that activate the strongest maps of its last convolution.

    Args:
        model: pictures, with a convolutional critic.
        held: real pictures; for `sprites` the oracle locates the object.
        report_progress: progress callback.
        maps: number of maps of the last convolution to show: those with the strongest responses, to different pictures.
        pictures: number of real pictures to search.
        seed: random seed of the pictures and of the untrained critic's weights.

    Returns:
        `trained`, `untrained`: for the energy (squares) of guided gradients, averaged over the shown maps and the 8 pictures with the
        strongest response to each: `inside`, the fraction in the object's box for `sprites`, else None; `tenth`, the fraction in the
        tenth of all pixels with the most energy; `silent`, the number of zero gradients, which are excluded. `box`: fraction of the
        picture covered by the box. `field`: fraction covered by the receptive field of the last convolution. `maps`: indices of the
        shown maps.

    Raises:
        LeafwingError: a run that generates points, no convolutional critic, or fewer than one map or picture.
    """
    need_pictures(model)
    if maps < 1 or pictures < 1:
        raise LeafwingError("--maps and --pictures must be at least 1")
    if not 0 <= seed < 2**32:
        raise LeafwingError(f"--seed {seed}: must be from 0 to {2**32 - 1}")
    critic = critic_of(model)
    places, _ = held.epoch(seed, 0, slice(0, pictures))
    fresh = untrained(critic, to_floats(held.array[places[: 4 * CHUNK]]), seed)
    best, strength = _strongest(critic, held.array, places, report_progress)
    shown = _various(best[0], strength)[:maps]
    chosen = best[:, shown]  # (pictures of a map, maps): places
    seen: dict[str, list[np.ndarray]] = {"trained": [], "untrained": []}
    energies: dict[str, list[np.ndarray]] = {"trained": [], "untrained": []}
    for j in range(len(shown)):
        given = to_floats(held.array[chosen[:, j]])
        for name, one in (("trained", critic), ("untrained", fresh)):
            slope = guided(one, given, int(shown[j]))
            seen[name].append(slope[0])
            energies[name].append(np.square(slope).sum(1))
        report_progress("guided back-propagation", j + 1, len(shown))
    boxes = _boxes(held.array[chosen.T.ravel()]) if held.source == SPRITES else None
    figures: dict[str, Any] = {
        name: _concentration(np.concatenate(energies[name]), boxes) for name in ("trained", "untrained")
    }
    figures |= {
        "box": None if boxes is None or not boxes.any() else float(boxes.mean((1, 2))[boxes.any((1, 2))].mean()),
        "field": _field(critic),
        "maps": [int(one) for one in shown],
        "layers": len(critic.layers),
        "pictures": len(places),
    }
    rows: list[tuple[str, Tensor | np.ndarray]] = []
    for name, one in (("trained", critic), ("untrained", fresh)):
        tiles = _tiles(one, held.spec.height, held.spec.width)
        columns = max(len(shown), 6)
        for i, part in enumerate(tiles.split(columns)[:ROWS]):
            rows.append((f"first filters, {name}" if i == 0 else "", part))
    rows.append(("picture", held.array[chosen[0]]))
    rows += [(f"guided gradient, {name}", _visible(np.stack(seen[name]))) for name in ("trained", "untrained")]
    legend = (
        "First filters: kernels of the first convolution, each scaled to its largest weight; grey is zero. Below, each column is a "
        "map of the last convolution: the picture with the strongest response, the pixels behind it (guided back-propagation; grey: "
        "zero, bright: positive, dark: negative), and the same for a critic of the same architecture with random weights."
    )
    return Finding(figures, _words(figures), {"filters": sheet("What the critic responds to", rows, legend=legend)})


class _Through(Function):
    """Forward: the rectifier's output for x; backward: only positive gradients where x was positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, made: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return made.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where((x > 0) & (slopes[0] > 0), slopes[0], 0), None


RECTIFIERS = {F.relu, F.relu_, torch.relu, torch.relu_, F.leaky_relu, F.leaky_relu_, F.elu, F.elu_, F.selu, F.celu}  # fmt: skip


class _Guided(TorchFunctionMode):
    """While active, every rectifier uses the gradient of `_Through`, be it a module, a function, or in-place."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func not in RECTIFIERS:
            return func(*args, **(kwargs or {}))
        x = args[0].clone()  # some are in-place
        made = func(x.detach().clone(), *args[1:], **(kwargs or {}))
        return _Through.apply(x, made)


def guided(critic: Critic, pictures: Tensor, number: int) -> np.ndarray:
    """The guided gradient of the strongest response of a map of the last convolution with respect to each picture.

    Args:
        critic: is not modified.
        pictures: (n, channels, height, width) in [-1, 1].
        number: index of the map.

    Returns:
        float32 (n, channels, height, width).
    """
    given = pictures.to(critic.device).clone().requires_grad_()
    with torch.enable_grad(), evaluating(critic.nets), _Guided():
        strongest = critic.maps(given)[-1][:, number].flatten(1).max(1).values  # only one of several equal maxima
    (slope,) = torch.autograd.grad(strongest.sum(), given)
    return slope.cpu().numpy()


@torch.no_grad()
def _strongest(
    critic: Critic, array: np.ndarray, places: np.ndarray, report_progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """For each map of the last convolution: indices of the pictures with the strongest responses (8, maps), the maximum (maps,)."""
    found = []
    with evaluating(critic.nets):
        for start in range(0, len(places), CHUNK):
            part = to_floats(array[places[start : start + CHUNK]])
            found.append(critic.maps(part)[-1].flatten(2).amax(2).float().cpu().numpy())
            report_progress("searching real pictures", min(start + CHUNK, len(places)), len(places))
    responses = np.concatenate(found)
    order = np.argsort(-responses, axis=0, kind="stable")[:BEST]
    return places[order], responses.max(0)


def _various(favourites: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Indices of maps, strongest first; of maps with the same strongest picture, all but one come last."""
    order = np.argsort(-strength, kind="stable")
    _, first = np.unique(favourites[order], return_index=True)
    again = np.ones(len(order), bool)
    again[first] = False
    return np.concatenate([order[~again], order[again]])


def _field(critic: Critic) -> float:
    """The fraction of a picture in the receptive field of a central position of the last convolution's maps."""
    given = torch.zeros(1, *critic.shape, device=critic.device, requires_grad=True)
    with torch.enable_grad(), evaluating(critic.nets):
        made = critic.maps(given)[-1]
        (slope,) = torch.autograd.grad(made[0, :, made.shape[2] // 2, made.shape[3] // 2].sum(), given)
    return float((slope != 0).any(1).float().mean())


def _tiles(critic: Critic, height: int, width: int) -> Tensor:
    """The filters of the first convolution as pictures, each scaled to its largest weight: (maps, 1 or 3, height, width)."""
    weight = critic.layers[0].weight.detach().float().cpu()
    weight = weight[:, : 3 if weight.shape[1] > 2 else 1]
    return F.interpolate(
        weight / weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12), (height, width), mode="nearest"
    )


def _visible(slopes: np.ndarray) -> Tensor:
    """Gradients as opaque pictures, each scaled to its largest value; zero is grey."""
    shown = torch.from_numpy(slopes[:, : 3 if slopes.shape[1] > 2 else 1])
    return shown / shown.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def _boxes(array: np.ndarray) -> np.ndarray:
    """Masks of the sprites' boxes, bool (n, size, size), empty where the oracle is not sure."""
    from leafwing import sprites

    read = sprites.read(array)
    middles = np.arange(array.shape[1]) + 0.5
    left, top, width, height = read.box.T[:, :, None]
    rows = (middles >= top) & (middles < top + height)
    columns = (middles >= left) & (middles < left + width)
    return rows[:, :, None] & columns[:, None, :] & read.sure[:, None, None]


def _concentration(energies: np.ndarray, boxes: np.ndarray | None) -> dict[str, float | int | None]:
    """Concentration of the energy (n, height, width); see `filters`."""
    whole = energies.sum((1, 2), dtype=np.float64)
    loud = whole > 0
    if not loud.any():
        return {"inside": None, "tenth": None, "silent": len(energies)}
    shares = energies[loud] / whole[loud, None, None]
    count = max(1, round(TENTH * shares[0].size))
    tenth = np.sort(shares.reshape(len(shares), -1), axis=1)[:, -count:].sum(1)
    inside = None
    if boxes is not None:
        known = boxes[loud].any((1, 2))
        inside = float((shares * boxes[loud]).sum((1, 2))[known].mean()) if known.any() else None
    return {"inside": inside, "tenth": float(tenth.mean()), "silent": int((~loud).sum())}


def _words(figures: Mapping[str, Any]) -> list[str]:
    trained, fresh = figures["trained"], figures["untrained"]
    if trained["tenth"] is None or fresh["tenth"] is None:
        return ["All guided gradients are zero."]
    if trained["inside"] is not None and fresh["inside"] is not None:
        return [
            f"Of the guided gradient energy of the last convolution, {trained['inside']:.0%} lies in the object's box, against "
            f"{fresh['inside']:.0%} for a critic with random weights; the box covers {figures['box'] or 0:.0%} of the picture."
        ]
    return [
        f"The top tenth of the pixels has {trained['tenth']:.0%} of the guided gradient energy of the last convolution, against "
        f"{fresh['tenth']:.0%} for a critic with random weights. More means a more localised response."
    ]
