"""Run folders with settings and a recipe, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leafwing import recipes
from leafwing.game import DataSpec
from leafwing.runs import Run

SPEC = DataSpec.images(16, 16, 3, labels=("ant", "bee"))
OPTIONS = recipes.describe("dcgan").resolve({"latent": 4, "width": 4, "max_width": 8})


def config(recipe: str = "dcgan", source: str = "/pictures/My Cats (2).zip", **changes: Any) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "options": dict(OPTIONS),
        "data": {
            "source": source,
            "options": {},
            "fingerprint": "f" * 64,
            "samples": 9,
            "rejected": 0,
            "spec": SPEC.as_dict(),
        },
        "schedule": {"images": 1000, "seed": 0, "time": None},
        "watching": {},
        "folder": {},
        "machine": {},
        "versions": {},
        "conditions": [],
        **changes,
    }


def create(folder: Path | None = None, *, root: Path | str = "runs", **changes: Any) -> Run:
    return Run.create(config(**changes), recipes.locate("dcgan"), out=folder, root=root)


def untrained(folder: Path, recipe: str, options: dict[str, Any], spec: DataSpec) -> Run:
    """A run with a checkpoint at 128 images, whose weights are random."""
    settings = config(recipe, options=dict(recipes.describe(recipe).resolve(options)))
    settings["data"]["spec"] = spec.as_dict()
    run = Run.create(settings, recipes.locate(recipe), out=folder)
    game = run.build_game()
    run.config["conditions"] = [name for output in game.abilities.outputs for name in output.conditions]
    run.update()
    run.save_checkpoint(game, {"images": 128}, last=1, milestone=0)
    return run
