"""Explore a run: a tool of the laboratory is given what it needs, and what it finds is written into the run's `explore` folder."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.errors import LeafwingError, did_you_mean
from leafwing.progress import Silent
from leafwing.runs import LABORATORY, ROOT, Run

if TYPE_CHECKING:
    from leafwing.commands.evaluate import Sides
    from leafwing.data import Dataset
    from leafwing.laboratory.finding import Finding
    from leafwing.laboratory.reading import Reader
    from leafwing.metrics.features import Features
    from leafwing.model import Model
    from leafwing.progress import Progress


@dataclass(frozen=True)
class Explored:
    """What a tool found, and where it lies.

    Args:
        folder: holds `figures.json`, and a file for each sheet, film and array.
        document: `figures.json`: tool, run, images, weights_hash, options, figures, words.
        written: all files.
    """

    folder: Path
    document: Mapping[str, Any]
    written: tuple[Path, ...]


def explore(
    run: str | Path,
    tool: str,
    *,
    checkpoint: int | str | None = None,
    data: str | Path | None = None,
    features: str = "own",
    out: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Silent | None = None,
    **options: Any,
) -> Explored:
    """Look into a run with a tool of the laboratory.

    Args:
        run: folder, name, number or `last`.
        tool: a key of `leafwing.laboratory.TOOLS`.
        checkpoint: images shown, `last` (None) or `best`.
        data: other pictures for the tools that look at real ones, read with the run's size and channels.
        features: the feature network of `leafwing.metrics.features.FEATURES` in which pictures are compared.
        out: a folder, which must not exist. None: under the run's `explore` folder, named after the checkpoint, the tool and the
            options; what the same call wrote there before is written anew, and is the same.
        device: auto, cpu, cuda or mps.
        trust: execute the folder's `recipe.py` although it is no installed recipe.
        root: where numbered run folders lie.
        progress: who is told; None for nobody.
        **options: the tool's own.

    Raises:
        LeafwingError: bad input, or the run lacks an ability that the tool needs; nothing was written.
    """
    import torch

    from leafwing import laboratory
    from leafwing.engine import choose, keep_freed_memory
    from leafwing.laboratory.finding import plain
    from leafwing.metrics.features import FEATURES
    from leafwing.model import Model

    function = laboratory.tool(tool)
    known = inspect.signature(function).parameters
    own = [name for name in known if name not in laboratory.FILLED][1:]
    for name in options:
        if name not in own:
            raise LeafwingError(f"{tool} has no option {name!r}{did_you_mean(name, own)}")
    if features not in FEATURES:
        raise LeafwingError(f"no feature network {features!r}{did_you_mean(features, list(FEATURES))}")
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root, trust=trust)
    shown = opened.shown(checkpoint)
    heard = progress or Silent()
    keep_freed_memory()
    model = Model.load(
        opened, checkpoint=shown, device=choose(device, "fp32", torch.get_num_threads()).device, say=heard.say
    )
    given = Given(opened, model, data, features, heard)
    filled = {name: getattr(given, name) for name in laboratory.FILLED if name in known}
    finding = function(model, **filled, **options)
    resolved = {name: options.get(name, known[name].default) for name in own}
    about = resolved | {"data": data, "features": features}
    target = (
        Path(out) if out is not None else opened.folder / LABORATORY / folder_name(model.images or 0, tool, function, about)
    )
    with opened.weights()[model.images or 0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    document = {
        "tool": tool,
        "run": opened.name,
        "images": model.images,
        "weights_hash": digest,
        "options": {
            name: value if isinstance(value, int | float | str | None) else str(value) for name, value in about.items()
        },
        "figures": plain(finding.figures),
        "words": list(finding.words),
    }
    return Explored(target, document, tuple(written(finding, document, target)))


class Given:
    """What tools may be given beside the model: each is read, trained or loaded when a tool first has a parameter of its name."""

    def __init__(self, run: Run, model: Model, source: str | Path | None, space: str, heard: Silent) -> None:
        self.run, self.model, self.source, self.space, self.heard = run, model, source, space, heard

    @cached_property
    def _sides(self) -> Sides:
        from leafwing.commands.evaluate import reference

        return reference(self.run, self.source, self.heard)

    @cached_property
    def data(self) -> Dataset:
        return self._sides.parts()[0] if self.source is None else self._sides.real

    @cached_property
    def held(self) -> Dataset:
        return self._sides.real

    @cached_property
    def features(self) -> Features:
        return self._features(self.space)

    def _features(self, space: str) -> Features:
        """A feature network that is loaded, or trained, when it first sees pictures: what a tool refuses need not wait for that."""
        import torch

        from leafwing.metrics.features import Features, load_features

        @cache
        @torch.enable_grad()  # whoever compares pictures wants no gradients; who trains the network does
        def loaded() -> Features:
            device, report_progress = str(self.model.device), self.heard.report_progress
            if space == "pixels":
                return load_features(space, None, device=device)
            try:
                trained = self._sides.parts()[0]
            except LeafwingError as error:
                raise LeafwingError(f"{error}. --features pixels compares pictures without them") from None
            return load_features(space, trained, device=device, report_progress=report_progress)

        return Features(space, "", lambda pictures: loaded().net(pictures), str(self.model.device))

    @cached_property
    def reader(self) -> Reader | None:
        from leafwing.commands.evaluate import world_of
        from leafwing.laboratory import reading

        if world_of(self.run.config["data"]["source"]) == "sprites":
            return reading.oracle()
        return reading.classifier(self._features("own"), self.run.spec.labels) if self.run.spec.labels else None

    @property
    def report_progress(self) -> Progress:
        return self.heard.report_progress


def folder_name(images: int, tool: str, function: Callable[..., Finding], about: Mapping[str, Any]) -> str:
    """`000200000-interpolate-seed0`, with a hash behind it where options are not the defaults."""
    defaults = {name: one.default for name, one in inspect.signature(function).parameters.items()} | {
        "data": None,
        "features": "own",
    }
    other = {name: str(value) for name, value in about.items() if value != defaults[name] and name != "seed"}
    digest = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()[:8]
    return f"{images:09d}-{tool}-seed{about.get('seed', 0)}" + (f"-{digest}" if other else "")


def written(finding: Finding, document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes what was found, the figures last; the files."""
    import numpy as np

    from leafwing.laboratory.sheet import webp
    from leafwing.pictures import png

    content: dict[str, Any] = {f"{name}.png": png(image) for name, image in finding.sheets.items()}
    content |= {f"{name}.webp": webp(frames) for name, frames in finding.films.items()}
    content |= {f"{name}.npy": lambda path, array=array: saved(path, array) for name, array in finding.arrays.items()}
    content["figures.json"] = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with files.storage(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)

    def saved(path: Path, array: np.ndarray) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    for name, held in content.items():
        files.write(folder / name, held)
    return [folder / name for name in content]
