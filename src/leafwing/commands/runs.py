"""A table of the runs under a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leafwing.errors import LeafwingError
from leafwing.runs import ROOT, Run, folders


def table(root: str | Path = ROOT) -> list[dict[str, Any]]:
    """The runs under a root: name, recipe, data, size, images shown and in all, seconds, last costs, whether complete."""
    found: list[dict[str, Any]] = []
    for folder in folders(root):
        try:
            opened = Run(folder)
            last = (opened.records() or [{}])[-1]
        except LeafwingError as error:
            found.append({"run": folder.name, "error": str(error)})
            continue
        config, spec = opened.config, opened.spec
        found.append(
            {
                "run": folder.name,
                "recipe": config["recipe"],
                "data": Path(config["data"]["source"]).name,
                "size": "points" if spec.points else f"{spec.height}x{spec.width}",
                "images": last.get("images", 0),
                "of": opened.settings.schedule.images,
                "seconds": last.get("seconds", 0.0),
                "costs": last.get("costs", {}),
                "weights": list(opened.weights()),
                "seed": opened.settings.schedule.seed,
            }
        )
    return found
