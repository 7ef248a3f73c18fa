"""Training again with the settings of an earlier run: which one, what is not repeated, and whose an invalid option is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing.errors import InvalidOption
from leafwing.runs import Run
from leafwing.settings import all_settings

if TYPE_CHECKING:
    from leafwing.data import Dataset


def open_replay(path: str | Path | Run) -> Run:
    """The earlier run of `--from`, given by its folder or its `run.json`.

    Raises:
        LeafwingError: not a run.
    """
    path = Path(path)
    if not path.is_dir() and path.name != "run.json":
        raise InvalidOption("replay", path, "must be a run folder or its run.json", flag="from")
    return Run(path if path.is_dir() else path.parent)


@contextmanager
def naming_origin(replay: str | Path | Run | None, chosen: Mapping[str, Any]) -> Iterator[None]:
    """Says of an invalid option of a replayed run which the user has not set that it is as in that run.

    Args:
        replay: as for `resolve_training`.
        chosen: the settings and options that the user has set.
    """
    try:
        yield
    except InvalidOption as error:
        old = None if replay is None else open_replay(replay)
        if old is None or error.name in chosen or error.name not in {*all_settings(), *old.options}:
            raise
        reason = f"as in {old.folder}: {error.reason}"
        raise InvalidOption(error.name, error.value, reason, owner=error.owner, flag=error.flag) from None


def describe_other_data(old: Run, dataset: Dataset) -> str:
    """Says that these are not the data of a replayed run, and how they differ."""
    from leafwing import data

    if dataset.source != old.data.source or dataset.options != old.data.options or old.data.parts:
        why = f"{len(dataset):,} samples of {dataset.source} instead of {old.data.samples:,} of {old.data.source}"
    else:
        why = str(data.compare(dataset.origin, dataset.options, old.data.fingerprint) or "they were read in another way")
    return f"not the data of {old.folder}: {why}; the weights will differ"


def not_repeated(old: Run) -> list[str]:
    """What happened in a training that its replay does not repeat."""
    history, texts = old.history, []
    if history.rolled_back:
        points = ", ".join(f"{entry['to']:,}" for entry in history.rolled_back)
        texts.append(f"{old.folder} rolled back to {points} images, which is not repeated; the weights will differ")
    if history.data_changes:
        points = ", ".join(f"{change.images:,}" for change in history.data_changes)
        texts.append(f"the data of {old.folder} changed at {points} images, which is not repeated; the weights will differ")
    if history.planned:
        texts.append(
            f"{old.folder} was planned with {history.planned:,} images, which is not repeated; if its schedules follow the length of "
            "training, as the probability of --augment ada does, the weights will differ"
        )
    return texts
