"""`leafwing runs`."""

from __future__ import annotations

from pathlib import Path

from leafwing.cli.shared import Json, Root, as_json
from leafwing.quantities import show_count, show_duration
from leafwing.tables import aligned


def command(*, root: Root = Path("runs"), json: Json = False) -> int:
    """A table of the runs."""
    from leafwing import commands

    found = commands.table(root)
    if json:
        print(as_json(found))
    elif not found:
        print(f"no runs under {root}")
    else:
        lines: list[tuple[str, ...]] = [("run", "recipe", "data", "size", "images", "time", "costs")]
        for one in found:
            if "error" in one:
                lines.append((one["run"], one["error"], "", "", "", "", ""))
                continue
            shown = f"{show_count(one['images'])}/{show_count(one['of'])}"
            costs = " ".join(f"{name}={value:.3g}" for name, value in one["costs"].items())
            lines.append((one["run"], one["recipe"], one["data"], one["size"], shown, show_duration(one["seconds"]), costs))
        print(aligned(lines))
    return 0
