"""What commands check first, without torch, whose import takes seconds: the names, paths and values in a command line or a call.

They are refused at once here, in the same words as later, where each of them is used. What only networks or images can show is
checked there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import optional, recipes
from leafwing.commands.feeding import pace_of_training
from leafwing.commands.plan import check_schedule, check_watching
from leafwing.commands.recommend import check_any
from leafwing.commands.replaying import open_replay
from leafwing.commands.selection import require_packages
from leafwing.commands.transfer import parse_freeze
from leafwing.errors import InvalidOption, LeafwingError, nearest
from leafwing.fields import Attributes, Label
from leafwing.game import DataSpec, Output
from leafwing.option_names import refuse
from leafwing.recipes._recommended import RECIPES
from leafwing.runs import Run
from leafwing.settings import ARGUMENT_HELP, Settings, all_settings, replace_fields

if TYPE_CHECKING:
    from leafwing.data.locating import Place


def check_training(
    source: Any,
    recipe: str | None,
    values: Mapping[str, Any],
    options: Mapping[str, Any],
    replay: str | Path | Run | None = None,
) -> None:
    """Checks the arguments of a training, apart from what networks, images and this machine decide.

    Args:
        source, recipe, values, options, replay: as for `plan.resolve_training`.

    Raises:
        LeafwingError: no such source, recipe, option or run, or an invalid value.
    """
    old = open_replay(replay) if replay else None
    origin = old.data.origin if old and source is None else source
    if origin is not None:
        check_source(origin, values)
    if values.get("freeze") is not None:
        parse_freeze(values["freeze"])
    name = old.recipe if old and recipe is None and old.recipe_is_installed() else recipe
    if name is not None or old is None:
        _refuse_other_names(origin, name, values, options, old)
    if recipe is not None:
        check_recipe(recipe, options)
    elif old is None:
        check_any(options)
    settings = old.settings if old else Settings()
    check_schedule(replace_fields(settings.schedule, values), values)
    check_watching(replace_fields(settings.watching, values), values)


def check_source(source: Any, values: Mapping[str, Any]) -> Place:
    """Where the images of a source are, after checks of how they are to be read, which read none of them.

    Args:
        source: as for `train`.
        values: settings by name, converted.

    Raises:
        LeafwingError: no such source, one that needs a package that is not installed, a run, or an invalid or unsuitable value.
    """
    from leafwing.data.loading import check_built_in, check_fields
    from leafwing.data.locating import locate

    place = locate(source)
    require_packages(data=place)
    refuse_run(place)
    check_built_in(place, reading_options(values))
    check_fields(place, values.get("fields"))
    _check_listing(place, values)
    return place


def refuse_run(place: Place) -> None:
    """Raises LeafwingError if a run folder, or its folder of progress sheets, was given as a source of images."""
    if isinstance(place, Path) and place.resolve().name == "samples" and (place / ".." / "run.json").is_file():
        run = place.parent if place.name == "samples" else place.resolve().parent
        raise LeafwingError(
            f"{place} contains the progress sheets of a run, which show many samples each; for single samples: `leafwing sample "
            f"{shlex.quote(str(run))} --folder`"
        )
    if isinstance(place, Path) and (place / "run.json").is_file():
        folder = shlex.quote(str(place))
        raise LeafwingError(
            f"{place} is a run, not a source of images: `leafwing sample {folder}` shows what it generates, `leafwing resume {folder} "
            f"--images +100k` continues it, `leafwing train SOURCE --start {folder}` begins with its weights"
        )


def check_recipe(recipe: str, options: Mapping[str, Any]) -> None:
    """Raises LeafwingError for an invalid option of a recipe, or one that names a network whose package is not installed."""
    if "lite0" in recipes.describe(recipe).resolve(options).values():
        optional.require(optional.LITE0)


def _refuse_other_names(
    source: Any, recipe: str | None, values: Mapping[str, Any], options: Mapping[str, Any], old: Run | None
) -> None:
    """Raises LeafwingError for an option of `train` that has another name here, or nearly the name of a setting."""
    known = settings = ARGUMENT_HELP | {name: setting.help for name, setting in all_settings().items()}
    for name in RECIPES if recipe is None else (recipe,):
        known = known | {option.name: option.help for option in recipes.describe(name).options}
    refuse("train", options, known, pace_of_training(source, recipe, values, options, old))
    for name in options:
        if name not in known and (near := nearest(name, known)) in settings:
            raise LeafwingError(f"train has no option {name!r}; did you mean {near}?")


def reading_options(values: Mapping[str, Any]) -> Any:
    """The options of `data.load` among settings, checked.

    Raises:
        LeafwingError: an invalid value.
    """
    from leafwing.data.options import check

    names = ("size", "channels", "fit", "background", "crop_from", "bits", "levels", "input_levels", "labels")
    chosen = {name: values[name] for name in names if values.get(name) is not None}
    return check(**{"size": None, "channels": None, "fit": "crop", "background": "white", **chosen})


def _check_listing(place: Place, values: Mapping[str, Any]) -> None:
    """Opens a source that may be refused: a file that is no archive or data, a folder without what `labels` or `input` names."""
    from leafwing.data import joining, opening, sources
    from leafwing.data.derive import DERIVED
    from leafwing.data.labels import CHOICES
    from leafwing.data.locating import is_source, list_places
    from leafwing.data.pictures import HALVES

    labels, input = values.get("labels"), values.get("input")
    if not isinstance(place, Path):
        return
    if not place.is_dir():
        if not opening.has_known_suffix(place):
            opening.open_source(place, *sources.list_files(place)).close()
        return
    is_unclear = input is not None and not (
        input in (*HALVES, *DERIVED) or (place / str(input)).exists() or is_source(str(input))
    )
    if is_unclear or (labels not in (None, *CHOICES) and not (place / str(labels)).is_file()):
        source, _ = joining.open_sources(list_places(place), labels, str(input) if is_unclear else None)
        source.close()


def check_run(
    run: str | Path | Run,
    root: str | Path,
    *,
    checkpoint: int | str | None = None,
    label: str | int | None = None,
    conditions: Sequence[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
) -> None:
    """Checks the arguments that name something of a run.

    Args:
        run: folder, name, number or `last`.
        root: folder of the numbered run folders.
        checkpoint, label, conditions: as for `sample`.
        out: an output path, which must not exist.

    Raises:
        LeafwingError: no such run, checkpoint, condition, class or attribute, or the output exists.
    """
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root)
    opened.require_weights(opened.resolve_checkpoint(checkpoint))
    if (label is not None or conditions) and (names := opened.config.get("conditions")) is not None:
        _check_conditions(opened.spec, names, label, conditions)


def require_folder(out: str | Path) -> None:
    """Raises LeafwingError if the folder of a file that is to be written does not exist."""
    if not os.path.isdir(folder := Path(out).parent):
        raise InvalidOption("out", out, f"the folder {folder} does not exist")


def _check_conditions(
    spec: DataSpec, names: Sequence[str], label: str | int | None, conditions: Sequence[str] | Mapping[str, Any]
) -> None:
    """Checks conditions against those that any output of a run takes; `resolve` checks them for one output."""
    from leafwing.conditions import from_settings, read_settings

    any_output = Output("image", lambda nets, inputs, clock: inputs.latent, conditions=tuple(names))
    values = from_settings(any_output, spec, read_settings(conditions, any_output, spec, label))
    kind = spec.fields.get("label")
    chosen = values.get("label", "all")
    if isinstance(kind, Label) and isinstance(chosen, str | int) and chosen != "all":  # not one for each sample
        kind.index(chosen)
    attributes = spec.fields.get("attributes")
    if isinstance(attributes, Attributes) and isinstance(values.get("attributes"), Mapping):
        attributes.columns(values["attributes"])


def is_source(text: str) -> bool:
    """Whether this is a source for `train`."""
    from leafwing.data import locating

    return locating.is_source(text)
