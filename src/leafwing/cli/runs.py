"""`leafwing runs`."""

from __future__ import annotations

from pathlib import Path

from leafwing.cli.shared import Json, Root, as_json
from leafwing.progress import by_player
from leafwing.quantities import show_count, show_duration
from leafwing.tables import align_columns


def command(*, root: Root = Path("runs"), json: Json = False) -> int:
    """List the runs in a table."""
    from leafwing import commands
    from leafwing.runs import no_runs

    runs = commands.list_runs(root)
    if json:
        print(as_json(runs))
    elif not runs:
        print(no_runs(root))
    else:
        rows: list[tuple[str, ...]] = [("run", "recipe", "data", "size", "state", "images", "time", "losses")]
        for run in runs:
            if "error" in run:
                rows.append((run["run"], "(damaged)", "", "", "", "", "", ""))
                continue
            images = f"{show_count(run['images'])}/{show_count(run['of'])}"
            losses = "  ".join(f"{player} {value:.3g}" for player, value in by_player(run["losses"]).items())
            state = run["state"]
            if state == "stopped":
                state += f": {min(0.99, run['images'] / run['of']):.0%}"
            about = (run["run"], run["recipe"], run["data"], run["size"], state, images)
            rows.append((*about, show_duration(run["seconds"]), losses))
        print(align_columns(rows))
        for run in runs:
            if "error" in run:
                print(run["error"])
        print(f"last means {next(run['run'] for run in runs if run['is_last'])}, which was trained last")
    return 0
