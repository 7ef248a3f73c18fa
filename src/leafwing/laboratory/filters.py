"""What the critic's convolutions respond to, compared with an untrained critic. Radford et al. 2015, arXiv:1511.06434, figure 5.

The first layer's filters are shown directly. For the last layer, guided back-propagation (Springenberg et al. 2014, arXiv:1412.6806,
section 3.4) shows which pixels cause the strongest response of a feature map: the gradient of that response with respect to the
image, where each rectifier passes only positive gradients at positive inputs. In the paper trained critics respond to parts of
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
from leafwing.game import eval_mode
from leafwing.laboratory.critics import Critic, critic_of, untrained
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, fixed_words
from leafwing.laboratory.needs import CRITIC, IMAGES, needs
from leafwing.laboratory.options import require_counts
from leafwing.laboratory.sheet import sheet
from leafwing.model import Model
from leafwing.pixels import images_to_tensor
from leafwing.progress import ProgressCallback, no_progress
from leafwing.quantities import check_seed

CHUNK = 64
BEST = 8
"""Number of images with the strongest response per map; the figures are means over them."""
ROWS = 2
"""Rows of first-layer filters."""
TENTH = 0.1
SPRITES = "sprites"


@needs(IMAGES, CRITIC)
def filters(
    model: Model,
    *,
    held_out: Dataset,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    maps: int = 12,
    n: int = 1000,
    seed: int = 0,
) -> Finding:
    """Show the critic's first filters, and the pixels that activate the strongest maps of its last convolution.

    Args:
        model: a model of images, with a convolutional critic.
        held_out: real images; for `sprites` the oracle locates the object.
        conditions: the critic's conditions, by field: {"label": 3}; the rest is that of the first sample.
        report_progress: progress callback.
        maps: number of maps of the last convolution to show: those with the strongest responses, to different images.
        n: number of real images to search.
        seed: random seed of the images and of the untrained critic's weights.

    Returns:
        `trained`, `untrained`: for the energy (squares) of guided gradients, averaged over the shown maps and the 8 images with the
        strongest response to each: `inside`, the fraction in the object's box for `sprites`, else None; `tenth`, the fraction in the
        tenth of all pixels with the most energy; `silent`, the number of zero gradients, which are excluded. `box`: fraction of the
        image covered by the box. `field`: fraction covered by the receptive field of the last convolution. `maps`: indices of the
        shown maps.

    Raises:
        LeafwingError: no convolutional critic, or fewer than one map or image.
    """
    check(model, conditions=conditions, maps=maps, n=n, seed=seed)
    critic = critic_of(model, conditions, seed)
    indices, _ = held_out.epoch(seed, 0, slice(0, n))
    baseline = untrained(critic, images_to_tensor(held_out.array[indices[: 4 * CHUNK]]), seed)
    critics = {"trained": critic, "untrained": baseline}
    best, strength = _strongest(critic, held_out.array, indices, report_progress)
    numbers = _order_maps(best[0], strength)[:maps]
    best = best[:, numbers]
    gradients: dict[str, list[np.ndarray]] = {name: [] for name in critics}
    energies: dict[str, list[np.ndarray]] = {name: [] for name in critics}
    for j, number in enumerate(numbers):
        images = images_to_tensor(held_out.array[best[:, j]])
        for name, network in critics.items():
            gradient = guided_gradient(network, images, int(number))
            gradients[name].append(gradient[0])
            energies[name].append(np.square(gradient).sum(1))
        report_progress("guided back-propagation", j + 1, len(numbers))
    boxes = _boxes(held_out.array[best.T.ravel()]) if held_out.source == SPRITES else None
    figures: dict[str, Any] = {name: _concentration(np.concatenate(energies[name]), boxes) for name in critics}
    figures |= {
        "box": None if boxes is None or not boxes.any() else float(boxes.mean((1, 2))[boxes.any((1, 2))].mean()),
        "field": _receptive_field(critic),
        "maps": [int(number) for number in numbers],
        "layers": len(critic.layers),
        "pictures": len(indices),
    }
    rows: list[tuple[str, Tensor | np.ndarray]] = []
    for name, network in critics.items():
        tiles = _first_filters(network, held_out.spec.height, held_out.spec.width)
        columns = max(len(numbers), 6)
        for i, part in enumerate(tiles.split(columns)[:ROWS]):
            rows.append((f"first filters, {name}" if i == 0 else "", part))
    rows.append(("image", held_out.array[best[0]]))
    rows += [(f"guided gradient, {name}", _visualise(np.stack(gradients[name]))) for name in critics]
    legend = (
        "First filters: kernels of the first convolution, each scaled to its largest weight; grey is zero. Below, each column is a "
        "map of the last convolution: the image with the strongest response, the pixels behind it (guided back-propagation; grey: "
        "zero, bright: positive, dark: negative), and the same for a critic of the same architecture with random weights."
    )
    words = [*_words(figures), *fixed_words(model, critic.conditions, conditions, "To the critic, all images")]
    return Finding(figures, words, {"filters": sheet("What the critic responds to", rows, legend=legend)})


def check(model: Model, *, conditions: Conditions, maps: int, n: int, seed: int) -> None:
    """Raises LeafwingError for invalid options."""
    require_counts(maps=maps, n=n)
    check_seed(seed)
    critic_of(model, conditions, seed)


class _GuidedRectifier(Function):
    """Forward: the rectifier's output for x; backward: only positive gradients where x was positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where((x > 0) & (gradients[0] > 0), gradients[0], 0), None


