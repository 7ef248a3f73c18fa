"""Explore a run: supplies a laboratory tool with its inputs, and writes its findings into the run's `explore` folder."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from leafwing import files, notebook, optional
from leafwing.calls import convert
from leafwing.commands.first_checks import check_run
from leafwing.commands.selection import check_features, require_packages
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.option_names import in_python
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import real
from leafwing.runs import LABORATORY, ROOT, Run

if TYPE_CHECKING:
    from leafwing.commands.real_data import RealData
    from leafwing.data import Dataset
    from leafwing.laboratory.finding import Finding
    from leafwing.laboratory.reading import Reader
    from leafwing.metrics.features import Features
    from leafwing.model import Model
    from leafwing.progress import ProgressCallback


@dataclass(frozen=True)
class Exploration:
    """The findings of a tool, and the files in which they are stored.

    Args:
        folder: folder with `figures.json` and a file for each image grid, animation and array.
        document: the content of `figures.json`: tool, run, images, weights_hash, options, figures, words.
        files: all files.
    """

    folder: Path
    document: Mapping[str, Any]
    files: tuple[Path, ...]
    _absolute: list[Path] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_absolute", [path.absolute() for path in self.files])  # the current folder may change

    def _repr_html_(self) -> str:
        sheets = [path.read_bytes() for path in self._absolute if path.suffix == ".png" and path.is_file()]
        return "".join(map(notebook.picture, sheets)) + notebook.lines([*self.document["words"], str(self.folder)])


def explore(
    run: str | Path | Run,
    tool: str,
    *,
    checkpoint: int | str | None = None,
    data: str | Path | None = None,
    features: str = "own",
    label: str | int | None = None,
    conditions: Sequence[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
    **options: Any,
) -> Exploration:
    """Analyse a run with a tool of the laboratory.

    Args:
        run: the run, its folder, name or number, or `last`.
        tool: a key of `leafwing.laboratory.TOOLS`.
        checkpoint: images shown, `last` (None) or `best`.
        data: real images to use instead of the run's data set, read with the run's size and channels.
        features: feature network in which images are compared; a key of `leafwing.metrics.FEATURES`.
        label: class of all samples, by name or index: short for `conditions={"label": ...}`.
        conditions: conditions of all samples by name, attributes by their own names: `{"smiling": 1, "caption": "a red star"}`, or
            texts such as `smiling=1`. What is not specified follows the samples, or the real images that a tool works on.
        out: a folder, which must not exist. None: under the run's `explore` folder, named after the checkpoint, the tool and the
            options; files of an earlier call with the same arguments are overwritten, with the same content.
        device: auto, cpu, cuda or mps.
        trust: execute the run's `recipe.py` even if it is not an installed recipe.
        root: folder that contains the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        **options: options of the tool; where the command line takes several values with commas between them, also a list.

    Raises:
        LeafwingError: invalid input, or the run lacks something that the tool needs; nothing was written.
    """
    from leafwing import films, laboratory
    from leafwing.data.locating import find

    check_features(features)
    if data is not None:
        find(data)
    check_run(run, root, checkpoint=checkpoint, label=label, conditions=conditions, out=out)
    if tool in laboratory.WITH_CHARTS:
        optional.require("matplotlib")
    if options.get("animation") == "mp4":
        films.require(Path("animation.mp4"))
    require_packages(features=features, data=data)
    import torch

    from leafwing.conditions import read_settings
    from leafwing.engine import choose, isolated, keep_freed_memory
    from leafwing.laboratory.finding import plain
    from leafwing.laboratory.needs import check_needs
    from leafwing.model import Model

    function = laboratory.tool(tool)
    parameters = inspect.signature(function).parameters
    names = [name for name in parameters if name not in laboratory.INPUTS][1:]
    for name in options:
        if name not in names:
            instead = in_python("explore", name)
            raise LeafwingError(
                f"{tool} has no option {name!r}" + (f": {instead}" if instead else did_you_mean(name, names))
            )
    options = read_options(function, options)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root, trust=trust)
    images = opened.resolve_checkpoint(checkpoint)
    progress = reporter_of(progress)
    keep_freed_memory()
    model = Model.load(
        opened, checkpoint=images, device=choose(device, "fp32", torch.get_num_threads()).device, notify=progress.say
    )
    weights_hash = files.digest(opened.require_weights(model.images))[:16]  # now, as training may remove the file
    check_needs(function, model)
    resolved = {name: options.get(name, parameters[name].default) for name in names}
    named = read_settings(conditions, model.output, model.spec)
    inputs = Inputs(opened, model, data, features, read_settings(named, model.output, model.spec, label), progress)
    model.conditions(1, **inputs.conditions)  # raises for an invalid value

    def arguments(function: Callable[..., Any]) -> dict[str, Any]:
        """The arguments of a function after the model: options, and inputs, which are loaded here."""
        names = list(inspect.signature(function).parameters)[1:]
        return {name: resolved[name] if name in resolved else getattr(inputs, name) for name in names}

    if check := laboratory.option_check(tool):
        check(model, **arguments(check))
    with isolated():  # some tools seed the generators of all devices
        finding = function(model, **arguments(function))
    settings = resolved | {"data": data, "features": features, "label": label, "conditions": named}
    target = (
        Path(out)
        if out is not None
        else opened.folder / LABORATORY / folder_name(model.images or 0, tool, function, settings)
    )
    document = {
        "tool": tool,
        "run": opened.name,
        "images": model.images,
        "weights_hash": weights_hash,
        "options": plain_options(settings),
        "figures": plain(finding.figures),
        "words": list(finding.words),
    }
    return Exploration(target, document, tuple(write(finding, document, target, progress)))


def read_options(tool: Callable[..., Finding], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a tool takes them, from what the command line has read and from what users of Python write.

    Lists become the texts with commas that a command line has, numbers that are texts become numbers, and names of files paths.

    Raises:
        LeafwingError: a value of another kind, or none of the values that an option has.
    """
    result = {}
    for name, hint in get_type_hints(tool).items():
        if name not in options:
            continue
        value, kinds = options[name], get_args(hint) or (hint,)
        texts = [text for kind in (hint, *kinds) if get_origin(kind) is Literal for text in get_args(kind)]
        if str in kinds and isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        value = convert(tool, name, value, hint)
        if Path in kinds and isinstance(value, str) and value not in texts:
            value = Path(value)
        elif texts and isinstance(value, str) and value not in texts:
            raise InvalidOption(name, value, f"choose from {', '.join(texts)}")
        elif hint in (int, float):
            value = _number(name, value, hint)
        result[name] = value
    return result


