"""Training data: loading it again, leaving out the held-out part, adding second streams."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.conditions import pixel_conditions
from leafwing.errors import InvalidOption, LeafwingError, StorageError
from leafwing.fields import Box, Caption, Clip, Field, Image, Keypoints, Mask, Segmentation
from leafwing.game import DataSpec, MissingField
from leafwing.option_names import Pace
from leafwing.progress import Reporter
from leafwing.quantities import check_seed, whole
from leafwing.recipes._recommended import BATCH

if TYPE_CHECKING:
    from leafwing.config import DataConfig
    from leafwing.data import Dataset
    from leafwing.data.lacking import Accept
    from leafwing.data.locating import Origin, Place
    from leafwing.game import BatchSource, Game
    from leafwing.loop import Training
    from leafwing.recipes import Card, Value
from leafwing.runs import Run


def parse_labelled(labelled: Any, seed: Any) -> tuple[int | None, int | None]:
    """Number and random seed of the labelled images in the second stream; None, None without such a stream.

    Raises:
        LeafwingError: not a whole number, or a seed without a number of images.
    """
    if labelled is None:
        if seed is not None:
            raise InvalidOption("labelled_seed", seed, "needs --labelled, the number of images")
        return None, None
    return whole(labelled, "labelled", 1), check_seed(seed or 0, "labelled_seed")


def split_data(config: DataConfig, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The training part of a data set and its held-out part, both with the second stream if there is one.

    Args:
        config: section `data` of `run.json`; `duplicates`, `held_out`, `held_out_by`, `labelled` and `labelled_seed` matter.
        dataset: all samples.

    Raises:
        LeafwingError: there is too little data, or it lacks labels for the second stream.
    """
    used = dataset if config.duplicates is None else dataset.distinct()
    training, held_out = used.split(config.held_out, config.held_out_by)
    if not config.labelled:
        return training, held_out
    training = training.with_labelled_stream(config.labelled, config.labelled_seed or 0)
    return training, replace(held_out, spec=training.spec, streams=training.streams)


def trained_on_held_out(before: DataConfig, after: DataConfig, dataset: Dataset) -> bool:
    """Whether images on which a run was trained are held out now that its data have changed: of fewer images, others have the smallest
    hashes.

    Args:
        before, after: section `data` of `run.json`.
        dataset: all samples as they are now.

    Returns:
        True also if that cannot be told, because the old images are not in the cache or are read in another way now.
    """
    from leafwing import data

    if not after.held_out:
        return False
    old = data.load_pack(before.fingerprint)
    if old is None or before.options != after.options:
        return True

    def contents(part: Dataset) -> set[bytes]:
        rows = range(len(part.array)) if part.rows is None else part.rows.tolist()
        return {sha256(part.array[row].tobytes()).digest() for row in rows}

    return not contents(split_data(before, old)[0]).isdisjoint(contents(split_data(after, dataset)[1]))


def generates_from_pictures(card: Card, reference: str, options: Mapping[str, Value], spec: DataSpec) -> bool:
    """Whether a recipe generates images from images, masks or segmentations. The game is built if what it needs does not tell.

    Args:
        card: the recipe.
        reference: its name or file.
        options: all of its hyper-parameters.
        spec: the fields of the data, without the second stream of labelled samples.
    """
    kinds = [spec.fields[name] for name in card.needs if name != "image" and name in spec.fields]
    if any(isinstance(kind, Image | Mask | Segmentation) for kind in kinds):
        return True
    if reference == card.name and {*card.needs} <= {"image"}:  # no installed one generates images from these alone
        return False
    labelled = {f"labelled_{name}": field for name, field in spec.fields.items()}
    with suppress(LeafwingError):  # said when the training is built
        game = recipes.build(card.name, recipes.find(reference), replace(spec, fields={**spec.fields, **labelled}), options)
        return any(pixel_conditions(output, spec) for output in game.abilities.outputs[:1])
    return False


def held_out_batches(run: Run, dataset: Dataset, training: Training) -> BatchSource | None:
    """Batches of the images held out of a run's training, with the further streams of its game; None if there are none."""
    processes = training.engine.processes
    if not run.data.held_out:
        return None
    held_out = add_streams(split_data(run.data, dataset)[1], training.game)
    return held_out.batches(0, rank=processes.rank, world_size=processes.world_size)


def add_streams(data: Dataset, game: Game) -> Dataset:
    """The data with the streams of the same data that a game asks for."""
    for name in game.streams:
        data = data.with_stream(name, data)
    return data


def permissive_spec(height: int, width: int, input: str | None = None) -> DataSpec:
    """A DataSpec of this size with every field that a recipe may need.

    Args:
        height: rows, in pixels.
        width: columns, in pixels.
        input: the setting of this name; inputs may be smaller than the images.

    Raises:
        LeafwingError: images of this size do not allow such an input.
    """
    from leafwing.data.derive import DERIVED, derived_fields

    spec = DataSpec.images(height, width, 3, labels=("a", "b"), attributes=("c", "d"))
    further: dict[str, Field] = {
        "input": Image(height, width, 3),
        "clip": Clip(8, height, width, 3),
        "hole": Mask(height, width),
        "segmentation": Segmentation(height, width, ("a", "b")),
        "caption": Caption(("a", "b"), 2),
        "box": Box(),
        "keypoints": Keypoints(("a", "b")),
    }
    if input in DERIVED:
        further |= derived_fields(input, Image(height, width, 3))
    labelled = {f"labelled_{name}": field for name, field in spec.fields.items()}
    return DataSpec({**spec.fields, **further, **labelled})


