"""Object dropout: drop the feature maps of G that draw an object. Radford et al. 2015, arXiv:1511.06434, section 6.3.1.

A logistic regression is fitted to the feature maps of G's second-highest convolution: activations inside the object's boxes are
positive examples, random ones elsewhere in the same samples negative. All maps with positive weight are set to zero, and the samples
are generated again. The paper: 150 samples, 52 boxes drawn by hand, 200 maps dropped; windows vanished or became doors and mirrors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isnan, nan
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import need_pictures, of_one_kind, saved
from leafwing.laboratory.layers import convolutions, need_convolutions
from leafwing.laboratory.reading import Reader
from leafwing.laboratory.sheet import Line, chart, need_charts, sheet
from leafwing.model import Model
from leafwing.progress import Progress, no_progress

RANDOM = 5
"""Number of random selections of as many maps."""
LEVELS = {"zero": "zero", "median": "their own median"}
EFFECTS = ("vanished", "changed", "contrast")
GONE = 0.7
"""Fraction of vanished objects that counts as most."""
TESTED = 200
"""Number of samples on which the effect is measured; disjoint from those on which the maps were chosen."""
SHOWN = 8
NOTHING = 1e-3
"""Weights below this fraction of the largest one count as zero."""


def dropout(
    model: Model,
    *,
    reader: Reader | None,
    report_progress: Progress = no_progress,
    boxes: Path | None = None,
    file: Path | None = None,
    n: int = 150,
    layer: int = 2,
    fill: Literal["zero", "median"] = "zero",
    label: str | None = None,
    seed: int = 0,
) -> Finding:
    """Drops the feature maps that draw an object.

    Args:
        model: pictures, made by convolutions.
        reader: locates the object, and detects whether it is still there afterwards.
        report_progress: progress callback.
        boxes: a JSON file with hand-drawn boxes by sample number as in `leafwing sample`, {"3": [left, top, width, height], ...} in
            pixels, or a list of boxes per sample. Default: the boxes found by the reader in the first n samples.
        file: an .npz or .npy file of latents, such as those of `invert`; sample numbers then select its rows.
        n: number of samples in which the reader looks for boxes.
        layer: the convolution whose maps are dropped: 2 for the second-highest, as in the paper, 3 for the one below it.
        fill: value of dropped maps: zero, as in the paper, or their median in each sample, which preserves the background.
        label: class of all samples, for a run with labels.
        seed: random seed of samples and selections.

    Returns:
        `maps` and `dropped`: total number of maps, and those with positive weight. `found_before`, `found_after`: fraction of test
        samples in which the reader finds an object. `vanished`: fraction of these objects no longer found. `contrast`: remaining
        fraction of the object's contrast to its surroundings. `changed`: mean change of pixels in [-1, 1] outside the box.
        `vanished_random`, `changed_random`, `contrast_random`: the same for as many random maps, over five selections, and
        `changed_over_random` the ratio. `one_by_one`: the same for increasing numbers of maps, by weight; `maps_for_most`: the first
        of these numbers for which 70 % of the objects vanish, and `changed_over_random_for_most`.

    Raises:
        LeafwingError: a run that generates points, no convolutions, a box outside the picture, or no reader that locates objects.
    """
    need_pictures(model)
    need_charts()
    generate = of_one_kind(model, label)
    layers = convolutions(model.game.shown, lambda: generate(model.latents(1, seed)))
    if fill not in LEVELS:
        raise LeafwingError(f"--fill {fill}: choose from {', '.join(LEVELS)}")
    if layer < 2:
        raise LeafwingError(f"--layer {layer}: must be at least 2 (the second-highest convolution)")
    need_convolutions(layers, layer, "generator")
    last = layers[1 - layer]
    drawn = read_boxes(boxes, model) if boxes else {}
    if not drawn and (reader is None or reader.box is None):
        raise LeafwingError(
            "no reader can locate objects in the pictures of this run: draw boxes and pass them with --boxes FILE.json"
        )
    latents = saved(model, file) if file else model.latents(max([n - 1, *drawn]) + 1, seed)
    if max(drawn, default=0) >= len(latents):
        raise LeafwingError(f"--boxes {boxes}: a box for sample {max(drawn)}, but {file} contains {len(latents)} latents")
    if not drawn:
        drawn = seen_boxes(generate, reader, latents)
    if len(drawn) < 10:
        raise LeafwingError(f"{len(drawn)} boxes are too few: give at least 10, or search more samples (--n)")
    inside, outside = activations(model, last, latents, drawn, generate, seed)
    rows = np.concatenate([inside, outside])
    scale = np.maximum(rows.std(0), 1e-6)
    fitted = LogisticRegression(max_iter=2_000).fit(rows / scale, np.arange(len(rows)) < len(inside))
    weights = fitted.coef_[0]
    order = np.argsort(-weights, kind="stable")
    dropped = int((weights > NOTHING * np.abs(weights).max()).sum())
    test = model.latents(latents.shape[0] + TESTED, seed)[latents.shape[0] :]
    bench = _Effect(generate, reader, last, test, fill)
    random = np.random.default_rng(seed)
    counts = sorted({0, dropped, *np.unique(np.linspace(0, len(order), 9).round().astype(int)).tolist()})
    along = []
    for i, count in enumerate(counts):
        others = [bench.of(random.permutation(len(order))[:count]) for _ in range(RANDOM)]
        chance = {f"{name}_random": float(np.mean([one[name] for one in others])) for name in EFFECTS}
        along.append({"maps": int(count)} | bench.of(order[:count]) | chance)
        report_progress("dropping maps", i + 1, len(counts))
    mine = along[counts.index(dropped)]
    gone = next((one for one in along if one["vanished"] >= GONE), None)
    figures = {
        "maps": len(order),
        "dropped": dropped,
        "boxes": len(drawn),
        "accuracy": float(fitted.score(rows / scale, np.arange(len(rows)) < len(inside))),
        **{name: value for name, value in mine.items() if name != "maps"},
        "changed_over_random": ratio_of(mine),
        "maps_for_most": gone["maps"] if gone else None,
        "changed_over_random_for_most": ratio_of(gone) if gone else nan,
        "one_by_one": along,
    }
    before = generate(latents[list(drawn)[:SHOWN]])
    with without(last, order[:dropped], fill):
        after = generate(latents[list(drawn)[:SHOWN]])
    with without(last, random.permutation(len(order))[:dropped], fill):
        by_chance = generate(latents[list(drawn)[:SHOWN]])
    shown = [("original", before.cpu()), ("maps dropped", after.cpu()), ("random maps dropped", by_chance.cpu())]
    words = [f"{dropped} of {len(order)} feature maps respond more inside the boxes than elsewhere."]
    if not isnan(mine["vanished"]):
        words.append(
            f"Dropping them removes the object in {mine['vanished']:.0%} of samples ({mine['vanished_random']:.0%} for as many "
            f"random maps) and changes the rest {ratio_of(mine):.2f} times as much as dropping random maps."
        )
    sheets = {
        "dropout": sheet(
            "Object dropout",
            shown,
            legend=f"Samples of G, and the same with the selected maps of convolution {layer} from the top set to {LEVELS[fill]}.",
        )
    }
    if not isnan(mine["vanished"]):
        lines: dict[str, Line] = {
            "object vanished": (counts, [one["vanished"] for one in along]),
            "object vanished, random maps": (counts, [one["vanished_random"] for one in along]),
            "change of the rest": (counts, [one["changed"] for one in along]),
            "change of the rest, random maps": (counts, [one["changed_random"] for one in along]),
        }
        sheets["maps"] = chart("Maps dropped, by weight", lines, across="maps dropped", up="fraction, or change in [-1, 1]")
    return Finding(figures, words, sheets)


def ratio_of(effect: dict[str, float]) -> float:
    """The change of the rest relative to that for as many random maps."""
    return effect["changed"] / effect["changed_random"] if effect["changed_random"] else nan


class _Effect:
    """The effect of dropping maps on test samples."""

    def __init__(
        self, generate: Callable[..., Tensor], reader: Reader | None, layer: nn.Module, latents: Tensor, fill: str
    ) -> None:
        self.generate, self.reader, self.layer, self.latents = generate, reader, layer, latents
        self.fill = fill
        self.before = self._made()
        self.box = reader.box(self.before) if reader and reader.box else np.full((len(latents), 4), np.nan)
        self.found = ~np.isnan(self.box[:, 0])

    def _made(self) -> Tensor:
        return self.generate(self.latents).cpu()

    def of(self, maps: np.ndarray) -> dict[str, float]:
        """`found_before`, `found_after`, `vanished`, `contrast`, `changed` without these maps; NaN if objects cannot be located."""
        names = ("found_before", "found_after", "vanished", "contrast", "changed")
        if self.reader is None or self.reader.box is None or not self.found.any():
            return dict.fromkeys(names, nan)
        with without(self.layer, maps, self.fill):
            after = self._made()
        found = ~np.isnan(self.reader.box(after)[:, 0])
        height, width = after.shape[2:]
        contrasts, changes = [], []
        for i in np.flatnonzero(self.found):
            mask = inside_box(self.box[i], height, width, margin=1)
            rest = ~mask
            if not mask.any() or not rest.any():
                continue
            old, new = (pictures[i].numpy() for pictures in (self.before, after))
            contrast = [
                np.abs(one[:, mask] - np.median(one[:, rest], axis=1, keepdims=True)).mean() for one in (new, old)
            ]  # fmt: skip
            contrasts.append(contrast[0] / max(contrast[1], 1e-6))
            changes.append(np.abs(new[:, rest] - old[:, rest]).mean())
        return {
            "found_before": float(self.found.mean()),
            "found_after": float(found.mean()),
            "vanished": float((~found[self.found]).mean()),
            "contrast": float(np.median(contrasts)) if contrasts else nan,
            "changed": float(np.mean(changes)) if changes else nan,
        }


@contextmanager
def without(layer: nn.Module, maps: np.ndarray, fill: str = "zero") -> Iterator[None]:
    """Replaces the given input maps of a layer by zero or by their median in each sample."""
    chosen = torch.from_numpy(np.asarray(maps, np.int64))

    def hook(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, mine = given[0].clone(), chosen.to(given[0].device)
        middle = x[:, mine].flatten(2).median(2).values[:, :, None, None]
        x[:, mine] = middle if fill == "median" else 0 * middle
        return (x, *given[1:])

    handle = layer.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def activations(
    model: Model,
    layer: nn.Module,
    latents: Tensor,
    boxes: dict[int, list[np.ndarray]],
    generate: Callable[..., Tensor],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Input activations of a layer at positions inside the boxes, (k, maps), and at as many random positions outside."""
    random = np.random.default_rng(seed)
    inside, outside = [], []
    held: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, given: held.append(given[0]))
    try:
        for number, mine in boxes.items():
            held.clear()
            generate(latents[number : number + 1], batch=1)
            maps = held[0][0].float().cpu().numpy()
            height, width = maps.shape[1:]
            scale = np.array([width / model.spec.width, height / model.spec.height] * 2)
            mask = np.any([inside_box(box * scale, height, width) for box in mine], axis=0)
            places, others = (np.flatnonzero(one) for one in (mask, ~mask))
            if not len(places) or not len(others):
                continue
            flat = maps.reshape(len(maps), -1).T
            inside.append(flat[places])
            outside.append(flat[random.choice(others, min(len(places), len(others)), replace=False)])
    finally:
        handle.remove()
    if not inside:
        raise LeafwingError("the boxes are empty or cover the whole picture: draw boxes around the object alone")
    return np.concatenate(inside), np.concatenate(outside)