def _number(name: str, value: Any, kind: type) -> Any:
    """A number of a type.

    Raises:
        InvalidOption: not a number, or not a whole one.
    """
    try:
        number = real(value)
    except ValueError as error:
        raise InvalidOption(name, value, str(error)) from None
    if kind is int and not number.is_integer():
        raise InvalidOption(name, value, "must be a whole number")
    return kind(number)


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as plain JSON; paths and other objects as text."""
    return {
        name: plain_options(value)
        if isinstance(value, Mapping)
        else value
        if isinstance(value, int | float | str | None)
        else str(value)
        for name, value in options.items()
    }


class Inputs:
    """The inputs of tools besides the model; each is read, trained or loaded on first use. See `leafwing.laboratory.INPUTS`."""

    def __init__(
        self,
        run: Run,
        model: Model,
        source: str | Path | None,
        feature_space: str,
        settings: Mapping[str, Any],
        progress: Reporter,
    ) -> None:
        self.run, self.model, self.source, self.feature_space, self.progress = run, model, source, feature_space, progress
        self.settings = settings

    @cached_property
    def _real_data(self) -> RealData:
        from leafwing.commands.real_data import load_real_data

        return load_real_data(self.run, self.source, self.progress, instead="")

    @cached_property
    def _parts(self) -> tuple[Dataset, Dataset]:
        """The training images, and those that a tool may call unseen; the former again if there are none."""
        from leafwing.commands.feeding import split_data

        real = self._real_data
        if real.split == "all":  # --data names all images of the run
            return split_data(replace(self.run.data, labelled=None), real.real)
        return (real.splits()[0] if self.source is None or real.split == "other" else real.real), real.real

    @property
    def data(self) -> Dataset:
        return self._parts[0]

    @property
    def labelled(self) -> Dataset:
        return self.held_out if self._real_data.split == "other" else self.data

    @property
    def held_out(self) -> Dataset:
        return self._parts[1]

    @cached_property
    def conditions(self) -> dict[str, Any]:
        from leafwing.conditions import from_settings

        return from_settings(self.model.output, self.model.spec, self.settings)

    @cached_property
    def features(self) -> Features:
        return self._features(self.feature_space)

    def _features(self, feature_space: str) -> Features:
        """A feature network that is loaded or trained on the first call, after the tool has checked its options."""
        import torch

        from leafwing.metrics.features import Features, load_features

        @cache
        @torch.enable_grad()  # the caller may have disabled gradients, which training the network needs
        def load() -> Features:
            device, report_progress = str(self.model.device), self.progress.report_progress
            if feature_space == "pixels":
                return load_features(feature_space, None, device=device)
            try:
                data = self._real_data.splits()[0]
            except LeafwingError as error:
                raise LeafwingError(f"{error}. --features pixels compares images without them") from None
            return load_features(feature_space, data, device=device, report_progress=report_progress)

        return Features(feature_space, "", lambda images: load().net(images), str(self.model.device))

    @cached_property
    def reader(self) -> Reader | None:
        from leafwing.commands.selection import world_of
        from leafwing.laboratory import reading

        if world_of(self.run.data.source) == "sprites":
            return reading.oracle()
        return reading.classifier(self._features("own"), self.run.spec.labels) if self.run.spec.labels else None

    @property
    def report_progress(self) -> ProgressCallback:
        return self.progress.report_progress


def folder_name(images: int, tool: str, function: Callable[..., Finding], settings: Mapping[str, Any]) -> str:
    """`000200000-interpolate-seed0`, with a hash of the other options if they are not the defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()} | {
        "data": None,
        "features": "own",
        "label": None,
        "conditions": {},
    }
    changed = {name: str(value) for name, value in settings.items() if value != defaults[name] and name != "seed"}
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
    return f"{images:09d}-{tool}-seed{settings.get('seed', 0)}" + (f"-{digest}" if changed else "")


def write(finding: Finding, document: Mapping[str, Any], folder: Path, progress: Reporter) -> list[Path]:
    """Writes findings, `figures.json` last. Returns the files."""
    import numpy as np

    from leafwing import films
    from leafwing.pictures import png

    def save(path: Path, array: np.ndarray) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    contents: dict[str, Any] = {f"{name}.png": png(image) for name, image in finding.sheets.items()}
    contents |= {f"{name}.npy": lambda path, array=array: save(path, array) for name, array in finding.arrays.items()}
    contents["figures.json"] = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with files.storage(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, animation in finding.animations.items():
        paths.append(folder / f"{name}.{animation.kind}")
        for note in filter(None, (films.write(paths[-1], animation, animation.step), animation.note)):
            progress.say(f"{paths[-1]}: {note}")
    for name, content in contents.items():
        files.write(folder / name, content)
    return [*paths, *(folder / name for name in contents)]
