"""What the commands of the command line share: groups of options, and what is printed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

INTERRUPTED, UNHEALTHY = 130, 3
PICTURES, TRAINING, MACHINE, FOLDER, OUTPUT = (
    Group(name, sort_key=key)
    for name, key in (("Pictures", 1), ("Training", 3), ("Machine", 6), ("Run folder", 4), ("Output", 5))
)
Json = Annotated[
    bool, Parameter(help="One JSON document on standard output and nothing else there.", group=OUTPUT, negative="")
]
Root = Annotated[Path, Parameter(help="Folder that holds numbered run folders.", group=FOLDER)]
Devices = Annotated[int, Parameter(help="Number of processes that share the work, each with its own device.", group=MACHINE)]
Trust = Annotated[
    bool, Parameter(help="Execute the run's recipe.py although it is not an installed recipe.", group=FOLDER, negative="")
]


def speaks() -> bool:
    """Whether this is the process that prints: the only one, or the first of several."""
    return not together() or os.environ.get("RANK") == "0"


def together() -> bool:
    """Whether this process was started with others, by torchrun or by `--devices`."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def called() -> str:
    """How the user can call this command again: after `make demo` no environment is activated."""
    if shutil.which("leafwing"):
        return "leafwing"
    return sys.argv[0] if Path(sys.argv[0]).stem == "leafwing" else f"{sys.executable} -m leafwing"


def as_json(value: Any) -> str:
    """One JSON document."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def typed(words: Sequence[str]) -> dict[str, str]:
    """Each word with its value, if it has one: behind `=`, else the next word. The first of equal ones counts."""
    found: dict[str, str] = {}
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        found.setdefault(name, value if equals else after)
    return found
