"""Training data: loading it again, leaving out the held-out part, adding second streams."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leafwing.errors import LeafwingError, StorageError
from leafwing.fields import Box, Caption, Clip, Field, Image, Keypoints, Mask, Segmentation
from leafwing.game import DataSpec
from leafwing.progress import Reporter
from leafwing.quantities import check_seed, whole

if TYPE_CHECKING:
    from leafwing.config import DataConfig
    from leafwing.data import Dataset
    from leafwing.game import BatchSource
    from leafwing.loop import Training
from leafwing.runs import Run


def parse_labelled(labelled: Any, seed: Any) -> tuple[int | None, int | None]:
    """Number and random seed of the labelled images in the second stream; None, None without such a stream.

    Raises:
        LeafwingError: not a whole number, or a seed without a number of images.
    """
    if labelled is None:
        if seed is not None:
            raise LeafwingError(f"--labelled-seed {seed} needs --labelled, the number of images")
        return None, None
    return whole(labelled, "--labelled", 1), check_seed(seed or 0, "--labelled-seed")


def split_data(config: DataConfig, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The training part of a data set and its held-out part, both with the second stream if there is one.

    Args:
        config: section `data` of `run.json`; `held_out`, `labelled` and `labelled_seed` matter.
        dataset: all samples.

    Raises:
        LeafwingError: there is too little data, or it lacks labels for the second stream.
    """
    training, held_out = dataset.split(config.held_out)
    if not config.labelled:
        return training, held_out
    training = training.with_labelled_stream(config.labelled, config.labelled_seed or 0)
    return training, replace(held_out, spec=training.spec, streams=training.streams)


def held_out_batches(run: Run, dataset: Dataset, training: Training) -> BatchSource | None:
    """Batches of the images held out of a run's training; None if there are none."""
    processes = training.engine.processes
    if not run.data.held_out:
        return None
    return split_data(run.data, dataset)[1].batches(0, rank=processes.rank, world_size=processes.world_size)


def permissive_spec(height: int, width: int) -> DataSpec:
    """A DataSpec of this size with every field that a recipe may need."""
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
    labelled = {f"labelled_{name}": field for name, field in spec.fields.items()}
    return DataSpec({**spec.fields, **further, **labelled})


def reload_data(run: Run, progress: Reporter) -> Dataset:
    """The data of a run, from the cache or from its source.

    Raises:
        LeafwingError: the data is not in the cache, and the source is missing or has changed.
    """
    from leafwing import data

    config = run.data
    cached = data.load_pack(config.fingerprint, mirror=bool(config.options.get("mirror")))
    if cached is not None:
        return cached
    try:
        dataset = data.load(config.source, **config.options, progress=progress.report_reading)
    except StorageError:
        raise
    except LeafwingError as error:
        raise LeafwingError(
            f"the data of {run.folder} is not in the cache, and its source cannot be read: {error}"
        ) from None
    if dataset.fingerprint != config.fingerprint:
        raise LeafwingError(
            f"{config.source} has changed since {run.folder} was trained on it (fingerprint {config.fingerprint[:12]}, now "
            f"{dataset.fingerprint[:12]}): restore the old images, or start a new run"
        )
    return dataset
