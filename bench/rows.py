"""Where measurements are kept: JSON lines, one a measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def keep(row: dict[str, Any], results: Path) -> None:
    """Prints a row and appends it to a file of results."""
    print(json.dumps(row), flush=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")
