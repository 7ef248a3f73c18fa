"""Object dropout: drop the feature maps of G that draw an object. Radford et al. 2015, arXiv:1511.06434, section 6.3.1.

A logistic regression is fitted to the feature maps of G's second-highest convolution: activations inside the object's boxes are
positive examples, random ones elsewhere in the same samples negative. All maps with positive weight are set to zero, and the samples
are generated again. In the paper: 150 samples, 52 boxes drawn by hand, 200 maps dropped; windows vanish or become doors and mirrors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isnan, nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from leafwing import files
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, fix_conditions, generate, load_latents, repeat
from leafwing.laboratory.layers import find_convolutions, require_convolutions
from leafwing.laboratory.needs import IMAGES, LATENTS, needs
from leafwing.laboratory.options import MOST, require_counts, require_memory
from leafwing.laboratory.reading import Reader
from leafwing.laboratory.sheet import Line, chart, require_charts, sheet
from leafwing.latents import BLOCK
from leafwing.model import Model
from leafwing.progress import ProgressCallback, no_progress
from leafwing.quantities import whole

N_RANDOM = 5
"""Number of random selections of maps for comparison, each with the same number of maps."""
FILLS = {"zero": "zero", "median": "their own median"}
EFFECTS = ("vanished", "changed", "contrast")
MOST_VANISHED = 0.7
"""Fraction of vanished objects that counts as most of them."""
N_TEST = 200
"""Number of samples on which the effect is measured; disjoint from those on which the maps were chosen."""
COLUMNS = 8
"""Number of samples on the grid."""
MIN_WEIGHT = 1e-3
"""Weights below this fraction of the largest one count as zero."""


@needs(IMAGES, LATENTS)
def dropout(
    model: Model,
    *,
    reader: Reader | None,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    boxes: Path | None = None,
    latents: Path | None = None,
    n: int = 150,
    layer: int = 2,
    fill: Literal["zero", "median"] = "zero",
    seed: int = 0,
) -> Finding:
    """Drop the feature maps that draw an object.

    Args:
        model: a model of images, with a convolutional generator.
        reader: attribute classifier that locates the object before and after (the sprites' oracle).
        conditions: what all samples should be, by field: {"label": 3}; the rest is that of the first sample, and with boxes by sample
            number that of each sample itself.
        report_progress: progress callback.
        boxes: a JSON file with hand-drawn boxes by sample number, the number of the file in `leafwing sample RUN --folder` with the
            same --seed, --label and --set, {"3": [left, top, width, height], ...} in pixels, or a list of boxes per sample. Default:
            the boxes found by the sprites' oracle in the first n samples.
        latents: an .npz or .npy file of latents, such as those of `invert`; sample numbers then select its rows, which all have the
            same conditions.
        n: number of samples in which the sprites' oracle looks for boxes.
        layer: the convolution whose maps are dropped: 2 for the second-highest, as in the paper, 3 for the one below it.
        fill: value of dropped maps: zero, as in the paper, or their median in each sample, which preserves the background.
        seed: random seed of samples and selections.

    Returns:
        `maps`, `dropped`: number of all maps, and of those with positive weight. `found_before`, `found_after`: fraction of test
        samples in which it finds an object. `vanished`: fraction of these objects no longer found. `contrast`: remaining
        fraction of the object's contrast to its surroundings. `changed`: mean change of pixels in [-1, 1] outside the box.
        `vanished_random`, `changed_random`, `contrast_random`: the same for the same number of random maps, averaged over five
        selections; `changed_over_random`: the ratio. `one_by_one`: the same for increasing numbers of maps, by weight;
        `maps_for_most`: the first of these numbers for which 70% of the objects vanish, and `changed_over_random_for_most`.

    Raises:
        LeafwingError: no convolutions, a box outside the image, or nothing that locates objects.
    """
    require_charts()
    require_counts(n=n)
    require_memory(model, n, n=n)
    fixed = fix_conditions(model, conditions, seed)
    layers = find_convolutions(model.game.sampling_nets, lambda: fixed(model.latents(1, seed)))
    if layer < 2:
        raise InvalidOption("layer", layer, "must be at least 2 (the second-highest convolution)")
    require_convolutions(layers, layer, "generator")
    convolution = layers[1 - layer]
    boxes_by_sample = read_boxes(boxes, model) if boxes else {}
    if not boxes_by_sample and (reader is None or reader.box is None):
        raise LeafwingError(
            "objects can only be located in sprites: draw boxes for the images of this run and pass them with --boxes FILE.json"
        )
    z = load_latents(model, latents) if latents else model.latents(max([n - 1, *boxes_by_sample]) + 1, seed)
    if max(boxes_by_sample, default=0) >= len(z):
        raise InvalidOption(
            "boxes", boxes, f"a box for sample {max(boxes_by_sample)}, but {latents} contains {len(z)} latents"
        )
    n_searched = len(z)
    z = torch.cat([z, model.latents(n_searched + N_TEST, seed)[n_searched:]])
    has_own = bool(boxes_by_sample) and latents is None  # boxes that were drawn on the samples of `leafwing sample`
    inputs = model.conditions(len(z), seed, **conditions) if has_own else repeat(fixed.inputs, len(z))

    def draw(numbers: slice | Tensor, batch: int = BLOCK) -> Tensor:
        """Samples by their numbers."""
        return generate(model, z[numbers], inputs.rows(numbers), batch)

    if not boxes_by_sample:
        boxes_by_sample = find_boxes(reader, draw(slice(n_searched)))
    if len(boxes_by_sample) < 10:
        raise LeafwingError(f"{len(boxes_by_sample)} boxes are too few: give at least 10, or search more samples (--n)")
    inside, outside = activations(model, convolution, boxes_by_sample, draw, seed)
    rows = np.concatenate([inside, outside])
    is_inside = np.arange(len(rows)) < len(inside)
    scale = np.maximum(rows.std(0), 1e-6)
    regression = LogisticRegression(max_iter=2_000).fit(rows / scale, is_inside)
    weights = regression.coef_[0]
    order = np.argsort(-weights, kind="stable")
    n_positive = int((weights > MIN_WEIGHT * np.abs(weights).max()).sum())
    experiment = _Experiment(lambda: draw(slice(n_searched, None)), reader, convolution, fill)
    random = np.random.default_rng(seed)
    counts = sorted({0, n_positive, *np.unique(np.linspace(0, len(order), 9).round().astype(int)).tolist()})
    effects = []
    for i, count in enumerate(counts):
        random_effects = [experiment.effect(random.permutation(len(order))[:count]) for _ in range(N_RANDOM)]
        means = {f"{name}_random": float(np.mean([effect[name] for effect in random_effects])) for name in EFFECTS}
        effects.append({"maps": int(count)} | experiment.effect(order[:count]) | means)
        report_progress("dropping maps", i + 1, len(counts))
    result = effects[counts.index(n_positive)]
    first_most = next((effect for effect in effects if effect["vanished"] >= MOST_VANISHED), None)
    figures = {
        "maps": len(order),
        "dropped": n_positive,
        "boxes": len(boxes_by_sample),
        "accuracy": float(regression.score(rows / scale, is_inside)),
        **{name: value for name, value in result.items() if name != "maps"},
        "changed_over_random": relative_change(result),
        "maps_for_most": first_most["maps"] if first_most else None,
        "changed_over_random_for_most": relative_change(first_most) if first_most else nan,
        "one_by_one": effects,
    }
    examples = torch.tensor([*boxes_by_sample][:COLUMNS])
    original = draw(examples)
    with drop_maps(convolution, order[:n_positive], fill):
        without_object = draw(examples)
    with drop_maps(convolution, random.permutation(len(order))[:n_positive], fill):
        without_random = draw(examples)
    sheet_rows = [
        ("original", original.cpu()),
        ("maps dropped", without_object.cpu()),
        ("random maps dropped", without_random.cpu()),
    ]
    words = [
        f"{n_positive} of {len(order)} feature maps {'has' if n_positive == 1 else 'have'} a positive weight in a regression that "
        "tells inside from outside the boxes."
    ]
    if not isnan(result["vanished"]) and not isnan(relative_change(result)):
        words.append(
            f"Dropping them removes the object in {result['vanished']:.0%} of samples ({result['vanished_random']:.0%} for as many "
            f"random maps) and changes the rest {relative_change(result):.2f} times as much as dropping random maps."
        )
    legend = f"Samples of G, and the same with the selected maps of convolution {layer} from the top set to {FILLS[fill]}."
    sheets = {"dropout": sheet("Object dropout", sheet_rows, legend=legend)}
    if not isnan(result["vanished"]):
        lines: dict[str, Line] = {
            "object vanished": (counts, [effect["vanished"] for effect in effects]),
            "object vanished, random maps": (counts, [effect["vanished_random"] for effect in effects]),
            "change of the rest": (counts, [effect["changed"] for effect in effects]),
            "change of the rest, random maps": (counts, [effect["changed_random"] for effect in effects]),
        }
        sheets["maps"] = chart(
            "Maps dropped, by weight", lines, x_label="maps dropped", y_label="fraction, or change in [-1, 1]"
        )
    return Finding(figures, words if has_own else [*words, *fixed.words], sheets)


def relative_change(effect: dict[str, float]) -> float:
    """The change of the rest relative to that for the same number of random maps."""
    return effect["changed"] / effect["changed_random"] if effect["changed_random"] else nan


class _Experiment:
    """Drops maps and measures the effect on test samples."""

    def __init__(self, draw_all: Callable[[], Tensor], reader: Reader | None, layer: nn.Module, fill: str) -> None:
        self.draw_all, self.reader, self.layer, self.fill = draw_all, reader, layer, fill
        self.images = draw_all().cpu()
        self.boxes = reader.box(self.images) if reader and reader.box else np.full((len(self.images), 4), np.nan)
        self.has_object = ~np.isnan(self.boxes[:, 0])

    def effect(self, maps: np.ndarray) -> dict[str, float]:
        """`found_before`, `found_after`, `vanished`, `contrast`, `changed` without these maps; NaN if objects cannot be located."""
        names = ("found_before", "found_after", "vanished", "contrast", "changed")
        if self.reader is None or self.reader.box is None or not self.has_object.any():
            return dict.fromkeys(names, nan)
        with drop_maps(self.layer, maps, self.fill):
            images = self.draw_all().cpu()
        still_has_object = ~np.isnan(self.reader.box(images)[:, 0])
        height, width = images.shape[2:]
        contrasts, changes = [], []
        for i in np.flatnonzero(self.has_object):
            mask = inside_box(self.boxes[i], height, width, margin=1)
            rest = ~mask
            if not mask.any() or not rest.any():
                continue
            before, after = self.images[i].numpy(), images[i].numpy()
            contrast_after, contrast_before = (
                np.abs(image[:, mask] - np.median(image[:, rest], axis=1, keepdims=True)).mean() for image in (after, before)
            )
            contrasts.append(contrast_after / max(contrast_before, 1e-6))
            changes.append(np.abs(after[:, rest] - before[:, rest]).mean())
        return {
            "found_before": float(self.has_object.mean()),
            "found_after": float(still_has_object.mean()),
            "vanished": float((~still_has_object[self.has_object]).mean()),
            "contrast": float(np.median(contrasts)) if contrasts else nan,
            "changed": float(np.mean(changes)) if changes else nan,
        }


@contextmanager
def drop_maps(layer: nn.Module, maps: np.ndarray, fill: str = "zero") -> Iterator[None]:
    """Replaces some input maps of a layer by zero or by their median in each sample."""
    numbers = torch.from_numpy(np.asarray(maps, np.int64))

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, indices = inputs[0].clone(), numbers.to(inputs[0].device)
        median = x[:, indices].flatten(2).median(2).values[:, :, None, None]
        x[:, indices] = median if fill == "median" else 0 * median
        return (x, *inputs[1:])

    handle = layer.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def activations(
    model: Model,
    layer: nn.Module,
    boxes: dict[int, list[np.ndarray]],
    draw: Callable[[slice, int], Tensor],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Input activations of a layer at positions inside the boxes, (k, maps), and at as many random positions outside."""
    random = np.random.default_rng(seed)
    inside, outside = [], []
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    try:
        for number, sample_boxes in boxes.items():
            inputs.clear()
            draw(slice(number, number + 1), 1)
            maps = inputs[0][0].float().cpu().numpy()
            height, width = maps.shape[1:]
            scale = np.array([width / model.spec.width, height / model.spec.height] * 2)
            mask = np.any([inside_box(box * scale, height, width) for box in sample_boxes], axis=0)
            positives, negatives = np.flatnonzero(mask), np.flatnonzero(~mask)
            if not len(positives) or not len(negatives):
                continue
            flat = maps.reshape(len(maps), -1).T
            inside.append(flat[positives])
            n = min(len(positives), len(negatives))
            outside.append(flat[random.choice(negatives, n, replace=False)])
    finally:
        handle.remove()
    if not inside:
        raise LeafwingError("the boxes are empty or cover the whole image: draw boxes around the object alone")
    return np.concatenate(inside), np.concatenate(outside)


def inside_box(box: np.ndarray, height: int, width: int, margin: float = 0) -> np.ndarray:
    """Pixels whose centre is in a box (left, top, width, height) extended by a margin: bool (height, width)."""
    left, top, box_width, box_height = box
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    columns = (x >= left - margin) & (x <= left + box_width + margin)
    rows = (y >= top - margin) & (y <= top + box_height + margin)
    return rows[:, None] & columns[None]


def find_boxes(reader: Reader | None, images: Tensor) -> dict[int, list[np.ndarray]]:
    """The box found by the attribute classifier in each sample, by sample number."""
    assert reader is not None, "boxes need an attribute classifier"
    assert reader.box is not None, "boxes need an attribute classifier that locates objects"
    return {i: [box] for i, box in enumerate(reader.box(images.cpu())) if not np.isnan(box[0])}


def read_boxes(path: Path, model: Model) -> dict[int, list[np.ndarray]]:
    """Boxes of samples from a JSON file; see `dropout`.

    Raises:
        LeafwingError: the file cannot be read, or a box is invalid or outside the image.
    """
    expected = 'write {"3": [left, top, width, height], ...}'
    plain = files.convert(path, files.read_json(path, expected), dict[str, list[Any]], advice=expected)
    boxes_by_sample: dict[int, list[np.ndarray]] = {}
    for key, value in plain.items():
        rectangles = value if value and isinstance(value[0], list) else [value]
        converted = files.convert(path, rectangles, list[tuple[float, float, float, float]], key, expected)
        boxes_by_sample[whole(key, "boxes", 0, MOST)] = [np.array(box, float) for box in converted]
    for number, boxes in boxes_by_sample.items():
        for box in boxes:
            left, top, width, height = box
            is_outside = left < 0 or top < 0 or left + width > model.spec.width or top + height > model.spec.height
            if number < 0 or not np.isfinite(box).all() or width <= 0 or height <= 0 or is_outside:
                raise InvalidOption(
                    "boxes",
                    path,
                    f"box {box.tolist()} of sample {number} is not inside an image of {model.spec.width} x "
                    f"{model.spec.height} pixels",
                )
    return boxes_by_sample