RECTIFIERS = {F.relu, F.relu_, torch.relu, torch.relu_, F.leaky_relu, F.leaky_relu_, F.elu, F.elu_, F.selu, F.celu}  # fmt: skip


class _Guided(TorchFunctionMode):
    """While active, all rectifiers use the gradient of `_GuidedRectifier`: modules, functions, and in-place ones."""

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
        output = func(x.detach().clone(), *args[1:], **(kwargs or {}))
        return _GuidedRectifier.apply(x, output)


def guided_gradient(critic: Critic, images: Tensor, number: int) -> np.ndarray:
    """The guided gradient of the strongest response of a map of the last convolution with respect to each image.

    Args:
        critic: is not modified.
        images: (n, channels, height, width) in [-1, 1].
        number: index of the map.

    Returns:
        float32 (n, channels, height, width).
    """
    x = images.to(critic.device).clone().requires_grad_()
    with torch.enable_grad(), eval_mode(critic.nets), _Guided():
        strongest = critic.maps(x)[-1][:, number].flatten(1).max(1).values  # only one of several equal maxima
    (gradient,) = torch.autograd.grad(strongest.sum(), x)
    return gradient.cpu().numpy()


@torch.no_grad()
def _strongest(
    critic: Critic, array: np.ndarray, indices: np.ndarray, report_progress: ProgressCallback
) -> tuple[np.ndarray, np.ndarray]:
    """For each map of the last convolution: indices of the images with the strongest responses (8, maps), the maximum (maps,)."""
    blocks = []
    with eval_mode(critic.nets):
        for start in range(0, len(indices), CHUNK):
            part = images_to_tensor(array[indices[start : start + CHUNK]])
            blocks.append(critic.maps(part)[-1].flatten(2).amax(2).float().cpu().numpy())
            report_progress("searching real images", min(start + CHUNK, len(indices)), len(indices))
    responses = np.concatenate(blocks)
    order = np.argsort(-responses, axis=0, kind="stable")[:BEST]
    return indices[order], responses.max(0)


def _order_maps(best_images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Indices of maps, strongest first; of maps with the same strongest image, all but one come last."""
    order = np.argsort(-strength, kind="stable")
    _, first = np.unique(best_images[order], return_index=True)
    is_duplicate = np.ones(len(order), bool)
    is_duplicate[first] = False
    return np.concatenate([order[~is_duplicate], order[is_duplicate]])


def _receptive_field(critic: Critic) -> float:
    """The fraction of an image in the receptive field of a central position of the last convolution's maps."""
    x = torch.zeros(1, *critic.shape, device=critic.device, requires_grad=True)
    with torch.enable_grad(), eval_mode(critic.nets):
        maps = critic.maps(x)[-1]
        (gradient,) = torch.autograd.grad(maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum(), x)
    return float((gradient != 0).any(1).float().mean())


def _first_filters(critic: Critic, height: int, width: int) -> Tensor:
    """The filters of the first convolution as images, each scaled to its largest weight: (maps, 1 or 3, height, width)."""
    weight = critic.layers[0].weight.detach().float().cpu()
    weight = weight[:, : 3 if weight.shape[1] > 2 else 1]
    return F.interpolate(
        weight / weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12), (height, width), mode="nearest"
    )


def _visualise(gradients: np.ndarray) -> Tensor:
    """Gradients as opaque images, each scaled to its largest value; zero is grey."""
    images = torch.from_numpy(gradients[:, : 3 if gradients.shape[1] > 2 else 1])
    return images / images.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def _boxes(array: np.ndarray) -> np.ndarray:
    """Masks of the sprites' boxes, bool (n, size, size), empty where the oracle is not sure."""
    from leafwing import sprites

    reading = sprites.read(array)
    centres = np.arange(array.shape[1]) + 0.5
    left, top, width, height = reading.box.T[:, :, None]
    rows = (centres >= top) & (centres < top + height)
    columns = (centres >= left) & (centres < left + width)
    return rows[:, :, None] & columns[:, None, :] & reading.sure[:, None, None]


def _concentration(energies: np.ndarray, boxes: np.ndarray | None) -> dict[str, float | int | None]:
    """Concentration of the energy (n, height, width); see `filters`."""
    total = energies.sum((1, 2), dtype=np.float64)
    nonzero = total > 0
    if not nonzero.any():
        return {"inside": None, "tenth": None, "silent": len(energies)}
    fractions = energies[nonzero] / total[nonzero, None, None]
    count = max(1, round(TENTH * fractions[0].size))
    tenth = np.sort(fractions.reshape(len(fractions), -1), axis=1)[:, -count:].sum(1)
    inside = None
    if boxes is not None:
        has_box = boxes[nonzero].any((1, 2))
        inside = float((fractions * boxes[nonzero]).sum((1, 2))[has_box].mean()) if has_box.any() else None
    return {"inside": inside, "tenth": float(tenth.mean()), "silent": int((~nonzero).sum())}


def _words(figures: Mapping[str, Any]) -> list[str]:
    trained, untrained = figures["trained"], figures["untrained"]
    if trained["tenth"] is None or untrained["tenth"] is None:
        return ["All guided gradients are zero."]
    if trained["inside"] is not None and untrained["inside"] is not None:
        return [
            f"Of the guided gradient energy of the last convolution, {trained['inside']:.0%} lies in the object's box, against "
            f"{untrained['inside']:.0%} for a critic with random weights; the box covers {figures['box'] or 0:.0%} of the image."
        ]
    return [
        f"The top tenth of the pixels has {trained['tenth']:.0%} of the guided gradient energy of the last convolution, against "
        f"{untrained['tenth']:.0%} for a critic with random weights. More means a more localised response."
    ]