def data_check(card: Card, reference: str, options: Mapping[str, Value]) -> Accept | None:
    """What a recipe needs, as `data.load` asks before it reads any image; None if it needs images only.

    Args:
        card: the recipe.
        reference: its name or file.
        options: all of its hyper-parameters.
    """
    if not {*card.needs} - {"image"}:
        return None

    def accept(spec: DataSpec) -> None:
        if {*card.needs} <= {*spec.fields} and not spec.unpaired:
            return
        try:  # a need may depend on options, so the recipe decides
            recipes.build(card.name, recipes.find(reference), spec, options)
        except MissingField as error:
            if not error.field.startswith("labelled_"):  # these come with --labelled, once the images are read
                raise
        except LeafwingError:  # the sizes in this spec mean nothing
            return

    return accept


def count_images(source: Any, values: Mapping[str, Any], recipe: str) -> int | None:
    """The number of images in one epoch of a training, as far as the names of files show; None if counting takes long.

    Args:
        source: as for `train`.
        values: settings by name, as text: input, labels, fit, hold_out and stop_on matter.
        recipe: name or file.

    Raises:
        LeafwingError: no such source or recipe, or an invalid option.
    """
    from leafwing.data import joining, pairs
    from leafwing.data.built_in import COUNTS, has_points
    from leafwing.data.labels import layout_entries
    from leafwing.data.locating import list_places, locate
    from leafwing.data.options import check_input
    from leafwing.data.split import hold_out_count

    place = locate(source)
    input = pairs.name_in(place, check_input(values.get("input")))
    needs = {*recipes.describe(recipe).needs}
    from_pictures = "input" in needs or "segmentation" in needs
    hold_out = values.get("hold_out")
    if hold_out is None:
        hold_out = "auto" if from_pictures or values.get("stop_on") else 0
    if isinstance(place, str):
        number = COUNTS.get(place, 0)
        return number - hold_out_count(hold_out, number, has_points(place), from_pictures) if number else None
    listings = list_places(place)
    if values.get("fit") == "tiles" or any(
        {".tar", ".tgz"} & {*Path(file.name).suffixes} for item in listings for file in item.files
    ):
        return None
    for option in (input, None):
        with suppress(pairs.NoInputError):
            opened, _ = joining.open_sources(listings, values.get("labels"), option)
            with opened:
                number = len(layout_entries(opened.entries))
            return number - hold_out_count(hold_out, number, False, from_pictures) if number else None
    return None


def pace_of_training(
    source: Any, recipe: str | None, values: Mapping[str, Any], options: Mapping[str, Any], old: Run | None = None
) -> Pace:
    """What epochs and steps mean in a training.

    Args:
        source: as for `train`; None if it is not known.
        recipe: name or file; None if it is to be chosen.
        values: settings by name, possibly as text.
        options: hyper-parameters, possibly as text.
        old: the run whose settings are used.
    """
    from leafwing.data.built_in import is_built_in

    name = recipe or (old.recipe if old else recipes.DEFAULT)
    chosen: dict[str, Any] = {}
    with suppress(LeafwingError):
        chosen |= recipes.describe(name).resolve({})
    if old and name == old.recipe:
        chosen |= old.options
    elif recipe is None:
        chosen["batch"] = BATCH
    chosen |= {name: int(text) for name, text in options.items() if name in ("batch", "n_critic") and str(text).isdecimal()}

    def count() -> int | None:
        try:
            return None if source is None else count_images(source, values, name)
        except LeafwingError:
            return None

    counts_files = not (isinstance(source, str) and is_built_in(source))
    return Pace(count, name, chosen.get("batch", 0), chosen.get("n_critic", 1), counts_files=counts_files)


def inherited_options(config: DataConfig, place: Place) -> dict[str, Any]:
    """The reading options of earlier data that also apply to another source: not those that belong to its own files."""
    from leafwing.data.locating import describe

    same = describe(place) == config.source
    specific = () if same else ("labels", "levels", "input_levels")
    return {
        name: value
        for name, value in config.options.items()
        if name not in specific and (name != "fields" or place == "sprites")
    }


@dataclass(frozen=True)
class Advice:
    """What a command advises where the images of a run are missing or have changed, and are not in the cache.

    Args:
        moved: how to say where they are now.
        moved_input: how to say where those of the second source are.
        changed: what to do about images that have changed.
    """

    moved: str
    moved_input: str
    changed: str


