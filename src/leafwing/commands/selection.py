"""What is evaluated: pictures, or a run, its metrics and checkpoints; the defaults, and what is refused because it does not suit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leafwing import optional
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.runs import ROOT, Run, folders

if TYPE_CHECKING:
    from leafwing.fields import Field
    from leafwing.game import DataSpec, Game, Output

WITHOUT_NETWORK = ("swd", "ms_ssim", "structure", "cycle", "segmenter", "modes", "leaks", "memorisation")
"""Metrics of the samples themselves, which do not depend on the feature network."""


def select_metrics(
    metrics: Sequence[str] | str | None,
    run: Run,
    outputs: Sequence[Output],
    output: Output,
    kind: Field,
    data: object = None,
    augment: str = "none",
) -> list[str]:
    """The requested metrics, or the default ones for one of the run's outputs, whose samples are of this kind.

    Raises:
        LeafwingError: no such metric, or one that does not suit the output.
    """
    from leafwing.fields import Vector
    from leafwing.metrics.targets import keeping_metrics, require_images, resembles_real

    require_images(output.field, kind, [other.field for other in outputs if other.field != output.field])
    source, points = run.data.source, isinstance(kind, Vector)
    if metrics is not None:
        names = check_metrics(metrics, points, source)
        check_output(names, outputs, output, run.spec)
        if "leaks" in names and augment == "none":
            raise LeafwingError(
                f"metric leaks has nothing to check: critics of {run.folder} saw {output.field} without changes (--augment)"
            )
        return names
    if points or world_of(source) == "stacked":
        return ["modes"]
    copies = data is None and (run.data.held_out or not resembles_real(output, run.spec))
    of_training = [*["leaks"] * (data is None and augment != "none"), *["memorisation"] * bool(copies)]
    return ["fid", "kid", *keeping_metrics(outputs, output, run.spec), "prdc", *of_training]


def augmentation_of(run: Run, game: Game, kind: Field) -> str:
    """The augmentation of what the run's critics saw, chosen or the recipe's; `none` if samples of this kind pass unchanged."""
    from leafwing.fields import Image

    return run.settings.critic.augment or game.augment if isinstance(kind, Image) else "none"


def check_metrics(metrics: Sequence[str] | str, points: bool, source: str) -> list[str]:
    """The names of metrics, without duplicates.

    Args:
        metrics: names, as a list or separated by commas.
        points: whether the samples are points.
        source: the data source.

    Raises:
        LeafwingError: no such metric, or one that does not suit the data.
    """
    from leafwing.metrics import METRICS

    items = metrics.split(",") if isinstance(metrics, str) else metrics
    names = list(dict.fromkeys(name.strip() for name in items if name.strip()))
    if not names:
        raise InvalidOption("metrics", metrics, f"choose at least one of {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise LeafwingError(f"no metric {name!r}{did_you_mean(name, list(METRICS))}")
        if points and name != "modes":
            raise LeafwingError(
                f"metric {name} needs images, and the samples of {source} are points; only modes is defined for points"
            )
        if name == "modes" and not (points or world_of(source) == "stacked"):
            raise LeafwingError(
                f"metric modes needs data with known modes (ring, grid, stacked), not {source}; for images "
                f"there are: {', '.join(other for other in METRICS if other != name)}"
            )
    return names


def require_packages(
    *, metrics: Sequence[str] = (), features: str | None = None, weights: str | Path | None = None, data: object = None
) -> None:
    """Raises LeafwingError if one of these needs a package that is not installed.

    Args:
        metrics, features, weights: as for `evaluate`.
        data: images, as for `train`.
    """
    from leafwing.data import opening

    if "ms_ssim" in metrics:
        optional.require("torchmetrics")
    if features == "lite0" and weights is None:
        optional.require(optional.LITE0)
    opening.require_packages(data)


def check_features(features: str | None, weights: str | Path | None = None, circular: bool = False) -> None:
    """Raises LeafwingError for a feature network that does not exist, and for what needs its name.

    Args:
        features, weights, circular: as for `evaluate`.
    """
    from leafwing.metrics import FEATURES, WITH_WEIGHTS

    if features is not None and features not in FEATURES:
        raise LeafwingError(f"no feature network {features!r}{did_you_mean(features, FEATURES)}")
    if features is None and (weights is not None or circular):
        name, value = ("weights", weights) if weights is not None else ("circular", circular)
        raise InvalidOption(name, value, f"name the network too: --features {' or '.join(WITH_WEIGHTS)}")


def check_output(names: Sequence[str], outputs: Sequence[Output], output: Output, spec: DataSpec) -> None:
    """Raises LeafwingError if one of these metrics does not suit an output, from what it is generated."""
    from leafwing.metrics.targets import suits

    sources = " and ".join(output.conditions) or "latents"
    needs = {
        "structure": "compares images with the images that they are generated from",
        "cycle": "needs a run that also translates its images back",
        "segmenter": "needs images that are generated from paired label maps",
    }
    for name in names:
        if name in needs and not suits(name, outputs, output, spec):
            raise LeafwingError(f"metric {name} {needs[name]}, and this {output.field} is generated from {sources}")
    if "ppl" in names and output.prior is None:
        raise LeafwingError(
            f"metric ppl takes steps in the latents, and {output.field} is generated from {sources} without latents"
        )
    if "reconstruction" in names and not suits("reconstruction", outputs, output, spec):
        raise LeafwingError(
            f"metric reconstruction compares samples with the real targets of their inputs, and {output.field} is generated from "
            f"{sources}, which {'belong' if ' and ' in sources or not output.conditions else 'belongs'} to no target"
        )


def require_classifier(features: str, spec: DataSpec) -> None:
    """Raises LeafwingError if a feature network is not a classifier."""
    if features == "inception" or (features == "own" and spec.labels):
        return
    raise LeafwingError(
        f"metric inception_score needs a classifier, and the features {features} of these data have none: use --features inception, "
        "or --features own with labelled data"
    )


def select_checkpoints(run: Run, checkpoint: int | str | None) -> list[int]:
    """The requested checkpoints, by images shown, oldest first.

    Raises:
        LeafwingError: no such checkpoint.
    """
    run.require_weights()
    existing = list(run.weights())
    if checkpoint in (None, "last", "all"):
        return existing if checkpoint == "all" else existing[-1:]
    if (images := run.resolve_checkpoint(checkpoint, "last, best, all")) is None or images in existing:
        return existing[-1:] if images is None else [images]
    raise run.no_checkpoint(images, ", or all")


def world_of(source: str) -> str:
    """The name of a built-in data set; empty for other sources."""
    from leafwing.data.built_in import BUILT_IN

    name = source.partition(":")[0]
    return name if name in BUILT_IN else ""


def are_pictures(name: str | Path, root: str | Path = ROOT) -> bool:
    """Whether the first argument of `leafwing evaluate` is a source of pictures, and not a run."""
    from leafwing.data.locating import is_source

    name = str(name)
    if os.path.exists(name):
        return not is_run(name)
    runs = {part for folder in folders(root) for part in (folder.name, folder.name.split("-")[0].lstrip("0"))}
    return name != "last" and name not in runs and is_source(name)


def is_run(source: str | Path) -> bool:
    """Whether a source is a run folder. `os.path` has an answer for every text, also where `Path.exists` raises an error."""
    return os.path.exists(os.path.join(source, "run.json"))
