"""What a training is fed: which part of its data, and which streams beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leafwing.errors import LeafwingError, StorageError
from leafwing.game import DataSpec
from leafwing.progress import Silent
from leafwing.quantities import whole

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.game import Batches
    from leafwing.loop import Training
    from leafwing.runs import Run


LARGEST_SEED = 2**32 - 1


def asked_few(labelled: Any, seed: Any) -> dict[str, int]:
    """How many samples are shown with labels in a stream of their own, and which, as `run.json` holds it; empty for none.

    Raises:
        LeafwingError: no whole number, or a seed without a number of samples.
    """
    if labelled is None:
        if seed is not None:
            raise LeafwingError(f"--labelled-seed {seed} needs --labelled: how many pictures?")
        return {}
    chosen = {"labelled": whole("labelled", labelled, 1), "labelled_seed": whole("labelled_seed", seed or 0, 0)}
    if chosen["labelled_seed"] > LARGEST_SEED:
        raise LeafwingError(f"labelled_seed {seed}: a seed is from 0 to {LARGEST_SEED}")
    return chosen


def fed(about: Mapping[str, Any], dataset: Dataset) -> tuple[Dataset, Dataset]:
    """What is trained on and what is held out of it, both with the streams of the first beside them.

    Args:
        about: the data's part of `run.json`: `held_out`, `labelled` and `labelled_seed` decide.
        dataset: all of it.

    Raises:
        LeafwingError: the data cannot be parted so.
    """
    shown, held = dataset.split(about.get("held_out", 0))
    if not about.get("labelled"):
        return shown, held
    shown = shown.label_some(about["labelled"], about.get("labelled_seed", 0))
    return shown, replace(held, spec=shown.spec, streams=shown.streams)


def unseen(run: Run, dataset: Dataset, training: Training) -> Batches | None:
    """The pictures that are kept out of a run's training; None where there are none."""
    processes = training.engine.processes
    if not run.config["data"].get("held_out", 0):
        return None
    return fed(run.config["data"], dataset)[1].batches(0, share=(processes.rank, processes.world))


def anything(height: int, width: int) -> DataSpec:
    """Pictures of this size about which everything is known that a recipe may ask for."""
    beside = ("labelled_image", "labelled_label", "labelled_attributes")
    return DataSpec(height, width, 3, ("a", "b"), ("image", "label", "attributes", *beside), ("c", "d"))


def same_data(run: Run, progress: Silent) -> Dataset:
    """The data of a run, from the cache or from its source.

    Raises:
        LeafwingError: neither is there, or the source has changed.
    """
    from leafwing import data

    about = run.config["data"]
    packed = data.load_pack(about["fingerprint"], mirror=bool(about["options"].get("mirror")))
    if packed is not None:
        return packed
    try:
        found = data.load(about["source"], **about["options"], progress=progress.packing)
    except StorageError:
        raise
    except LeafwingError as error:
        raise LeafwingError(
            f"the data of {run.folder} are not in the cache, and their source cannot be read: {error}"
        ) from None
    if found.fingerprint != about["fingerprint"]:
        raise LeafwingError(
            f"{about['source']} has changed since {run.folder} was trained on it (fingerprint {about['fingerprint'][:12]}, now "
            f"{found.fingerprint[:12]}): put the old pictures back, or train anew"
        )
    return found