def reload_data(
    run: Run,
    progress: Reporter,
    changed: str | None = "old",
    source: Any = None,
    input: str | Path | None = None,
    advice: Advice | None = None,
) -> Dataset:
    """The data of a run, each source from the cache or else read again.

    Args:
        run: the run.
        progress: receives messages and progress.
        changed: what to do if a source has changed since: `old` uses the samples in the cache without looking; `new` uses those of the
            source; None refuses.
        source: where the images are now, if they have moved; of joined sources as many, in the same order; or images from Python.
        input: where the second source is now, if it has moved.
        advice: that of the calling command; None: that of `resume`.

    Raises:
        LeafwingError: a source has changed, or the data is not in the cache, and the source is missing.
    """
    from leafwing.data.loading import join_sources
    from leafwing.data.locating import describe, find, locate

    config = run.data
    flag = "--source " + " ".join(f"PATH-OF-{name}" for name in config.sources) if config.sources else "--source PATH"
    others = "restore them, continue with the new ones (--changed new), or start a new run"
    advice = advice or Advice(flag, "--input PATH", others)
    reload = _Reload(run, progress, changed, advice.changed)
    if input is not None and not config.parts:
        raise InvalidOption(
            "input", input, f"{run.folder} has no second source; --source PATH tells where its images are now"
        )
    origin: Origin = config.origin if source is None else _moved(run, source)
    if changed == "new" and not config.parts:
        locate(origin)  # raises
    if not config.parts:
        return reload(origin, config.options, config.fingerprint, advice.moved)
    options = {name: value for name, value in config.options.items() if name not in ("input", "input_levels")}
    image = reload(origin, options, config.parts["image"], advice.moved)
    second = {name: value for name, value in options.items() if name not in ("channels", "fields", "levels", "labels")}
    if levels := config.options.get("input_levels"):
        second["levels"] = levels
    if labels := config.parts.get("input_labels"):
        second["labels"] = labels
    other = config.options["input"] if input is None else describe(find(input))
    return join_sources(image, reload(other, second, config.parts["input"], advice.moved_input))


def _moved(run: Run, source: Any) -> Origin:
    """Where the images of a run are now, with joined sources under the same names as before.

    Raises:
        LeafwingError: not as many sources as the run has, or one that does not exist.
    """
    from leafwing.data.locating import describe, find
    from leafwing.data.memory import InMemory, as_source

    source = as_source(source)
    paths = (
        [*source.values()] if isinstance(source, Mapping) else [*source] if isinstance(source, list | tuple) else [source]
    )
    names = [*(run.data.sources or ())]
    if len(paths) != max(1, len(names)):
        raise InvalidOption(
            "source",
            " ".join(map(str, paths)),
            f"{run.folder} has {len(names) or 'one'} source{'s' * bool(names)} ({run.data.source}): give as many, in this order",
        )
    if not names and isinstance(paths[0], InMemory):
        return paths[0]
    moved = [describe(find(path)) for path in paths]
    return dict(zip(names, moved, strict=True)) if names else moved[0]


@dataclass(frozen=True)
class _Reload:
    """Reads a source of a run again; see `reload_data`."""

    run: Run
    progress: Reporter
    changed: str | None
    advice: str

    def __call__(self, origin: Origin, options: Mapping[str, Any], fingerprint: str, moved: str) -> Dataset:
        """The data of a source; `moved` is the advice on how to say where it is now."""
        from leafwing import data
        from leafwing.data.memory import PREFIX, InMemory

        joined = {name: str(path) for name, path in origin.items()} if isinstance(origin, Mapping) else {}
        source = " + ".join(joined.values()) or str(origin)
        cached = None
        if not isinstance(origin, InMemory):
            cached = data.load_pack(fingerprint, mirror=bool(options.get("mirror")))
        if cached is not None:
            cached = replace(cached, source=source, sources=joined, options={**cached.options, **options})
            if self.changed == "old":
                return cached
            changes = data.compare(origin, options, fingerprint, progress=self.progress.report_reading)
            if changes is None:
                return cached
            if not changes and self.changed is None:
                self.progress.say(f"{source}: {changes}; {self.run.folder} continues with the images as they were")
                return cached
            if self.changed is None or changes.problem:
                now = "" if changes.problem else ", or with those that are there now (--changed new)"
                raise LeafwingError(
                    f"{source} has changed since {self.run.folder} was trained on it: {changes}. Continue with the images as "
                    f"they were, which are in the cache (--changed old){now}"
                )
            self.progress.say(f"{source}: {changes}; training continues with the images that are there now")
        try:
            dataset = data.load(origin, **options, progress=self.progress.report_reading)
        except StorageError:
            raise
        except LeafwingError as error:
            raise LeafwingError(
                f"the data of {self.run.folder} is not in the cache, and its source cannot be read: {error}"
                + f"\nIf the images have moved: {moved}" * (not source.startswith(PREFIX))
            ) from None
        if dataset.fingerprint != fingerprint and self.changed != "new":
            raise LeafwingError(
                f"{source} has changed since {self.run.folder} was trained on it (fingerprint {fingerprint[:12]}, now "
                f"{dataset.fingerprint[:12]}), and the old images are not in the cache: {self.advice}"
            )
        return dataset