def inside_box(box: np.ndarray, height: int, width: int, margin: float = 0) -> np.ndarray:
    """Pixels whose centre is in a box (left, top, width, height) extended by a margin: bool (height, width)."""
    left, top, wide, high = box
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    across = (x >= left - margin) & (x <= left + wide + margin)
    return across[None] & ((y >= top - margin) & (y <= top + high + margin))[:, None]


def seen_boxes(generate: Callable[..., Tensor], reader: Reader | None, latents: Tensor) -> dict[int, list[np.ndarray]]:
    """The box found by a reader in each sample, by sample number."""
    assert reader is not None, "a reader sees boxes"
    assert reader.box is not None, "a reader sees boxes"
    pictures = generate(latents).cpu()
    return {i: [box] for i, box in enumerate(reader.box(pictures)) if not np.isnan(box[0])}


def read_boxes(path: Path, model: Model) -> dict[int, list[np.ndarray]]:
    """Boxes of samples from a JSON file; see `dropout`.

    Raises:
        LeafwingError: the file cannot be read, or a box is invalid or outside the picture.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        found = {}
        for number, boxes in held.items():
            several = boxes if boxes and isinstance(boxes[0], list) else [boxes]
            found[int(number)] = [np.array(box, float).reshape(4) for box in several]
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise LeafwingError(f'--boxes {path}: write {{"3": [left, top, width, height], ...}}: {error}') from None
    for number, several in found.items():
        for box in several:
            left, top, wide, high = box
            out = left < 0 or top < 0 or left + wide > model.spec.width or top + high > model.spec.height
            if number < 0 or not np.isfinite(box).all() or wide <= 0 or high <= 0 or out:
                raise LeafwingError(
                    f"--boxes {path}: box {box.tolist()} of sample {number} is not inside a picture of {model.spec.width} x "
                    f"{model.spec.height} pixels"
                )
    return found
