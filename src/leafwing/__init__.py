"""Train, evaluate and analyse GANs on your own images.

The public names. Each is loaded when it is first used, so that `import leafwing` takes no time. Functions check their arguments
before they begin (`calls`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leafwing.commands.comparison.compare import compare
    from leafwing.commands.continuing import train_or_resume
    from leafwing.commands.doctor import doctor
    from leafwing.commands.evaluate import evaluate
    from leafwing.commands.explore import explore
    from leafwing.commands.forecast import forecast
    from leafwing.commands.generated import evaluate_pictures
    from leafwing.commands.prepare import prepare
    from leafwing.commands.reel import reel
    from leafwing.commands.runs import list_runs
    from leafwing.commands.sample import sample
    from leafwing.commands.score import score
    from leafwing.commands.seeds import sample_seeds
    from leafwing.commands.show import show
    from leafwing.commands.training import resume, train
    from leafwing.commands.translate import translate
    from leafwing.commands.walk import walk
    from leafwing.drawing import to_image
    from leafwing.errors import Diverged, LeafwingError, ProcessLost, StorageError
    from leafwing.game import DataSpec, Game
    from leafwing.model import Model
    from leafwing.progress import Reporter
    from leafwing.runs import Run

__version__ = "0.1.0"
__all__ = [
    "DataSpec",
    "Diverged",
    "Game",
    "LeafwingError",
    "Model",
    "ProcessLost",
    "Reporter",
    "Run",
    "StorageError",
    "compare",
    "doctor",
    "evaluate",
    "evaluate_pictures",
    "explore",
    "forecast",
    "list_runs",
    "prepare",
    "reel",
    "resume",
    "sample",
    "sample_seeds",
    "score",
    "show",
    "to_image",
    "train",
    "train_or_resume",
    "translate",
    "walk",
]

_HOMES = {
    "DataSpec": "game",
    "Diverged": "errors",
    "Game": "game",
    "LeafwingError": "errors",
    "Model": "model",
    "ProcessLost": "errors",
    "Reporter": "progress",
    "Run": "runs",
    "StorageError": "errors",
    "compare": "commands",
    "doctor": "commands",
    "evaluate": "commands",
    "evaluate_pictures": "commands",
    "explore": "commands",
    "forecast": "commands",
    "list_runs": "commands",
    "prepare": "commands",
    "reel": "commands",
    "resume": "commands",
    "sample": "commands",
    "sample_seeds": "commands",
    "score": "commands",
    "show": "commands",
    "to_image": "drawing",
    "train": "commands",
    "train_or_resume": "commands",
    "translate": "commands",
    "walk": "commands",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'leafwing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"leafwing.{_HOMES[name]}"), name)
    if not isinstance(value, type):
        value = importlib.import_module("leafwing.calls").checked(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
