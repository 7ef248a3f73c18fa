"""The table of runs in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.runs import ROOT, Run, folders, trained_last


def list_runs(root: str | Path = ROOT) -> list[dict[str, Any]]:
    """The runs in a folder, one row each.

    Returns:
        Rows with `run` (name), `recipe`, `data`, `size`, `state` (see `state_of`), `images` (shown), `of` (total), `seconds`, `losses`
        (the latest), `weights` (checkpoints, by images), `seed`, `options` (hyper-parameters), `augment` (as chosen; None for the
        recipe's default) and `is_last` (whether `last` means it); for a damaged run `run`, `is_last` and `error`.
    """
    existing = folders(root)
    last_one = trained_last(existing) if existing else None
    rows: list[dict[str, Any]] = []
    for folder in existing:
        try:
            run = Run(folder)
            last = (run.records() or [{}])[-1]
        except LeafwingError as error:
            rows.append({"run": folder.name, "is_last": folder == last_one, "error": str(error)})
            continue
        rows.append(
            {
                "run": folder.name,
                "is_last": folder == last_one,
                "recipe": run.recipe,
                "data": " + ".join(run.data.sources) if run.data.sources else Path(run.data.source).name,
                "size": "points" if run.spec.points else f"{run.spec.height}x{run.spec.width}",
                "state": state_of(run, last),
                "images": last.get("images", 0),
                "of": run.settings.schedule.images,
                "seconds": last.get("seconds", 0.0),
                "losses": last.get("losses", {}),
                "weights": list(run.weights()),
                "seed": run.settings.schedule.seed,
                "options": run.options,
                "augment": run.settings.critic.augment,
            }
        )
    return rows


def state_of(run: Run, last: Mapping[str, Any]) -> str:
    """Whether a run is `training` in some process, `finished` by its images, its time limit or --stop-on, or `stopped` before.

    Args:
        run: the run.
        last: the last record of its log; empty without any.
    """
    if files.is_locked(run.folder / ".lock"):
        return "training"
    schedule = run.settings.schedule
    # The log rounds to milliseconds, so the limit must be rounded as well.
    in_time = schedule.time is not None and last.get("seconds", 0.0) >= round(schedule.time, 3)
    images = last.get("images", 0)
    return "finished" if in_time or images >= schedule.images or 0 < images == run.history.no_improvement else "stopped"
